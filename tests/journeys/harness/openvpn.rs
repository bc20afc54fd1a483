//! Real OpenVPN: a gateway as deploy/openvpn sets it up, and clients of it, each in its namespace.

use super::fixtures::{Config, Gateway};
use super::netns::{Lab, Netns, Service};
use super::server::Server;
use super::wait::wait_for;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::fs::File;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// The scripts that a gateway's owner installs, as they are.
const SCRIPTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/openvpn");

/// A handshake takes one second; a busy machine may need more.
const HANDSHAKE: Duration = Duration::from_secs(40);

/// A process that writes a log, until it is dropped.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(name: &str, mut command: Command, log: PathBuf) -> Self {
        let file = File::create(&log).expect("a log file");
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("its second handle"))
            .stderr(file)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        Self { name: name.to_owned(), child, log }
    }

    /// All that it said.
    pub fn said(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// Waits until it has said one of `wanted`, and tells which.
    pub fn says<'a>(&self, wanted: &[&'a str]) -> &'a str {
        let what = format!("{} says one of {wanted:?}", self.name);
        wait_for(&what, HANDSHAKE, || {
            let said = self.said();
            wanted.iter().find(|text| said.contains(**text)).copied()
        })
    }

    /// Asks it to end, and waits until it has.
    pub fn stop(mut self) -> String {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("its id");
        kill_process(pid, Signal::TERM).expect("SIGTERM");
        let what = format!("{} ends", self.name);
        wait_for(&what, HANDSHAKE, || self.child.try_wait().expect("its status"));
        self.said()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.said());
        }
    }
}

/// A gateway machine: OpenVPN and our scripts beside it.
pub struct GatewayMachine<'a> {
    netns: &'a Netns,
    files: TempDir,
    processes: Vec<Process>,
    _relay: Service,
}

impl<'a> GatewayMachine<'a> {
    /// Sets it up as its owner would: the address of the control plane, the token, the first
    /// heartbeat (which provisions it), the rules loop, and then OpenVPN.
    pub fn start(lab: &'a Lab, server: &Server, gateway: &Gateway) -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let relay = lab.gateway.relay(server.address);
        let settings = format!("GATEKEY_URL=http://{}\n", relay.address);
        write(&files.path().join("agent.env"), &settings);
        write(&files.path().join("token"), &gateway.token);
        let mut machine = Self { netns: &lab.gateway, files, processes: Vec::new(), _relay: relay };
        machine.heartbeat();
        machine.run("rules.sh", machine.script("rules.sh"));
        let mut openvpn = machine.netns.command("openvpn");
        openvpn.arg("--config").arg(machine.files.path().join("server.conf"));
        machine.run("openvpn server", openvpn);
        machine.openvpn().says(&["Initialization Sequence Completed"]);
        machine
    }

    /// Sends one heartbeat, with all that the script does beside it: it must succeed.
    pub fn heartbeat(&self) {
        let output = self.script("heartbeat.sh").output().expect("a shell");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "heartbeat.sh: {said}");
    }

    /// The OpenVPN server.
    pub fn openvpn(&self) -> &Process {
        self.processes.last().expect("it was started")
    }

    /// The firewall as it stands.
    pub fn firewall(&self) -> String {
        self.netns.run("nft list ruleset")
    }

    fn run(&mut self, name: &str, command: Command) {
        let log = self.files.path().join(format!("{name}.log"));
        self.processes.push(Process::start(name, command, log));
    }

    fn script(&self, name: &str) -> Command {
        let mut command = self.netns.command(&format!("{SCRIPTS}/{name}"));
        command
            .env("GATEKEY_DIR", self.files.path())
            .env("GATEKEY_RUN_DIR", self.files.path().join("run"));
        command
    }
}

/// A mesh hub's machine: stock OpenVPN, and nothing beside it.
pub struct HubMachine {
    files: TempDir,
    openvpn: Process,
}

impl HubMachine {
    /// Lays the files of a provision answer down as it says, and starts OpenVPN there.
    pub fn start(netns: &Netns, provisioned: &Value, crl: &str) -> Self {
        let files = tempfile::tempdir().expect("a temporary directory");
        let put = |name: &str, content: &Value| {
            write(&files.path().join(name), content.as_str().expect("a file's content"));
        };
        for (name, field) in [
            ("server.conf", "server_conf"),
            ("ca.crt", "ca_cert"),
            ("server.crt", "server_cert"),
            ("server.key", "server_key"),
            ("ta.key", "tls_auth_key"),
        ] {
            put(name, &provisioned[field]);
        }
        std::fs::create_dir(files.path().join("ccd")).expect("a directory");
        for (name, content) in provisioned["client_config_dir"].as_object().expect("files") {
            put(&format!("ccd/{name}"), content);
        }
        write(&files.path().join("crl.pem"), crl);
        let mut command = netns.command("openvpn");
        command.arg("--cd").arg(files.path()).args(["--config", "server.conf"]);
        let openvpn = Process::start("openvpn hub", command, files.path().join("openvpn.log"));
        openvpn.says(&["Initialization Sequence Completed"]);
        Self { files, openvpn }
    }

    /// Its OpenVPN server.
    pub fn openvpn(&self) -> &Process {
        &self.openvpn
    }

    /// Has it look at another revocation list from now on.
    pub fn put_crl(&self, crl: &str) {
        write(&self.files.path().join("crl.pem"), crl);
    }
}

/// A person's machine, with a profile.
pub struct Client<'a> {
    netns: &'a Netns,
    profile: TempDir,
}

impl<'a> Client<'a> {
    /// With that config.
    pub fn new(lab: &'a Lab, config: &Config) -> Self {
        Self::at(&lab.client, &config.profile)
    }

    /// A machine there, with that profile.
    pub fn at(netns: &'a Netns, text: &str) -> Self {
        let profile = tempfile::tempdir().expect("a temporary directory");
        write(&profile.path().join("client.ovpn"), text);
        Self { netns, profile }
    }

    /// Dials; what comes of it stands in the log.
    pub fn dial(&self) -> Process {
        let mut command = self.netns.command("openvpn");
        // The second device of a namespace would be tun1; every client here is alone.
        command.arg("--config").arg(self.profile.path().join("client.ovpn"));
        command.args(["--dev", "tun0", "--dev-type", "tun"]);
        Process::start("openvpn client", command, self.profile.path().join("client.log"))
    }

    /// Dials, and is in. Everything behind the gateway is routed into the tunnel, so that what is
    /// not reached was stopped there.
    pub fn gets_in(&self) -> Process {
        let tunnel = self.dial();
        tunnel.says(&["Initialization Sequence Completed"]);
        self.netns.run(&format!("ip route replace {} dev tun0", super::netns::PRIVATE_NET));
        tunnel
    }
}

/// A file that only its owner reads.
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
    let mode = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(path, mode).expect("its mode");
}
