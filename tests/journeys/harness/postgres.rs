//! PostgreSQL for tests: the one that `GATEKEY_TEST_POSTGRES_URL` names, else a private one from Debian's binaries.

use super::epilogue::Epilogue;
use sqlx::{Connection, PgConnection};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names an own PostgreSQL, such as `postgres://postgres@127.0.0.1:5432/postgres`, whose user may create databases.
const URL: &str = "GATEKEY_TEST_POSTGRES_URL";

/// Where databases are made: the URL of its maintenance database, and the private cluster behind it.
pub struct Postgres {
    url: String,
    cluster: Option<Cluster>,
}

impl Postgres {
    /// The one that all tests of this process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| match std::env::var(URL) {
            Ok(url) if !url.is_empty() => Self { url, cluster: None },
            _ => Self::own(),
        })
    }

    /// A private one, for tests that stop it.
    pub fn own() -> Self {
        let cluster = Cluster::new();
        Self { url: cluster.url(), cluster: Some(cluster) }
    }

    /// The cluster, where it is ours to stop.
    pub fn cluster(&self) -> &Cluster {
        self.cluster.as_ref().expect("this PostgreSQL was started by the tests")
    }

    /// A new, empty database.
    pub fn empty_database(&self) -> Database {
        self.create_database("")
    }

    /// Drops `database`, which a static holds, at the end of the process. A private cluster goes
    /// with all that is in it.
    pub fn drop_at_exit(&self, database: &Database) -> Option<Epilogue> {
        let (url, name) = (&self.url, &database.name);
        let script = format!("psql '{url}' -c 'DROP DATABASE {name} WITH (FORCE)'");
        self.cluster.is_none().then(|| Epilogue::new(&[], &script))
    }

    /// A copy of a database that nobody is connected to.
    pub fn copy_of(&self, template: &Database) -> Database {
        self.create_database(&format!("TEMPLATE {}", template.name))
    }

    fn create_database(&self, options: &str) -> Database {
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "gatekey_test_{}_{}",
            std::process::id(),
            COUNTER.fetch_add(1, Ordering::Relaxed)
        );
        execute(&self.url, &format!("CREATE DATABASE {name} {options}"));
        Database { url: with_database(&self.url, &name), maintenance_url: self.url.clone(), name }
    }
}

/// A database of one test, dropped with it.
pub struct Database {
    name: String,
    /// What `GATEKEY_DATABASE_URL` takes.
    pub url: String,
    maintenance_url: String,
}

impl Drop for Database {
    fn drop(&mut self) {
        let statement = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // A test may have stopped the cluster; then the database goes with its files.
        let _ = try_execute(&self.maintenance_url, &statement);
    }
}

/// Runs one statement, from async code too: on a thread and a connection of its own.
pub fn execute(url: &str, statement: &str) {
    try_execute(url, statement).unwrap_or_else(|error| panic!("{statement}: {error}"));
}

fn try_execute(url: &str, statement: &str) -> Result<(), sqlx::Error> {
    std::thread::scope(|scope| {
        let run = || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let mut connection = PgConnection::connect(url).await?;
                sqlx::raw_sql(statement).execute(&mut connection).await?;
                connection.close().await
            })
        };
        scope.spawn(run).join().expect("the statement's thread")
    })
}

/// The same server, another database.
fn with_database(url: &str, name: &str) -> String {
    let (address, options) = url.split_once('?').map_or((url, None), |(a, o)| (a, Some(o)));
    let host = address.find("://").map_or(0, |at| at + 3);
    let end = address[host..].find('/').map_or(address.len(), |at| host + at);
    let options = options.map(|o| format!("?{o}")).unwrap_or_default();
    format!("{}/{name}{options}", &address[..end])
}

/// A PostgreSQL cluster of our own, gone with the test process.
pub struct Cluster {
    directory: PathBuf,
    binaries: PathBuf,
    port: u16,
    // Last: stops the cluster and removes its files.
    _epilogue: Epilogue,
}

impl Cluster {
    /// initdb, a free port, and a first start.
    fn new() -> Self {
        let binaries = newest_binaries();
        let directory = tempfile::Builder::new()
            .prefix("gatekey-postgres-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        if rustix::process::geteuid().is_root() {
            succeed(Command::new("chown").arg("postgres:").arg(&directory));
        }
        let script = format!(
            "{}/pg_ctl -D {dir}/data -m immediate -w stop; rm -rf {dir}",
            binaries.display(),
            dir = directory.display()
        );
        let cluster =
            Self { directory, binaries, port: 0, _epilogue: Epilogue::new(as_postgres(), &script) };
        let data = cluster.data();
        // The lasting settings: durable as by default (crash tests count on it), small, and private.
        succeed(cluster.command("initdb").arg("-D").arg(&data).args(
            "--no-sync --auth=trust --username=postgres --encoding=UTF8 --locale=C".split(' '),
        ));
        cluster.start_on_a_free_port()
    }

    fn start_on_a_free_port(mut self) -> Self {
        let mut last = String::new();
        for _ in 0..5 {
            // Free now; should another take it before PostgreSQL does, the next one will do.
            let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
            self.port = listener.local_addr().expect("its address").port();
            drop(listener);
            match self.try_start() {
                Ok(()) => return self,
                Err(error) => last = error,
            }
        }
        panic!("the private PostgreSQL does not start: {last}");
    }

    /// The URL of the maintenance database.
    fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port)
    }

    /// Starts it again on the same port and data.
    pub fn start(&self) {
        self.try_start().unwrap_or_else(|error| panic!("PostgreSQL does not start: {error}"));
    }

    fn try_start(&self) -> Result<(), String> {
        let directory = self.directory.display();
        let options = format!(
            "-c port={} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} \
             -c shared_buffers=32MB -c max_connections=200",
            self.port
        );
        let mut command = self.command("pg_ctl");
        command.arg("-D").arg(self.data()).args(["-w", "-o", &options, "-l"]);
        let output = command.arg(self.directory.join("log")).arg("start").output().expect("pg_ctl");
        if output.status.success() {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.directory.join("log")).unwrap_or_default();
        Err(format!("{}\n{log}", told(&output)))
    }

    /// Stops it as a crash would: no checkpoint, every connection cut.
    pub fn stop_immediate(&self) {
        let mut command = self.command("pg_ctl");
        succeed(command.arg("-D").arg(self.data()).args(["-m", "immediate", "-w", "stop"]));
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn command(&self, binary: &str) -> Command {
        let path = self.binaries.join(binary);
        let mut command = match as_postgres() {
            [] => Command::new(path),
            [program, arguments @ ..] => {
                let mut command = Command::new(program);
                command.args(arguments).arg(path);
                command
            }
        };
        command.current_dir("/");
        command
    }
}

/// PostgreSQL refuses to run as root: then it runs as the user that its package made.
fn as_postgres() -> &'static [&'static str] {
    if rustix::process::geteuid().is_root() {
        &["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
    } else {
        &[]
    }
}

/// Debian keeps each major version's binaries in a directory of its own.
fn newest_binaries() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .filter_map(|entry| Some((version(&entry.path())?, entry.path().join("bin"))))
        .filter(|(_, binaries)| binaries.join("initdb").exists())
        .max();
    let (_, binaries) =
        newest.unwrap_or_else(|| panic!("no PostgreSQL: run `make setup`, or set {URL}"));
    binaries
}

fn succeed(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", told(&output));
}

fn told(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).trim().to_owned()
}
