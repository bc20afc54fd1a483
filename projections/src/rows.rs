//! The rows that a batch of events touches: loaded set-wise, folded in memory, stored set-wise.
//!
//! A batch costs one look-up, one delete and one upsert for each table that it touches, however
//! many events it has: a row that changes often is written once, as it is at the end.

use crate::db::{Conn, Dialect, Readable, Running, Statements};
use serde::Serialize;
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, BTreeSet};

/// A row's key: the values of [`Table::KEY`], in order.
pub type Key = Vec<String>;

/// The row type of a table that a view keeps.
pub trait Table:
    Readable + Serialize + Clone + PartialEq + std::fmt::Debug + Sync + 'static
{
    /// The table.
    const NAME: &'static str;
    /// Its primary key's columns: text.
    const KEY: &'static [&'static str];
    /// All columns, the key's too. Each is a field of the row type.
    const COLUMNS: &'static [&'static str];

    /// The row's key.
    fn key(&self) -> Key;
}

/// The touched rows of one table.
trait Touched: Send {
    fn load<'a>(&'a mut self, conn: &'a mut Conn, suffix: &'a str) -> Running<'a, ()>;
    fn store(&self, suffix: &str, into: &mut Statements) -> Result<(), sqlx::Error>;
    fn as_any(&mut self) -> &mut dyn Any;
}

struct TouchedRows<T> {
    wanted: BTreeSet<Key>,
    present: BTreeMap<Key, T>,
    changed: BTreeSet<Key>,
    /// Deletions of every row with such a value in such a column.
    purged: Vec<(&'static str, String)>,
}

impl<T> Default for TouchedRows<T> {
    fn default() -> Self {
        Self {
            wanted: BTreeSet::new(),
            present: BTreeMap::new(),
            changed: BTreeSet::new(),
            purged: Vec::new(),
        }
    }
}

fn json<T: Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

impl<T: Table> Touched for TouchedRows<T> {
    fn load<'a>(&'a mut self, conn: &'a mut Conn, suffix: &'a str) -> Running<'a, ()> {
        Box::pin(async move {
            if self.wanted.is_empty() {
                return Ok(());
            }
            let table = format!("{}{suffix}", T::NAME);
            let columns: Vec<String> = T::COLUMNS.iter().map(|c| format!("t.{c}")).collect();
            let sql = conn.dialect().look_up(&table, T::KEY, &columns.join(", "));
            let rows: Vec<T> = conn.all(&sql, &[json(&self.wanted)?.into()]).await?;
            self.present.extend(rows.into_iter().map(|row| (row.key(), row)));
            Ok(())
        })
    }

    fn store(&self, suffix: &str, into: &mut Statements) -> Result<(), sqlx::Error> {
        let table = format!("{}{suffix}", T::NAME);
        for (column, value) in &self.purged {
            let sql = format!("DELETE FROM {table} WHERE {column} = $1");
            into.add(sql, [value.as_str().into()]);
        }
        let gone: Vec<&Key> =
            self.changed.iter().filter(|key| !self.present.contains_key(*key)).collect();
        if !gone.is_empty() {
            into.add(delete_sql::<T>(into.dialect(), &table), [json(&gone)?.into()]);
        }
        let kept: Vec<&T> = self.changed.iter().filter_map(|key| self.present.get(key)).collect();
        if !kept.is_empty() {
            into.add(upsert_sql::<T>(into.dialect(), &table), [json(&kept)?.into()]);
        }
        Ok(())
    }

    fn as_any(&mut self) -> &mut dyn Any {
        self
    }
}

fn delete_sql<T: Table>(dialect: Dialect, table: &str) -> String {
    let each = dialect.each("$1", "k");
    let key = T::KEY.join(", ");
    let values: Vec<String> = (0..T::KEY.len()).map(|i| format!("k.value->>{i}")).collect();
    format!("DELETE FROM {table} WHERE ({key}) IN (SELECT {} FROM {each})", values.join(", "))
}

fn upsert_sql<T: Table>(dialect: Dialect, table: &str) -> String {
    let columns = T::COLUMNS.join(", ");
    let source = match dialect {
        Dialect::Postgres => {
            format!("SELECT {columns} FROM json_populate_recordset(NULL::{table}, $1::json)")
        }
        Dialect::Sqlite => {
            let values: Vec<String> =
                T::COLUMNS.iter().map(|column| format!("value->>'{column}'")).collect();
            let each = dialect.each("$1", "k");
            format!("SELECT {} FROM {each} WHERE true", values.join(", "))
        }
    };
    let updates: Vec<String> = T::COLUMNS
        .iter()
        .filter(|column| !T::KEY.contains(column))
        .map(|column| format!("{column} = excluded.{column}"))
        .collect();
    let action = if updates.is_empty() {
        "NOTHING".to_owned()
    } else {
        format!("UPDATE SET {}", updates.join(", "))
    };
    format!(
        "INSERT INTO {table} ({columns}) {source} ON CONFLICT ({}) DO {action}",
        T::KEY.join(", ")
    )
}

/// Every row that a batch touches, of every table.
#[derive(Default)]
pub struct Rows {
    tables: BTreeMap<TypeId, Box<dyn Touched>>,
    /// What is added to each total.
    counts: BTreeMap<&'static str, i64>,
    suffix: &'static str,
}

impl Rows {
    /// Rows of the tables whose names end in `suffix` (a rebuild writes to such copies).
    pub fn of(suffix: &'static str) -> Self {
        Self { suffix, ..Self::default() }
    }

    fn table<T: Table>(&mut self) -> Option<&mut TouchedRows<T>> {
        self.tables
            .entry(TypeId::of::<T>())
            .or_insert_with(|| Box::<TouchedRows<T>>::default())
            .as_any()
            .downcast_mut()
    }

    /// Asks for the row with this key to be loaded before the events are applied.
    pub fn want<T: Table>(&mut self, key: Key) {
        if let Some(table) = self.table::<T>() {
            table.wanted.insert(key);
        }
    }

    /// Loads what is wanted.
    pub async fn load(&mut self, conn: &mut Conn) -> Result<(), sqlx::Error> {
        for table in self.tables.values_mut() {
            table.load(conn, self.suffix).await?;
        }
        Ok(())
    }

    /// Adds or replaces a row.
    pub fn put<T: Table>(&mut self, row: T) {
        if let Some(table) = self.table::<T>() {
            let key = row.key();
            table.changed.insert(key.clone());
            table.present.insert(key, row);
        }
    }

    /// Changes a row that was wanted or put before. A row that is not there stays away.
    pub fn change<T: Table>(&mut self, key: &Key, change: impl FnOnce(&mut T)) {
        if let Some(table) = self.table::<T>()
            && let Some(row) = table.present.get_mut(key)
        {
            change(row);
            table.changed.insert(key.clone());
        }
    }

    /// Removes a row.
    pub fn remove<T: Table>(&mut self, key: Key) {
        if let Some(table) = self.table::<T>() {
            table.present.remove(&key);
            table.changed.insert(key);
        }
    }

    /// Removes every row whose `column` holds `value`; `of` reads that column from a row.
    pub fn purge<T: Table>(&mut self, column: &'static str, value: &str, of: impl Fn(&T) -> &str) {
        if let Some(table) = self.table::<T>() {
            table.present.retain(|_, row| of(row) != value);
            table.purged.push((column, value.to_owned()));
        }
    }

    /// Adds to the total of that name.
    pub(crate) fn count(&mut self, name: &'static str, change: i64) {
        *self.counts.entry(name).or_default() += change;
    }

    /// Adds the statements that write what changed.
    pub fn store(&self, into: &mut Statements) -> Result<(), sqlx::Error> {
        self.tables.values().try_for_each(|table| table.store(self.suffix, into))?;
        let counts: Vec<String> =
            self.counts.iter().map(|(name, change)| format!("('{name}', {change})")).collect();
        if !counts.is_empty() {
            // Without arguments, so that it needs no round trip of its own.
            let (table, counts) = (format!("totals{}", self.suffix), counts.join(", "));
            let sql = format!(
                "INSERT INTO {table} (name, count) VALUES {counts} \
                 ON CONFLICT (name) DO UPDATE SET count = {table}.count + excluded.count"
            );
            into.add(sql, []);
        }
        Ok(())
    }
}

/// A view: rows folded from events.
///
/// A view is a pure function of the log. It never reads the clock or another view, so a rebuild
/// gives what the live one has.
pub trait View: Send + Sync {
    /// Its name, for `projections rebuild NAME`.
    fn name(&self) -> &'static str;

    /// Raised when `apply` or the tables change: an older copy is then rebuilt at start.
    fn version(&self) -> i64;

    /// Its tables.
    fn tables(&self) -> &'static [&'static str];

    /// Names the rows that `apply` will change.
    fn want(&self, event: &gatekey_aggregates::Recorded, rows: &mut Rows);

    /// Folds one event into the rows.
    fn apply(&self, event: &gatekey_aggregates::Recorded, rows: &mut Rows);
}

/// The rows of a table that `view` makes of `events`, as if there had been none before them: what
/// something that begins with them looks like.
pub fn fresh<T: Table>(view: &dyn View, events: &[gatekey_aggregates::Recorded]) -> Vec<T> {
    let mut rows = Rows::default();
    for event in events {
        view.apply(event, &mut rows);
    }
    let table = rows.table::<T>().map(|table| std::mem::take(&mut table.present));
    table.unwrap_or_default().into_values().collect()
}

/// Folds a batch into the tables, in the connection's transaction.
pub async fn project(
    conn: &mut Conn,
    views: &[&dyn View],
    batch: &[gatekey_aggregates::Recorded],
    suffix: &'static str,
) -> Result<(), sqlx::Error> {
    let mut statements = Statements::of(conn.dialect());
    fold(conn, views, batch, suffix, &mut statements).await?;
    conn.run(&statements).await
}

/// Folds a batch, with what the tables hold, into the statements that write it to them.
pub async fn fold(
    conn: &mut Conn,
    views: &[&dyn View],
    batch: &[gatekey_aggregates::Recorded],
    suffix: &'static str,
    into: &mut Statements,
) -> Result<(), sqlx::Error> {
    let mut rows = Rows::of(suffix);
    for view in views {
        for event in batch {
            view.want(event, &mut rows);
        }
    }
    rows.load(conn).await?;
    for view in views {
        for event in batch {
            view.apply(event, &mut rows);
        }
    }
    rows.store(into)
}
