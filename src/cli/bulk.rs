//! `export` and `import`: the configuration as a file.

use indicatif::{ProgressBar, ProgressStyle};
use std::error::Error;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use gatekey_aggregates::values::clip;
use gatekey_aggregates::{Actor, ActorKind, Metadata, PersonId};
use gatekey_projections::{Location, all_views};

use super::os_user;
use super::print;
use crate::bulk::{self, Means, Plan, Token};
use crate::clock::Clock;
use crate::config::Config;
use crate::entropy::Entropy;
use crate::event_log::{FileLock, Opened, Options, Store, attach, lock_file};
use crate::secrets::{MasterKey, Vault};
use crate::services::sqlite_path;

/// Largest file that is read.
const MAX_FILE: u64 = 64 << 20;
/// Longest reason that is kept, in characters.
const MAX_REASON: usize = 500;
/// How long the writer may take to end.
const STOP_PATIENCE: Duration = Duration::from_secs(10);
/// What a dry run ends with that found a difference.
const DIFFERENT: u8 = 2;
/// What stands for standard input and output.
const STANDARD: &str = "-";

/// What is to be imported, and how.
#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The file; `-` is standard input
    file: PathBuf,
    /// Only show what would change. Ends with 0 if nothing would, and with 2 if something would
    #[arg(long)]
    dry_run: bool,
    /// Also remove what is not in the file. A section, or a list of users, groups or networks,
    /// that the file does not have at all is left alone
    #[arg(long)]
    prune: bool,
    /// Why, for the history
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    /// Write the one-time tokens of new gateways into this new file, which only its owner can
    /// read: lines of name, id and token, with tabs between them
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    tokens: Option<PathBuf>,
}

/// Writes the configuration to `output`, or to standard output.
pub(super) async fn export(
    config: Config,
    output: Option<PathBuf>,
) -> Result<ExitCode, Box<dyn Error>> {
    let attached = Attached::to(&config).await?;
    let export = bulk::export(&attached.opened.db).await;
    attached.leave().await;
    let export = export?;
    for it in &export.left_out {
        tracing::warn!("left out: {it}");
    }
    match output.filter(|it| it != Path::new(STANDARD)) {
        Some(path) => replace(&path, &export.yaml)
            .map_err(|error| format!("{} can't be written: {error}", path.display()))?,
        None => io::stdout().write_all(export.yaml.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes what a file says true, or shows what it would take.
pub(super) async fn import(config: Config, import: Import) -> Result<ExitCode, Box<dyn Error>> {
    let yaml = read(&import.file)
        .map_err(|error| format!("{} can't be read: {error}", import.file.display()))?;
    let attached = Attached::to(&config).await?;
    let done = attached.import(&yaml, import).await;
    attached.leave().await;
    done
}

/// A database that a server of this version has started on.
struct Attached {
    opened: Opened,
    vault: Vault,
    clock: Clock,
    entropy: Entropy,
    sqlite: Option<PathBuf>,
}

impl Attached {
    /// Changes nothing, and may be done beside a running server.
    async fn to(config: &Config) -> Result<Self, Box<dyn Error>> {
        let sqlite = sqlite_path(config.database_url.expose());
        let key = config.data_dir.join("master.key");
        // In the wrong directory this would make a new server, and find it empty.
        let needed = [sqlite.clone(), config.master_key.is_none().then_some(key)];
        if let Some(path) = needed.into_iter().flatten().find(|it| !it.exists()) {
            let path = path.display();
            return Err(format!(
                "there is no {path}; start the server first, and run this with the server's settings"
            )
            .into());
        }
        let master = Arc::new(MasterKey::load(config.master_key.as_ref(), &config.data_dir)?);
        let clock = Clock::system();
        let entropy = Entropy::system(clock.clone());
        let options = Options {
            location: Location::parse(config.database_url.expose())?,
            master: master.clone(),
            clock: clock.clone(),
            entropy: entropy.clone(),
            views: all_views().to_vec(),
        };
        let opened = attach(options).await?;
        let vault = Vault::new(opened.vital.clone(), master, entropy.clone());
        Ok(Self { opened, vault, clock, entropy, sqlite })
    }

    async fn import(&self, yaml: &str, import: Import) -> Result<ExitCode, Box<dyn Error>> {
        let _lock = self.lock(import.dry_run)?;
        let Opened { vital, keyring, db, .. } = &self.opened;
        let store = Store::new(vital, keyring.clone());
        let means = Means { db, store: &store, vault: &self.vault, entropy: &self.entropy };
        let plan = bulk::plan(means, yaml, import.prune).await?;
        print(&plan.to_string())?;
        if import.dry_run {
            let code = if plan.is_empty() { ExitCode::SUCCESS } else { DIFFERENT.into() };
            return Ok(code);
        }
        if plan.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        self.carry_out(plan, import).await?;
        Ok(ExitCode::SUCCESS)
    }

    /// Only one process may write to a SQLite file.
    fn lock(&self, dry_run: bool) -> Result<Option<FileLock>, Box<dyn Error>> {
        let Some(path) = self.sqlite.as_deref().filter(|_| !dry_run) else { return Ok(None) };
        let lock = lock_file(path).map_err(|error| {
            format!(
                "{error} (or make the changes through its API; `--dry-run` and `export` need no \
                 stop, and on PostgreSQL neither does an import)"
            )
        });
        Ok(Some(lock?))
    }

    async fn carry_out(&self, plan: Plan, import: Import) -> Result<(), Box<dyn Error>> {
        let makes_tokens = plan.makes_tokens();
        let tokens = import.tokens.filter(|_| makes_tokens);
        let mut file = tokens.as_deref().map(tokens_file).transpose()?;
        let bar = progress(plan.steps());
        let metadata = self.metadata(import.reason)?;
        let running = self.opened.start(Vec::new());
        let done = plan
            .carry_out(&running.bus, &metadata, || bar.inc(1), |it| tell(file.as_mut(), it))
            .await;
        running.stop(STOP_PATIENCE).await;
        bar.finish_and_clear();
        print(&done?.to_string())?;
        match tokens {
            Some(path) => print(&format!("The new gateways' tokens are in {}", path.display())),
            None if makes_tokens => print(
                "Nobody has seen the new gateways' tokens: rotate a gateway's token to get one \
                 (POST /api/v1/admin/gateways/{id}/rotate-token), or import with --tokens",
            ),
            None => Ok(()),
        }
    }

    fn metadata(&self, reason: Option<String>) -> Result<Metadata, Box<dyn Error>> {
        let today = self.clock.now().date_naive();
        let mut metadata = Metadata::system("cli", PersonId::unknown_on(today));
        metadata.actor =
            Actor { kind: ActorKind::Operator, id: "cli".to_owned(), label: os_user::name() };
        // All that one import does can be found by it.
        metadata.correlation_id = Some(self.entropy.uuid()?.to_string());
        let reason = reason.unwrap_or_else(|| "gatekey-server import".to_owned());
        metadata.reason = Some(clip(reason, MAX_REASON));
        Ok(metadata)
    }

    async fn leave(self) {
        self.opened.db.close().await;
        self.opened.vital.close().await;
    }
}

fn progress(steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(u64::try_from(steps).unwrap_or(u64::MAX));
    bar.set_message("importing");
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    bar
}

fn tokens_file(path: &Path) -> Result<File, String> {
    let open = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    open.map_err(|error| {
        let path = path.display();
        match error.kind() {
            ErrorKind::AlreadyExists => {
                format!("{path} is there already, and tokens are written to a new file only")
            }
            _ => format!("{path} can't be written: {error}"),
        }
    })
}

fn tell(file: Option<&mut File>, token: &Token) -> io::Result<()> {
    let Some(file) = file else { return Ok(()) };
    writeln!(file, "{}\t{}\t{}", token.name, token.id, token.token.expose())?;
    file.sync_data()
}

fn read(path: &Path) -> io::Result<String> {
    let input: Box<dyn Read> = if path == Path::new(STANDARD) {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(path)?)
    };
    let mut text = String::new();
    input.take(MAX_FILE + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_FILE {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it has more than {} MiB", MAX_FILE >> 20),
        ));
    }
    Ok(text)
}

/// Writes a file whole or not at all.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let mut draft = path.as_os_str().to_owned();
    draft.push(".part");
    let mut file = File::create(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&draft, path)
}
