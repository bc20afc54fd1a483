//! What the server is made of, and the order in which it comes up.

use crate::access::{self, AccessIndex};
use crate::attempts::Attempts;
use crate::auth::password::{PasswordError, Passwords};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::event_log::{
    Bus, CommandError, FileLock, Keyring, MigrationError, OpenError, Opened, Options, ReadError,
    Reader, Running, lock_file, open,
};
use crate::first_start::{self, FirstStartError};
use crate::pki::{CrlPublisher, Issuer, PublishError};
use crate::reactors;
use crate::secrets::{MasterKey, Secret, Vault};
use crate::telemetry::Telemetry;
use chrono::{DateTime, Utc};
use gatekey_projections::{Db, Location, all_views};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// How long the writer may take to write what waits when the server stops.
const STOP_PATIENCE: Duration = Duration::from_secs(10);

/// What the services are started with.
pub struct Setup {
    /// `postgres://…` or `sqlite://…`.
    pub database_url: String,
    /// Seals secrets.
    pub master: MasterKey,
    /// This node's name.
    pub node: String,
    /// The first admin's password, where one was configured.
    pub admin_password: Option<Secret>,
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
}

/// Everything that handlers use. Shared by `Arc`.
pub struct Services {
    /// The time.
    pub clock: Clock,
    /// Randomness.
    pub entropy: Entropy,
    /// For queries.
    pub db: Db,
    /// For what must not wait for queries: leases, telemetry.
    pub vital: Db,
    /// Reads the log.
    pub reader: Reader,
    /// People's keys.
    pub keyring: Keyring,
    /// Carries out commands.
    pub bus: Bus,
    /// What is true now.
    pub index: Arc<AccessIndex>,
    /// Secrets.
    pub vault: Vault,
    /// Takes down who failed.
    pub attempts: Attempts,
    /// What is no event.
    pub telemetry: Telemetry,
    /// Hashes passwords.
    pub passwords: Passwords,
    /// Signs certificates.
    pub issuer: Issuer,
    /// Has the newest revocation list.
    pub crl: CrlPublisher,
    /// Wakes those who follow the log.
    pub wake: watch::Sender<i64>,
    /// When this process was started.
    pub started_at: DateTime<Utc>,
    /// This process: its node's name and something that no other process has.
    pub node_instance: String,
}

/// What runs in the background, and is stopped in order.
pub struct Background {
    running: Running,
    tasks: Vec<JoinHandle<()>>,
    attempts: JoinHandle<()>,
    telemetry: Telemetry,
    _lock: Option<FileLock>,
}

/// Why the server can't start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The URL is no database's.
    #[error("the database URL is not usable: {0}")]
    Url(sqlx::Error),
    /// Another server has the file.
    #[error(transparent)]
    InUse(#[from] MigrationError),
    /// The log can't be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database did not answer.
    #[error("the database can't be read: {0}")]
    Database(#[from] sqlx::Error),
    /// The views can't be read.
    #[error(transparent)]
    Views(#[from] access::LoadError),
    /// The log can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The first admin or the authority could not be made.
    #[error(transparent)]
    FirstStart(#[from] FirstStartError),
    /// The first command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// Passwords can't be hashed.
    #[error(transparent)]
    Passwords(#[from] PasswordError),
    /// The authority's key is missing, or not its own.
    #[error("the certificate authority can't be loaded: {0}")]
    Authority(String),
    /// There is no revocation list to serve.
    #[error(transparent)]
    Crl(#[from] PublishError),
    /// The system has no randomness.
    #[error(transparent)]
    Entropy(#[from] crate::entropy::NoEntropy),
}

/// Brings everything up. The password that was made for the first admin, if one was, is in the
/// last part, and nowhere else.
pub async fn start(
    setup: Setup,
    progress: impl Fn(i64, i64),
) -> Result<(Arc<Services>, Background, Option<Secret>), StartError> {
    let location = Location::parse(&setup.database_url).map_err(StartError::Url)?;
    let lock = sqlite_path(&setup.database_url).map(|path| lock_file(&path)).transpose()?;
    let master = Arc::new(setup.master);
    let options = Options {
        location,
        master: master.clone(),
        clock: setup.clock.clone(),
        entropy: setup.entropy.clone(),
        views: all_views().to_vec(),
    };
    let opened = open(options, progress).await?;
    let Opened { db, vital, reader, keyring, wake, .. } = &opened;
    let vault = Vault::new(vital.clone(), master, setup.entropy.clone());
    let passwords = Passwords::new(setup.entropy.clone())?;

    let state = access::load(db, setup.clock.now()).await?;
    let index = Arc::new(AccessIndex::new(state, reader.clone()));
    index.catch_up().await?;
    let running = opened.start(vec![index.clone()]);
    let bus = running.bus.clone();

    let made_password = first_start::ensure(first_start::Means {
        bus: &bus,
        index: &index,
        vault: &vault,
        passwords: &passwords,
        clock: &setup.clock,
        entropy: &setup.entropy,
        admin_password: setup.admin_password,
    })
    .await?;
    let issuer = load_issuer(&index, &vault).await?;
    let (crl, publishing) =
        CrlPublisher::new(vital.clone(), issuer.clone(), index.clone(), setup.clock.clone())
            .await?;
    let telemetry = Telemetry::load(vital.clone(), setup.clock.clone()).await?;
    let run = setup.entropy.uuid()?;
    let (attempts, recorder) = Attempts::start(bus.clone(), setup.clock.clone(), &setup.node, run);
    let node_instance = format!("{}/{run}", setup.node);

    let services = Arc::new(Services {
        started_at: setup.clock.now(),
        clock: setup.clock,
        entropy: setup.entropy,
        db: db.clone(),
        vital: vital.clone(),
        reader: reader.clone(),
        keyring: keyring.clone(),
        bus,
        index: index.clone(),
        vault,
        attempts,
        telemetry: telemetry.clone(),
        passwords,
        issuer,
        crl,
        wake: wake.clone(),
        node_instance,
    });
    let tasks = vec![
        tokio::spawn(index.follow(wake.subscribe())),
        tokio::spawn(telemetry.clone().run()),
        tokio::spawn(publishing.run(wake.subscribe())),
        tokio::spawn(reactors::run(services.clone())),
    ];
    let background = Background { running, tasks, attempts: recorder, telemetry, _lock: lock };
    Ok((services, background, made_password))
}

async fn load_issuer(index: &AccessIndex, vault: &Vault) -> Result<Issuer, StartError> {
    let missing = || StartError::Authority("there is none".to_owned());
    let authority = index.read().authority.clone().ok_or_else(missing)?;
    let failed = |error: String| StartError::Authority(error);
    let key = vault.open(&authority.key).await.map_err(|error| failed(error.to_string()))?;
    let key = std::str::from_utf8(&key).map_err(|error| failed(error.to_string()))?;
    Issuer::load(&authority.certificate, key).map_err(|error| failed(error.to_string()))
}

/// The file behind a `sqlite:` URL.
pub fn sqlite_path(url: &str) -> Option<PathBuf> {
    let rest = url.strip_prefix("sqlite:")?;
    let rest = rest.strip_prefix("//").unwrap_or(rest);
    Some(PathBuf::from(rest.split('?').next().unwrap_or(rest)))
}

impl Background {
    /// Stops it all: the timers at once, the writer when it has written what waits.
    pub async fn stop(self, services: Arc<Services>) {
        for task in &self.tasks {
            task.abort();
        }
        for task in self.tasks {
            // Aborted on purpose.
            let _ = task.await;
        }
        if let Err(error) = self.telemetry.flush().await {
            tracing::warn!(%error, "the last telemetry could not be written");
        }
        let pools = [services.db.clone(), services.vital.clone()];
        drop(services);
        if tokio::time::timeout(STOP_PATIENCE, self.attempts).await.is_err() {
            tracing::warn!("the last refusals could not be written in time");
        }
        self.running.stop(STOP_PATIENCE).await;
        for pool in pools {
            pool.close().await;
        }
    }
}
