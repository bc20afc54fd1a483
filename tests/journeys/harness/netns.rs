//! Network namespaces: a client, a gateway and a private network behind it, apart from this machine's own network.
//!
//! ```text
//!  client                gateway                     private
//!  198.51.100.2 ──wan── 198.51.100.1
//!                       10.77.0.1  ──lan── 10.77.0.10, 10.77.0.20
//!                       127.0.0.1:…  (a relay to the server under test)
//! ```

use super::epilogue::Epilogue;
use rustix::net::Shutdown;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// The gateway's address for clients.
pub const GATEWAY_WAN: &str = "198.51.100.1";
/// The network behind the gateway.
pub const PRIVATE_NET: &str = "10.77.0.0/24";
/// The gateway's address in it.
pub const GATEWAY_LAN: &str = "10.77.0.1";
/// Its two hosts' addresses.
pub const PRIVATE_HOSTS: [&str; 2] = ["10.77.0.10", "10.77.0.20"];

/// Why this machine can't run a test with namespaces and tunnels; none: it can. CI always can, or fails.
pub fn lacking() -> Option<&'static str> {
    let lacking = if !rustix::process::geteuid().is_root() {
        "needs root"
    } else if !std::path::Path::new("/dev/net/tun").exists() {
        "needs /dev/net/tun"
    } else {
        return None;
    };
    assert!(std::env::var_os("CI").is_none(), "CI must have what this test lacks: it {lacking}");
    Some(lacking)
}

/// The three namespaces of one test, with everything in them, until it is dropped.
pub struct Lab {
    /// Where the VPN client runs.
    pub client: Netns,
    /// Where the OpenVPN server runs.
    pub gateway: Netns,
    /// The hosts to be reached, or not.
    pub private: Netns,
    _epilogue: Epilogue,
}

impl Lab {
    /// Makes them.
    pub fn new() -> Self {
        let ([client, gateway, private], epilogue) = namespaces(["client", "gateway", "private"]);
        connect(&client, &gateway, "wan", "198.51.100.2/24", "198.51.100.1/24");
        connect(&private, &gateway, "lan", "10.77.0.10/24", "10.77.0.1/24");
        ip(&format!("-n {} address add 10.77.0.20/24 dev lan", private.name));
        // Answers to VPN addresses go back through the gateway.
        ip(&format!("-n {} route add default via {GATEWAY_LAN}", private.name));
        gateway.run("echo 1 > /proc/sys/net/ipv4/ip_forward");
        Self { client, gateway, private, _epilogue: epilogue }
    }
}

/// A mesh: a hub, a person who dials it, and a site that is joined to it.
///
/// ```text
///  member         hub             spoke                           site
///  198.51.100.2   198.51.100.1    198.51.100.3
///       └──────────wan─┴──────────────┘
///                                 10.88.0.1, fd00:88::1 ──lan── 10.88.0.10, fd00:88::10
/// ```
pub struct MeshLab {
    /// Where a person's VPN client runs.
    pub member: Netns,
    /// Where the hub's OpenVPN server runs.
    pub hub: Netns,
    /// The site's router: an OpenVPN client of the hub.
    pub spoke: Netns,
    /// A host at the site.
    pub site: Netns,
    _epilogue: Epilogue,
}

/// The hub's address for everybody.
pub const HUB_WAN: &str = "198.51.100.1";
/// The networks of the site.
pub const SITE_NETS: [&str; 2] = ["10.88.0.0/24", "fd00:88::/64"];
/// The addresses of its host.
pub const SITE_HOST: [&str; 2] = ["10.88.0.10", "fd00:88::10"];

impl MeshLab {
    /// Makes it.
    pub fn new() -> Self {
        let ([member, hub, spoke, site], epilogue) = namespaces(["member", "hub", "spoke", "site"]);
        ip(&format!("-n {} link add wan type bridge", hub.name));
        ip(&format!("-n {} address add {HUB_WAN}/24 dev wan", hub.name));
        ip(&format!("-n {} link set wan up", hub.name));
        for (netns, address) in [(&member, "198.51.100.2/24"), (&spoke, "198.51.100.3/24")] {
            plug(netns, &hub, "wan", address);
        }
        connect(&site, &spoke, "lan", "10.88.0.10/24", "10.88.0.1/24");
        for (netns, address) in [(&site, "fd00:88::10/64"), (&spoke, "fd00:88::1/64")] {
            // Nobody else has it: no need to wait until that is found out.
            ip(&format!("-n {} address add {address} dev lan nodad", netns.name));
        }
        ip(&format!("-n {} route add default via 10.88.0.1", site.name));
        ip(&format!("-n {} -6 route add default via fd00:88::1", site.name));
        spoke.run(
            "echo 1 > /proc/sys/net/ipv4/ip_forward; \
             echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
        );
        Self { member, hub, spoke, site, _epilogue: epilogue }
    }
}

/// A namespace for each role, and what removes them all in the end.
fn namespaces<const N: usize>(roles: [&str; N]) -> ([Netns; N], Epilogue) {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("gk-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed));
    let all = roles.map(|role| Netns { name: format!("{prefix}-{role}") });
    let names: Vec<&str> = all.iter().map(|netns| netns.name.as_str()).collect();
    // The clean-up stands before there is anything to clean up.
    let epilogue = Epilogue::new(&[], &clean_up(&names.join(" ")));
    for name in names {
        ip(&format!("netns add {name}"));
        ip(&format!("-n {name} link set lo up"));
    }
    (all, epilogue)
}

/// Ends what runs in the namespaces, then removes them, and with them their devices.
fn clean_up(names: &str) -> String {
    format!(
        "for netns in {names}; do \
           ip netns pids $netns | xargs -r kill -KILL; ip netns del $netns; \
         done"
    )
}

fn connect(a: &Netns, b: &Netns, device: &str, a_address: &str, b_address: &str) {
    let (a, b) = (&a.name, &b.name);
    ip(&format!("link add {device} netns {a} type veth peer name {device} netns {b}"));
    for (netns, address) in [(a, a_address), (b, b_address)] {
        ip(&format!("-n {netns} address add {address} dev {device}"));
        ip(&format!("-n {netns} link set {device} up"));
    }
}

/// Connects to a bridge that is called `device`, as is the near end.
fn plug(netns: &Netns, bridge: &Netns, device: &str, address: &str) {
    let (near, far) = (&netns.name, &bridge.name);
    // A device's name has at most 15 characters.
    let port = format!("port{}", near.rsplit('-').next().unwrap_or_default());
    ip(&format!("link add {device} netns {near} type veth peer name {port} netns {far}"));
    ip(&format!("-n {far} link set {port} master {device} up"));
    ip(&format!("-n {near} address add {address} dev {device}"));
    ip(&format!("-n {near} link set {device} up"));
}

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("iproute2");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
}

/// One network namespace.
pub struct Netns {
    name: String,
}

impl Netns {
    /// A command that will run inside, and end with the thread that starts it.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "ip", "netns", "exec", &self.name, program]);
        command
    }

    /// Runs a shell script inside; it must succeed. Gives its standard output.
    pub fn run(&self, script: &str) -> String {
        self.try_run(script).unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// The same, where failing is an answer: its standard error.
    pub fn try_run(&self, script: &str) -> Result<String, String> {
        let output = self.command("sh").args(["-c", script]).output().expect("a shell");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
    }

    /// Whether `address` answers one ping within a second.
    pub fn pings(&self, address: &str) -> bool {
        self.try_run(&format!("ping -c 1 -W 1 {address}")).is_ok()
    }

    /// What a TCP server at `address` says to who connects from here, within a second.
    pub fn hears(&self, address: SocketAddr) -> std::io::Result<String> {
        self.inside(move || {
            let bound = Duration::from_secs(1);
            let mut stream = TcpStream::connect_timeout(&address, bound)?;
            stream.set_read_timeout(Some(bound))?;
            let mut said = String::new();
            stream.read_to_string(&mut said)?;
            Ok(said)
        })
    }

    /// A TCP server inside that says its own address to whoever connects.
    pub fn says_its_address(&self, address: SocketAddr) -> Service {
        self.serve(address, move |mut stream| {
            let _ = stream.write_all(address.to_string().as_bytes());
        })
    }

    /// A port of this namespace's loopback that leads to `target` outside: how hooks reach the
    /// server under test, which listens on this machine's own loopback.
    pub fn relay(&self, target: SocketAddr) -> Service {
        self.serve(SocketAddr::from(([127, 0, 0, 1], 0)), move |near| {
            // A socket stays in the namespace it was made in, whichever thread uses it; this
            // thread is outside.
            let Ok(far) = TcpStream::connect(target) else { return };
            let (Ok(near_half), Ok(far_half)) = (near.try_clone(), far.try_clone()) else { return };
            let back = std::thread::spawn(move || pass(far_half, near_half));
            pass(near, far);
            let _ = back.join();
        })
    }

    fn serve(
        &self,
        address: SocketAddr,
        answer: impl Fn(TcpStream) + Send + Sync + 'static,
    ) -> Service {
        let listener = self
            .inside(move || TcpListener::bind(address))
            .unwrap_or_else(|error| panic!("{address} in {}: {error}", self.name));
        let address = listener.local_addr().expect("its address");
        let listener = Arc::new(listener);
        let (accepting, answer) = (Arc::clone(&listener), Arc::new(answer));
        let thread = std::thread::spawn(move || {
            // Ends when the listener is shut down.
            while let Ok((stream, _)) = accepting.accept() {
                let answer = Arc::clone(&answer);
                std::thread::spawn(move || answer(stream));
            }
        });
        Service { address, listener, thread: Some(thread) }
    }

    /// Runs `work` on a thread that has entered the namespace.
    fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let path = format!("/run/netns/{}", self.name);
        let run = || {
            let namespace = File::open(&path).expect("the namespace");
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("entering the namespace");
            work()
        };
        std::thread::scope(|scope| scope.spawn(run).join().expect("the work inside"))
    }
}

/// A TCP server until it is dropped.
pub struct Service {
    /// Where it listens, inside its namespace.
    pub address: SocketAddr,
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Service {
    fn drop(&mut self) {
        // Wakes the thread out of `accept`.
        let _ = rustix::net::shutdown(&*self.listener, Shutdown::Both);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Copies one direction until its end, and passes the end on.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let _ = std::io::copy(&mut from, &mut to);
    let _ = to.shutdown(std::net::Shutdown::Write);
}
