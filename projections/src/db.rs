//! The database: PostgreSQL or SQLite behind one face.
//!
//! Both dialects take `$1` placeholders, upserts, `RETURNING` and `->>`, so that a query is one
//! text. Values travel as [`Arg`]s; times are microseconds in `BIGINT`, and sets of rows are JSON
//! arrays that [`Dialect::each`] unfolds.

use sqlx::postgres::{PgArguments, PgConnectOptions, PgPoolOptions, PgRow};
use sqlx::query::Query;
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
    SqliteSynchronous,
};
use sqlx::{
    ConnectOptions, Connection, Executor, FromRow, PgConnection, PgPool, SqliteConnection,
    SqlitePool,
};
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How long a reader waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long `SQLite` waits for another connection's write to end.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What a pool is for: what must not wait has connections of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Lists and look-ups that people ask for: they may take a while, and queue behind each other.
    Queries,
    /// What the server itself lives on: following the log, loading aggregates, keys, leases.
    Vital,
}

impl Purpose {
    /// Connections at once. `PostgreSQL` takes 100 by default, and nodes share them.
    fn connections(self) -> u32 {
        match self {
            Self::Queries => 8,
            Self::Vital => 6,
        }
    }

    /// How long a statement may take. `PostgreSQL` ends it; whoever waits for it stops waiting a
    /// little later, for a server that is gone ends nothing.
    fn patience(self) -> Duration {
        match self {
            Self::Queries => Duration::from_secs(10),
            Self::Vital => Duration::from_secs(5),
        }
    }
}

/// Who writes to a `SQLite` file: one at a time, in the order of asking. (`SQLite`'s own waiting is
/// not fair: a busy log writer would starve all others.)
type Turns = Arc<Mutex<()>>;

/// A connection's turn to write.
#[derive(Debug, Default)]
pub struct Turn {
    turns: Turns,
    held: Option<OwnedMutexGuard<()>>,
}

impl Turn {
    async fn take(&mut self) {
        if self.held.is_none() {
            self.held = Some(self.turns.clone().lock_owned().await);
        }
    }
}

/// A value bound to a placeholder.
#[derive(Clone, Debug)]
pub enum Arg {
    /// Text, or NULL.
    Text(Option<String>),
    /// A number, or NULL.
    Int(Option<i64>),
    /// True or false.
    Bool(bool),
}

impl From<&str> for Arg {
    fn from(text: &str) -> Self {
        Self::Text(Some(text.to_owned()))
    }
}

impl From<String> for Arg {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<Option<String>> for Arg {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Arg {
    fn from(number: i64) -> Self {
        Self::Int(Some(number))
    }
}

impl From<Option<i64>> for Arg {
    fn from(number: Option<i64>) -> Self {
        Self::Int(number)
    }
}

impl From<bool> for Arg {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

/// Statements to be run one after the other.
#[derive(Clone, Debug)]
pub struct Statements {
    dialect: Dialect,
    all: Vec<(String, Vec<Arg>)>,
}

impl Statements {
    /// None yet.
    pub fn of(dialect: Dialect) -> Self {
        Self { dialect, all: Vec::new() }
    }

    /// Which SQL they speak.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// One more. Its placeholders begin at `$1`.
    pub fn add(&mut self, sql: impl Into<String>, args: impl Into<Vec<Arg>>) {
        self.all.push((sql.into(), args.into()));
    }

    /// Takes away those at the end that have no arguments: a script can have them.
    fn take_last_without_args(&mut self) -> String {
        let from = self.all.iter().rposition(|(_, args)| !args.is_empty()).map_or(0, |at| at + 1);
        self.all.drain(from..).map(|(sql, _)| sql + "; ").collect()
    }

    /// All of them as one, whose placeholders count through.
    fn joined(&self) -> (String, Vec<Arg>) {
        let (mut joined, mut all_args) = (String::new(), Vec::new());
        for (sql, args) in &self.all {
            let mut parts = sql.split('$');
            joined.push_str(parts.next().unwrap_or_default());
            for part in parts {
                let digits = part.bytes().take_while(u8::is_ascii_digit).count();
                let (number, rest) = part.split_at(digits);
                let shifted = number.parse::<usize>().map(|it| it + all_args.len());
                joined.push('$');
                joined.push_str(&shifted.map_or(String::new(), |it| it.to_string()));
                joined.push_str(rest);
            }
            joined.push_str("; ");
            all_args.extend_from_slice(args);
        }
        (joined, all_args)
    }
}

/// A type that can be read from a row of either database.
pub trait Readable:
    for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{
}

impl<T> Readable for T where
    T: for<'r> FromRow<'r, PgRow> + for<'r> FromRow<'r, SqliteRow> + Send + Unpin
{
}

/// Which SQL is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `PostgreSQL`.
    Postgres,
    /// `SQLite`.
    Sqlite,
}

impl Dialect {
    /// A FROM item that unfolds the JSON array in `placeholder` into rows of one column, `value`.
    ///
    /// `PostgreSQL` reads a `json` anew for every column that is taken from it, a `jsonb` once.
    /// `SQLite` makes `value` anew for every column, unless it comes out of a query of its own (in
    /// a query with a WHERE: else the two are made one).
    pub fn each(self, placeholder: &str, alias: &str) -> String {
        match self {
            Self::Postgres => {
                format!("jsonb_array_elements({placeholder}::jsonb) AS {alias}(value)")
            }
            Self::Sqlite => {
                format!("(SELECT value FROM json_each({placeholder}) LIMIT -1) AS {alias}")
            }
        }
    }

    /// The rows in which `t.<columns>` equal the JSON arrays in `$1`, one look-up each.
    ///
    /// `PostgreSQL` plans a plain join on a table it never analysed as a scan of all of it; a
    /// lateral look-up it does by index.
    pub fn look_up(self, table: &str, columns: &[&str], select: &str) -> String {
        self.look_up_those("$1", table, columns, select)
    }

    /// The same for the JSON arrays in another placeholder.
    pub fn look_up_those(
        self,
        placeholder: &str,
        table: &str,
        columns: &[&str],
        select: &str,
    ) -> String {
        let matches: Vec<String> = columns
            .iter()
            .enumerate()
            .map(|(i, column)| format!("t.{column} = k.value->>{i}"))
            .collect();
        let matches = matches.join(" AND ");
        let each = self.each(placeholder, "k");
        match self {
            Self::Postgres => format!(
                "SELECT r.* FROM {each} CROSS JOIN LATERAL (SELECT {select} FROM {table} t WHERE {matches} LIMIT 1) r"
            ),
            Self::Sqlite => {
                format!("SELECT {select} FROM {each} CROSS JOIN {table} t WHERE {matches}")
            }
        }
    }

    /// An aggregate that makes one JSON array, as text, of arrays of these values.
    pub fn gather(self, values: &[&str]) -> String {
        let values = values.join(", ");
        match self {
            Self::Postgres => {
                format!("CAST(COALESCE(jsonb_agg(jsonb_build_array({values})), '[]') AS TEXT)")
            }
            Self::Sqlite => format!("json_group_array(json_array({values}))"),
        }
    }
}

fn bind_pg<'q>(sql: &'q str, args: &[Arg]) -> Query<'q, sqlx::Postgres, PgArguments> {
    args.iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Text(text) => query.bind(text.clone()),
        Arg::Int(number) => query.bind(*number),
        Arg::Bool(truth) => query.bind(*truth),
    })
}

fn bind_sqlite<'q>(sql: &'q str, args: &[Arg]) -> Query<'q, sqlx::Sqlite, SqliteArguments<'q>> {
    args.iter().fold(sqlx::query(sql), |query, arg| match arg {
        Arg::Text(text) => query.bind(text.clone()),
        Arg::Int(number) => query.bind(*number),
        Arg::Bool(truth) => query.bind(*truth),
    })
}

/// The pools that queries read from.
#[derive(Clone, Debug)]
pub enum Db {
    /// One pool.
    Postgres(PgPool, Purpose),
    /// Readers, and one connection for the few writes that are not the log's (telemetry, keys).
    Sqlite {
        /// Several, read only.
        read: SqlitePool,
        /// One.
        write: SqlitePool,
        /// For the writes.
        turns: Turns,
        /// What it is for.
        purpose: Purpose,
    },
}

/// A connection of one's own, as the log writer has.
#[derive(Debug)]
pub enum Conn {
    /// Of `PostgreSQL`.
    Postgres(PgConnection),
    /// Of `SQLite`.
    Sqlite(SqliteConnection, Turn),
}

/// Where the database is: `postgres://…` or `sqlite://path`.
#[derive(Clone, Debug)]
pub enum Location {
    /// A server.
    Postgres(Box<PgConnectOptions>),
    /// A file, and who writes to it.
    Sqlite(Box<SqliteConnectOptions>, Turns),
}

impl Location {
    /// Reads a database URL.
    pub fn parse(url: &str) -> Result<Self, sqlx::Error> {
        if url.starts_with("sqlite:") {
            let options = SqliteConnectOptions::from_str(url)?
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(BUSY_TIMEOUT)
                .disable_statement_logging();
            Ok(Self::Sqlite(Box::new(options), Turns::default()))
        } else {
            let options = PgConnectOptions::from_str(url)?
                .application_name("gatekey")
                .options([("client_min_messages", "warning")])
                .disable_statement_logging();
            Ok(Self::Postgres(Box::new(options)))
        }
    }

    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(..) => Dialect::Sqlite,
        }
    }

    /// Opens the pools. `SQLite`'s file is made if it is missing.
    pub async fn open(&self, purpose: Purpose) -> Result<Db, sqlx::Error> {
        match self {
            Self::Postgres(options) => {
                let patience = format!("{}s", purpose.patience().as_secs());
                let mut options =
                    options.as_ref().clone().options([("statement_timeout", patience)]);
                if purpose == Purpose::Queries {
                    // How a list is best found depends on what is looked for.
                    options = options.options([("plan_cache_mode", "force_custom_plan")]);
                }
                let pool = PgPoolOptions::new()
                    .max_connections(purpose.connections())
                    .acquire_timeout(ACQUIRE_TIMEOUT)
                    .connect_with(options)
                    .await?;
                Ok(Db::Postgres(pool, purpose))
            }
            Self::Sqlite(options, turns) => {
                let one = SqlitePoolOptions::new().max_connections(1).acquire_timeout(BUSY_TIMEOUT);
                let write = one.connect_with(options.as_ref().clone()).await?;
                let read = SqlitePoolOptions::new()
                    .max_connections(purpose.connections())
                    .acquire_timeout(ACQUIRE_TIMEOUT)
                    .connect_with(options.as_ref().clone().read_only(true))
                    .await?;
                Ok(Db::Sqlite { read, write, turns: turns.clone(), purpose })
            }
        }
    }

    /// Opens one connection with session settings (`PostgreSQL` only).
    pub async fn connect(&self, settings: &[(&str, &str)]) -> Result<Conn, sqlx::Error> {
        match self {
            Self::Postgres(options) => {
                let options = options.as_ref().clone().options(settings.iter().copied());
                PgConnection::connect_with(&options).await.map(Conn::Postgres)
            }
            Self::Sqlite(options, turns) => {
                let turn = Turn { turns: turns.clone(), held: None };
                let connection = SqliteConnection::connect_with(options).await?;
                Ok(Conn::Sqlite(connection, turn))
            }
        }
    }
}

/// A statement under way. Boxed: the compiler can't prove `Send` of sqlx's futures over a borrowed
/// connection through several layers of `async fn`.
pub type Running<'a, T> = Pin<Box<dyn Future<Output = Result<T, sqlx::Error>> + Send + 'a>>;

/// The four ways of running a statement, once for each place that can run one.
macro_rules! run {
    ($target:expr, $sql:expr, $args:expr, $method:ident, $convert:expr) => {
        match $target {
            Target::Postgres(executor) => {
                bind_pg($sql, $args).$method(executor).await.and_then($convert)
            }
            Target::Sqlite(executor) => {
                bind_sqlite($sql, $args).$method(executor).await.and_then($convert)
            }
        }
    };
}

enum Target<P, S> {
    Postgres(P),
    Sqlite(S),
}

impl Db {
    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(..) => Dialect::Postgres,
            Self::Sqlite { .. } => Dialect::Sqlite,
        }
    }

    fn purpose(&self) -> Purpose {
        match self {
            Self::Postgres(_, purpose) | Self::Sqlite { purpose, .. } => *purpose,
        }
    }

    /// Waits for a statement, but not for ever. Counts it: all but the log writer's pass here.
    async fn within<T>(
        &self,
        statement: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, sqlx::Error> {
        metrics::counter!("gatekey_database_statements_total").increment(1);
        let patience = ACQUIRE_TIMEOUT + self.purpose().patience() + Duration::from_secs(1);
        tokio::time::timeout(patience, statement)
            .await
            .unwrap_or_else(|_| Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())))
    }

    fn reader(&self) -> Target<&PgPool, &SqlitePool> {
        match self {
            Self::Postgres(pool, _) => Target::Postgres(pool),
            Self::Sqlite { read, .. } => Target::Sqlite(read),
        }
    }

    /// Every row.
    pub async fn all<T: Readable>(&self, sql: &str, args: &[Arg]) -> Result<Vec<T>, sqlx::Error> {
        self.within(async {
            run!(self.reader(), sql, args, fetch_all, |rows| rows.iter().map(T::from_row).collect())
        })
        .await
    }

    /// The one row.
    pub async fn one<T: Readable>(&self, sql: &str, args: &[Arg]) -> Result<T, sqlx::Error> {
        self.within(async { run!(self.reader(), sql, args, fetch_one, |row| T::from_row(&row)) })
            .await
    }

    /// The row, if there is one.
    pub async fn optional<T: Readable>(
        &self,
        sql: &str,
        args: &[Arg],
    ) -> Result<Option<T>, sqlx::Error> {
        self.within(async {
            run!(self.reader(), sql, args, fetch_optional, |row| row
                .as_ref()
                .map(T::from_row)
                .transpose())
        })
        .await
    }

    /// Runs a statement by itself and says how many rows it touched. Not for the log or its views:
    /// those belong to the log writer.
    pub async fn execute(&self, sql: &str, args: &[Arg]) -> Result<u64, sqlx::Error> {
        self.within(async {
            match self {
                Self::Postgres(pool, _) => {
                    bind_pg(sql, args).execute(pool).await.map(|done| done.rows_affected())
                }
                Self::Sqlite { write, turns, .. } => {
                    let _turn = turns.lock().await;
                    bind_sqlite(sql, args).execute(write).await.map(|done| done.rows_affected())
                }
            }
        })
        .await
    }

    /// Closes every connection.
    pub async fn close(&self) {
        match self {
            Self::Postgres(pool, _) => pool.close().await,
            Self::Sqlite { read, write, .. } => {
                read.close().await;
                write.close().await;
            }
        }
    }
}

impl Conn {
    /// Which SQL it speaks.
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Postgres(_) => Dialect::Postgres,
            Self::Sqlite(..) => Dialect::Sqlite,
        }
    }

    fn target(&mut self) -> Target<&mut PgConnection, &mut SqliteConnection> {
        match self {
            Self::Postgres(connection) => Target::Postgres(connection),
            Self::Sqlite(connection, _) => Target::Sqlite(connection),
        }
    }

    /// Every row.
    pub fn all<'a, T: Readable>(
        &'a mut self,
        sql: &'a str,
        args: &'a [Arg],
    ) -> Running<'a, Vec<T>> {
        Box::pin(async move {
            run!(self.target(), sql, args, fetch_all, |rows| rows.iter().map(T::from_row).collect())
        })
    }

    /// The one row.
    pub fn one<'a, T: Readable>(&'a mut self, sql: &'a str, args: &'a [Arg]) -> Running<'a, T> {
        Box::pin(async move { run!(self.target(), sql, args, fetch_one, |row| T::from_row(&row)) })
    }

    /// The row, if there is one.
    pub fn optional<'a, T: Readable>(
        &'a mut self,
        sql: &'a str,
        args: &'a [Arg],
    ) -> Running<'a, Option<T>> {
        Box::pin(async move {
            run!(self.target(), sql, args, fetch_optional, |row| row
                .as_ref()
                .map(T::from_row)
                .transpose())
        })
    }

    /// Runs a statement and says how many rows it touched.
    pub fn execute<'a>(&'a mut self, sql: &'a str, args: &'a [Arg]) -> Running<'a, u64> {
        Box::pin(async move {
            match self.target() {
                Target::Postgres(connection) => {
                    bind_pg(sql, args).execute(connection).await.map(|it| it.rows_affected())
                }
                Target::Sqlite(connection) => {
                    bind_sqlite(sql, args).execute(connection).await.map(|it| it.rows_affected())
                }
            }
        })
    }

    /// Runs statements without placeholders, in one round trip.
    pub fn script<'a>(&'a mut self, sql: &'a str) -> Running<'a, ()> {
        Box::pin(async move {
            match self.target() {
                Target::Postgres(connection) => connection.execute(sql).await.map(drop),
                Target::Sqlite(connection) => connection.execute(sql).await.map(drop),
            }
        })
    }

    /// Opens a transaction: `SQLite`'s waits for its turn and takes the write lock at once.
    pub async fn begin(&mut self) -> Result<(), sqlx::Error> {
        let sql = match self {
            Self::Postgres(_) => "BEGIN",
            Self::Sqlite(_, turn) => {
                turn.take().await;
                "BEGIN IMMEDIATE"
            }
        };
        self.execute(sql, &[]).await.map(drop)
    }

    /// Runs statements: `SQLite` all at once, for each way to its thread and back costs about as
    /// much as a statement.
    pub async fn run(&mut self, statements: &Statements) -> Result<(), sqlx::Error> {
        match self.dialect() {
            Dialect::Postgres => {
                for (sql, args) in &statements.all {
                    self.execute(sql, args).await?;
                }
                Ok(())
            }
            Dialect::Sqlite => {
                let (sql, args) = statements.joined();
                self.execute(&sql, &args).await.map(drop)
            }
        }
    }

    /// Ends the transaction and keeps what it wrote.
    pub async fn commit(&mut self) -> Result<(), sqlx::Error> {
        self.commit_after(Statements::of(self.dialect()), "").await
    }

    /// Runs statements, and `sql`, which has no placeholders, in one round trip with COMMIT.
    pub async fn commit_after(
        &mut self,
        mut statements: Statements,
        sql: &str,
    ) -> Result<(), sqlx::Error> {
        let end = format!("{sql}COMMIT");
        let done = match self.dialect() {
            Dialect::Postgres => {
                let last = statements.take_last_without_args();
                match self.run(&statements).await {
                    Ok(()) => self.script(&format!("{last}{end}")).await,
                    Err(error) => Err(error),
                }
            }
            Dialect::Sqlite => {
                statements.add(end, []);
                self.run(&statements).await
            }
        };
        self.end_turn();
        done
    }

    /// Ends the transaction and forgets what it wrote.
    pub async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        let done = self.execute("ROLLBACK", &[]).await.map(drop);
        self.end_turn();
        done
    }

    fn end_turn(&mut self) {
        if let Self::Sqlite(_, turn) = self {
            turn.held = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_statements_count_their_placeholders_through() {
        let mut statements = Statements::of(Dialect::Sqlite);
        statements.add("INSERT INTO a SELECT $1, $2, $1", [1.into(), 2.into()]);
        statements.add("UPDATE b SET c = 1", []);
        statements.add("DELETE FROM d WHERE e = $1", [3.into()]);
        statements.add("COMMIT", []);
        let (sql, args) = statements.joined();
        assert_eq!(
            sql,
            "INSERT INTO a SELECT $1, $2, $1; UPDATE b SET c = 1; DELETE FROM d WHERE e = $3; COMMIT; "
        );
        assert_eq!(format!("{args:?}"), "[Int(Some(1)), Int(Some(2)), Int(Some(3))]");

        assert_eq!(statements.take_last_without_args(), "COMMIT; ");
        assert_eq!(statements.take_last_without_args(), "");
        assert_eq!(statements.all.len(), 3);
    }
}
