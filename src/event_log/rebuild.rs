//! Rebuilding views: the log is folded into fresh tables, which then take the place of the old.

use super::reader::{ReadError, Reader};
use super::statements::{LOCK, lock};
use gatekey_projections::{Conn, Db, Dialect, Location, View, project};

/// What the fresh tables' names end in.
const SUFFIX: &str = "__rebuild";
/// Events folded at once.
const BATCH: i64 = 1000;
/// `PostgreSQL`'s key for the right to rebuild: the log's, and one.
const REBUILD_LOCK: i64 = LOCK + 1;

/// Why a rebuild failed. The old tables are as they were.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    /// The log could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The tables could not be written.
    #[error("the views could not be written: {0}")]
    Database(#[from] sqlx::Error),
}

/// Brings the views up to date that another version has filled: one node at a time, and none if
/// another has done it meanwhile.
pub async fn refresh(
    location: &Location,
    db: &Db,
    reader: &Reader,
    views: &[&'static dyn View],
    progress: impl Fn(i64, i64),
) -> Result<(), RebuildError> {
    let mut conn = connect_alone(location).await?;
    let outdated = outdated(db, views).await?;
    if outdated.is_empty() {
        return Ok(());
    }
    if reader.head().await? == 0 {
        return note_versions(&mut conn, &outdated).await.map_err(RebuildError::from);
    }
    replay(&mut conn, reader, &outdated, progress).await.map(drop)
}

/// Whether this version of the code has filled every view.
pub async fn are_current(db: &Db, views: &[&'static dyn View]) -> Result<bool, sqlx::Error> {
    Ok(outdated(db, views).await?.is_empty())
}

/// A connection that no other rebuild runs beside. `SQLite` has one server by its file's lock.
async fn connect_alone(location: &Location) -> Result<Conn, sqlx::Error> {
    let mut conn = location.connect(&[]).await?;
    if conn.dialect() == Dialect::Postgres {
        // Held until the connection ends.
        conn.script(&format!("SELECT pg_advisory_lock({REBUILD_LOCK})")).await?;
    }
    Ok(conn)
}

/// The views whose tables another version of the code has filled, or none.
async fn outdated(
    db: &Db,
    views: &[&'static dyn View],
) -> Result<Vec<&'static dyn View>, sqlx::Error> {
    let rows: Vec<(String, i64)> = db.all("SELECT name, version FROM views", &[]).await?;
    let current = |view: &dyn View| {
        rows.iter().any(|(name, version)| name == view.name() && *version == view.version())
    };
    Ok(views.iter().copied().filter(|view| !current(*view)).collect())
}

async fn note_versions(conn: &mut Conn, views: &[&'static dyn View]) -> Result<(), sqlx::Error> {
    for view in views {
        let sql = "INSERT INTO views (name, version) VALUES ($1, $2) \
                   ON CONFLICT (name) DO UPDATE SET version = excluded.version";
        conn.execute(sql, &[view.name().into(), view.version().into()]).await?;
    }
    Ok(())
}

/// Folds the whole log into fresh copies of the views' tables and swaps them in. Writers go on
/// meanwhile; they wait only for the last events and the swap. `progress` gets (done, of).
pub async fn rebuild(
    location: &Location,
    reader: &Reader,
    views: &[&'static dyn View],
    progress: impl Fn(i64, i64),
) -> Result<i64, RebuildError> {
    replay(&mut connect_alone(location).await?, reader, views, progress).await
}

async fn replay(
    conn: &mut Conn,
    reader: &Reader,
    views: &[&'static dyn View],
    progress: impl Fn(i64, i64),
) -> Result<i64, RebuildError> {
    let tables: Vec<&str> = views.iter().flat_map(|view| view.tables().iter().copied()).collect();
    for table in &tables {
        make_copy(conn, table).await?;
    }
    let mut position = 0;
    let mut head = reader.head().await?;
    while position < head {
        // Read first: while a batch is written, SQLite lets nobody else write.
        let batch = reader.after(position, BATCH).await?;
        let Some(last) = batch.last() else { break };
        position = last.position;
        conn.begin().await?;
        project(conn, views, &batch, SUFFIX).await?;
        conn.commit().await?;
        progress(position, head);
        head = reader.head().await?;
    }
    // Under the lock nobody appends: the last events, and the swap.
    lock(conn).await?;
    head = reader.head().await?;
    while position < head {
        let batch = reader.after(position, BATCH).await?;
        let Some(last) = batch.last() else { break };
        position = last.position;
        project(conn, views, &batch, SUFFIX).await?;
    }
    for table in &tables {
        let swap = format!(
            "DELETE FROM {table}; INSERT INTO {table} SELECT * FROM {table}{SUFFIX}; DROP TABLE {table}{SUFFIX}"
        );
        conn.script(&swap).await?;
    }
    note_versions(conn, views).await?;
    conn.commit().await?;
    Ok(position)
}

/// An empty table of the same shape and key.
async fn make_copy(conn: &mut Conn, table: &str) -> Result<(), sqlx::Error> {
    let copy = format!("{table}{SUFFIX}");
    conn.script(&format!("DROP TABLE IF EXISTS {copy}")).await?;
    match conn.dialect() {
        Dialect::Postgres => {
            conn.script(&format!("CREATE TABLE {copy} (LIKE {table} INCLUDING ALL)")).await
        }
        Dialect::Sqlite => {
            let sql = "SELECT sql FROM sqlite_master WHERE type = 'table' AND name = $1";
            let (definition,): (String,) = conn.one(sql, &[table.into()]).await?;
            conn.script(&definition.replacen(table, &copy, 1)).await
        }
    }
}
