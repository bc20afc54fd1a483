//! Opening the log: migrations, the master key's check, outdated views, the writer.

use super::bus::Bus;
use super::follow::listen;
use super::keyring::Keyring;
use super::migrate::{EPOCH, MigrationError, is_migrated, migrate};
use super::reader::Reader;
use super::rebuild::{RebuildError, are_current, refresh};
use super::store::Store;
use super::writer::{Follower, Setup, Writer};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::secrets::MasterKey;
use gatekey_projections::{Db, Location, Purpose, View};
use std::sync::Arc;
use std::time::Duration;
use subtle::ConstantTimeEq;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What the log is opened with.
pub struct Options {
    /// The database.
    pub location: Location,
    /// Seals people's keys and secrets.
    pub master: Arc<MasterKey>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// The views to keep.
    pub views: Vec<&'static dyn View>,
}

/// Why the log can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The database is not fit.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The database did not answer.
    #[error("the database can't be used: {0}")]
    Database(#[from] sqlx::Error),
    /// A view could not be brought up to date.
    #[error(transparent)]
    Rebuild(#[from] RebuildError),
    /// The key is not the one that sealed what is there.
    #[error(
        "the master key is not the one this database was made with; set GATEKEY_MASTER_KEY, or put the right master.key into the data directory"
    )]
    WrongMasterKey,
}

/// The database, migrated and checked, before anything is written.
pub struct Opened {
    /// For queries.
    pub db: Db,
    /// For what the server itself lives on.
    pub vital: Db,
    /// For followers.
    pub reader: Reader,
    /// The people's keys.
    pub keyring: Keyring,
    /// Wakes followers.
    pub wake: watch::Sender<i64>,
    options: Options,
}

/// The log at work.
pub struct Running {
    /// Carries out commands.
    pub bus: Bus,
    /// Appends what no aggregate decided.
    pub writer: Writer,
    /// Ends when every [`Bus`] and [`Writer`] is dropped and the queue is written.
    pub writing: JoinHandle<()>,
    /// Hears of other nodes' commits.
    pub listening: JoinHandle<()>,
}

/// Migrates and checks the database. `progress` hears of views that are rebuilt: (done, of).
pub async fn open(options: Options, progress: impl Fn(i64, i64)) -> Result<Opened, OpenError> {
    migrate(&options.location).await?;
    let db = options.location.open(Purpose::Queries).await?;
    let vital = options.location.open(Purpose::Vital).await?;
    check_master_key(&vital, &options.master).await?;
    let opened = Opened::of(db, vital, options);
    let Opened { db, reader, options, .. } = &opened;
    refresh(&options.location, db, reader, &options.views, progress).await?;
    Ok(opened)
}

/// Opens a database that a server of this version has started on, maybe beside that server, and
/// changes nothing in it.
pub async fn attach(options: Options) -> Result<Opened, OpenError> {
    let vital = options.location.open(Purpose::Vital).await?;
    is_migrated(&options.location, &vital).await?;
    compare_master_key(&vital, &options.master).await?;
    if !are_current(&vital, &options.views).await? {
        return Err(MigrationError::Older.into());
    }
    let db = options.location.open(Purpose::Queries).await?;
    Ok(Opened::of(db, vital, options))
}

async fn check_master_key(db: &Db, master: &MasterKey) -> Result<(), OpenError> {
    let sql = "INSERT INTO master_key_check (id, value) VALUES (1, $1) ON CONFLICT (id) DO NOTHING";
    db.execute(sql, &[master.check_value().into()]).await?;
    compare_master_key(db, master).await
}

async fn compare_master_key(db: &Db, master: &MasterKey) -> Result<(), OpenError> {
    let sql = "SELECT value FROM master_key_check WHERE id = 1";
    let Some((stored,)) = db.optional::<(String,)>(sql, &[]).await? else {
        return Err(MigrationError::Older.into());
    };
    if bool::from(stored.as_bytes().ct_eq(master.check_value().as_bytes())) {
        Ok(())
    } else {
        Err(OpenError::WrongMasterKey)
    }
}

impl Opened {
    fn of(db: Db, vital: Db, options: Options) -> Self {
        let keyring = Keyring::new(vital.clone(), options.master.clone(), options.clock.clone());
        let reader = Reader::new(vital.clone(), keyring.clone());
        let (wake, _) = watch::channel(0);
        Self { db, vital, reader, keyring, wake, options }
    }

    /// Starts the writer and what hangs on it.
    pub fn start(&self, followers: Vec<Arc<dyn Follower>>) -> Running {
        let (writer, writing) = Writer::start(Setup {
            location: self.options.location.clone(),
            views: self.options.views.clone(),
            followers,
            clock: self.options.clock.clone(),
            epoch: EPOCH,
            wake: self.wake.clone(),
        });
        let store = Store::new(&self.vital, self.keyring.clone());
        let bus =
            Bus::new(store, writer.clone(), self.keyring.clone(), self.options.entropy.clone());
        let listening = tokio::spawn(listen(self.vital.clone(), self.wake.clone()));
        Running { bus, writer, writing, listening }
    }
}

impl Running {
    /// Writes what waits, then ends. Gives up after `patience`.
    pub async fn stop(self, patience: Duration) {
        self.listening.abort();
        drop(self.bus);
        drop(self.writer);
        if tokio::time::timeout(patience, self.writing).await.is_err() {
            tracing::warn!("the log writer did not end in time");
        }
    }
}
