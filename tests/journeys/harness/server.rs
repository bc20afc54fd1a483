//! The server under test: the real binary, as a child that can be stopped, killed, frozen and restarted.

use super::wait::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// The first admin's password on every test server.
pub const ADMIN_PASSWORD: &str = "correct horse battery staple";

/// The master key of every test server: 32 bytes, base64.
pub const MASTER_KEY: &str = "Z2F0ZWtleSB0ZXN0cycgb3duIG1hc3RlciBrZXkgISE=";

/// A debug build on a busy machine; the promise of one second is the benchmark's to check.
const START_BOUND: Duration = Duration::from_secs(30);
const STOP_BOUND: Duration = Duration::from_secs(30);

/// A server process on a data directory and a database.
pub struct Server {
    environment: Vec<(String, String)>,
    output: TempDir,
    running: Mutex<Running>,
    /// Where it listens, also after a restart.
    pub address: SocketAddr,
}

struct Running {
    child: Child,
    /// Counts the starts: each has output files of its own.
    start: u32,
}

/// What a server said that did not come up, and how it ended.
#[derive(Debug)]
pub struct Refused {
    /// None when it was still running at the end of the wait.
    pub status: Option<ExitStatus>,
    /// Both streams.
    pub said: String,
}

impl Server {
    /// A server on `data` (and `database_url`, else SQLite inside `data`), once it listens.
    pub fn start(data: &Path, database_url: Option<&str>, more: &[(&str, &str)]) -> Self {
        Self::try_start(data, database_url, more)
            .unwrap_or_else(|refused| panic!("the server does not start: {}", refused.said))
    }

    /// The same, for a server that may refuse.
    pub fn try_start(
        data: &Path,
        database_url: Option<&str>,
        more: &[(&str, &str)],
    ) -> Result<Self, Refused> {
        let environment = environment(data, database_url, more);
        let output = tempfile::tempdir().expect("a temporary directory");
        let child = spawn(&environment, output.path(), 0);
        let mut running = Running { child, start: 0 };
        let address = wait_until_it_listens(&mut running, output.path())?;
        Ok(Self { environment, output, running: Mutex::new(running), address })
    }

    /// Runs another command of the same binary on the same data, such as `["projections", "rebuild"]`.
    pub fn command(&self, arguments: &[&str]) -> Output {
        binary(arguments, &self.environment).output().expect("the binary runs")
    }

    /// What its commands are run with.
    pub fn environment(&self) -> impl Iterator<Item = (&str, &str)> {
        self.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// `http://127.0.0.1:43211`
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(&self) -> ExitStatus {
        self.signal(Signal::TERM);
        wait_for("the server ends when asked to", STOP_BOUND, || {
            self.running().child.try_wait().expect("its status")
        })
    }

    /// Ends it as a power cut would.
    pub fn sigkill(&self) {
        let mut running = self.running();
        running.child.kill().expect("SIGKILL");
        running.child.wait().expect("its status");
    }

    /// Stops it from running without ending it: it holds whatever it holds.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets a frozen one run on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Starts it again after [`stop`](Self::stop) or [`sigkill`](Self::sigkill): same data, same address.
    pub fn start_again(&self) {
        let mut environment = self.environment.clone();
        environment.push(("GATEKEY_LISTEN".into(), self.address.to_string()));
        let mut running = self.running();
        let start = running.start + 1;
        let child = spawn(&environment, self.output.path(), start);
        *running = Running { child, start };
        if let Err(refused) = wait_until_it_listens(&mut running, self.output.path()) {
            // Unlocked first, or the panic would poison what Drop still needs.
            drop(running);
            panic!("the server does not start again: {}", refused.said);
        }
    }

    /// Stops and starts it.
    pub fn restart(&self) {
        let status = self.stop();
        assert!(status.success(), "the server ended with {status}");
        self.start_again();
    }

    /// All that it said since its last start.
    pub fn said(&self) -> String {
        said(self.output.path(), self.running().start)
    }

    /// Resident memory in KiB.
    pub fn resident_kib(&self) -> u64 {
        let path = format!("/proc/{}/status", self.running().child.id());
        let status = std::fs::read_to_string(path).expect("the server's status");
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("VmRSS");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number")
    }

    fn signal(&self, signal: Signal) {
        let id = self.running().child.id();
        let pid = i32::try_from(id).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("a signal to the server");
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut running = self.running();
        let _ = running.child.kill();
        let _ = running.child.wait();
        let start = running.start;
        drop(running);
        if std::thread::panicking() {
            for start in 0..=start {
                eprintln!("--- server {}, start {start} ---", self.address);
                eprintln!("{}", said(self.output.path(), start));
            }
        }
    }
}

fn environment(
    data: &Path,
    database_url: Option<&str>,
    more: &[(&str, &str)],
) -> Vec<(String, String)> {
    let data = data.to_str().expect("a path in UTF-8");
    let mut environment = vec![
        ("GATEKEY_LISTEN", "127.0.0.1:0"),
        ("GATEKEY_DATA_DIR", data),
        ("GATEKEY_ADMIN_PASSWORD", ADMIN_PASSWORD),
        ("GATEKEY_MASTER_KEY", MASTER_KEY),
        ("GATEKEY_RATE_LIMITS", "off"),
    ];
    environment.extend(database_url.map(|url| ("GATEKEY_DATABASE_URL", url)));
    environment.extend_from_slice(more);
    environment.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// The binary with nothing of our own `GATEKEY_…` environment. `setpriv` has the kernel end it
/// when the thread that started it ends, which is the test's.
fn binary(arguments: &[&str], environment: &[(String, String)]) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_gatekey-server")]).args(arguments);
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("GATEKEY_") {
            command.env_remove(name);
        }
    }
    command.envs(environment.iter().map(|(name, value)| (name, value)));
    command
}

fn spawn(environment: &[(String, String)], output: &Path, start: u32) -> Child {
    let file = |stream| File::create(output.join(format!("{stream}-{start}"))).expect("a file");
    binary(&["serve"], environment)
        .current_dir(output)
        .stdin(std::process::Stdio::null())
        .stdout(file("stdout"))
        .stderr(file("stderr"))
        .spawn()
        .expect("the server binary (and setpriv, of util-linux)")
}

fn wait_until_it_listens(running: &mut Running, output: &Path) -> Result<SocketAddr, Refused> {
    let since = Instant::now();
    loop {
        let stdout = read(output, "stdout", running.start);
        if let Some(address) = stdout.lines().find_map(address_in) {
            return Ok(address);
        }
        let status = running.child.try_wait().expect("the server's status");
        if status.is_some() || since.elapsed() > START_BOUND {
            let _ = running.child.kill();
            let _ = running.child.wait();
            return Err(Refused { status, said: said(output, running.start) });
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The address in `GateKey listens on http://127.0.0.1:43211`.
fn address_in(line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once("GateKey listens on ")?;
    let (_, address) = rest.split_once("://")?;
    address.split(|c: char| c.is_whitespace() || c == '/').next()?.parse().ok()
}

fn said(output: &Path, start: u32) -> String {
    read(output, "stdout", start) + &read(output, "stderr", start)
}

fn read(output: &Path, stream: &str, start: u32) -> String {
    let bytes = std::fs::read(output.join(format!("{stream}-{start}"))).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}
