//! Bringing the database to this version, one node at a time.

use gatekey_projections::{Conn, Db, Location};
use sqlx::migrate::{MigrateError, Migrator};
use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

/// Raised by a migration that changes a view: `UPDATE head SET epoch = …`.
pub const EPOCH: i64 = 1;

static POSTGRES: Migrator = sqlx::migrate!("./migrations/postgres");
static SQLITE: Migrator = sqlx::migrate!("./migrations/sqlite");

/// Why the server can't use the database.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// It was written by a newer version.
    #[error(
        "the database was migrated by a newer GateKey (migration {0} is unknown to this one); start that version, or restore a backup from before the upgrade"
    )]
    Newer(i64),
    /// A migration was edited after it ran.
    #[error(
        "migration {0} was changed after it ran here; this binary and this database do not belong together"
    )]
    Edited(i64),
    /// It was written by an older version, or by none.
    #[error(
        "the database is not one that a server of this version has started on; start this version's server on it first, and run this with the server's settings"
    )]
    Older,
    /// Another server has the file open.
    #[error("another server is using {0}; stop it first: one server to a SQLite file")]
    InUse(PathBuf),
    /// The lock file can't be made.
    #[error("{0} can't be locked: {1}")]
    Lock(PathBuf, std::io::Error),
    /// The database said no.
    #[error("the database could not be migrated: {0}")]
    Failed(String),
    /// The database said no.
    #[error("the database can't be used: {0}")]
    Database(#[from] sqlx::Error),
}

/// Keeps other servers away from a `SQLite` file while it lives.
#[derive(Debug)]
pub struct FileLock(#[allow(dead_code)] File);

/// Takes the lock beside a `SQLite` file.
pub fn lock_file(database: &Path) -> Result<FileLock, MigrationError> {
    let mut path = database.as_os_str().to_owned();
    path.push(".lock");
    let path = PathBuf::from(path);
    let open = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
    let file = open.map_err(|error| MigrationError::Lock(path.clone(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(FileLock(file)),
        Err(TryLockError::WouldBlock) => Err(MigrationError::InUse(database.to_owned())),
        Err(TryLockError::Error(error)) => Err(MigrationError::Lock(path, error)),
    }
}

/// Runs what migrations are missing. On `PostgreSQL` one node at a time: the others wait.
pub async fn migrate(location: &Location) -> Result<(), MigrationError> {
    let done = match location.connect(&[]).await? {
        Conn::Postgres(mut connection) => POSTGRES.run_direct(&mut connection).await,
        Conn::Sqlite(mut connection, _) => SQLITE.run_direct(&mut connection).await,
    };
    done.map_err(|error| match error {
        MigrateError::VersionMissing(version) | MigrateError::VersionTooNew(version, _) => {
            MigrationError::Newer(version)
        }
        MigrateError::VersionMismatch(version) => MigrationError::Edited(version),
        other => MigrationError::Failed(other.to_string()),
    })
}

/// Makes sure that the database needs no migration, and changes nothing in it.
pub async fn is_migrated(location: &Location, db: &Db) -> Result<(), MigrationError> {
    let sql = "SELECT version, checksum FROM _sqlx_migrations ORDER BY version";
    let done: Vec<(i64, Vec<u8>)> = db.all(sql, &[]).await.map_err(|error| match error {
        // There is no such table: nobody has ever migrated it.
        sqlx::Error::Database(_) => MigrationError::Older,
        other => MigrationError::Database(other),
    })?;
    let ours = match location {
        Location::Postgres(_) => &POSTGRES,
        Location::Sqlite(..) => &SQLITE,
    };
    for (version, checksum) in &done {
        match ours.iter().find(|it| it.version == *version) {
            None => return Err(MigrationError::Newer(*version)),
            Some(it) if *it.checksum != *checksum => return Err(MigrationError::Edited(*version)),
            Some(_) => {}
        }
    }
    if ours.iter().all(|it| done.iter().any(|(version, _)| *version == it.version)) {
        Ok(())
    } else {
        Err(MigrationError::Older)
    }
}
