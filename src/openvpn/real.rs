//! Tests that let the real `openvpn` read our profiles and shake hands by them.
//!
//! No tunnel device and no root: the server is a point-to-point one on the null device, which does
//! the whole TLS handshake. (The journeys carry traffic.)

use super::{ClientKey, Profile, ProfilePassword, TlsAuthKey, suite};
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::pki::{Issued, Issuer, KeySource, create_authority, issue_client, issue_server};
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::{CommonName, CryptoProfile, Host, Transport, VpnServerId};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

/// An `openvpn` that dies with this value.
struct OpenVpn {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
}

impl OpenVpn {
    fn start(dir: &Path, arguments: &[&str]) -> Self {
        // Debian keeps it where only root looks.
        let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap());
        let mut child = Command::new("openvpn")
            .args(arguments)
            .env("PATH", path)
            .current_dir(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines, seen: Vec::new() }
    }

    /// Waits for the first line that holds one of `wanted`, and gives that one back.
    fn waits_for<'a>(&mut self, wanted: &[&'a str]) -> &'a str {
        let until = Instant::now() + PATIENCE;
        while let Ok(line) = self.lines.recv_timeout(until - Instant::now()) {
            let found = wanted.iter().find(|it| line.contains(**it)).copied();
            self.seen.push(line);
            if let Some(found) = found {
                return found;
            }
        }
        panic!("none of {wanted:?} in:\n{}", self.seen.join("\n"));
    }

    fn said(&self, what: &str) -> bool {
        self.seen.iter().any(|line| line.contains(what))
    }
}

impl Drop for OpenVpn {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port(transport: Transport) -> (&'static str, u16) {
    let any = "127.0.0.1:0";
    match transport {
        Transport::Udp => {
            ("udp4", std::net::UdpSocket::bind(any).unwrap().local_addr().unwrap().port())
        }
        Transport::Tcp => {
            ("tcp4-server", std::net::TcpListener::bind(any).unwrap().local_addr().unwrap().port())
        }
    }
}

/// An authority, a gateway's files in a directory, and what a client's profile is made of.
struct Site {
    dir: TempDir,
    now: DateTime<Utc>,
    entropy: Entropy,
    issuer: Issuer,
    gateway: VpnServerId,
    name: CommonName,
    password: ProfilePassword,
    tls_auth: TlsAuthKey,
}

impl Site {
    fn new() -> Self {
        let clock = Clock::system();
        let (now, entropy) = (clock.now(), Entropy::system(clock));
        let made = create_authority(now, &entropy).unwrap();
        let site = Self {
            dir: tempfile::tempdir().unwrap(),
            now,
            issuer: Issuer::load(&made.certificate_pem, &made.key_pem).unwrap(),
            gateway: VpnServerId::Gateway("gw-001".parse().unwrap()),
            name: "ada+vpn@example.com".parse().unwrap(),
            password: ProfilePassword::generate(&entropy).unwrap(),
            tls_auth: TlsAuthKey::generate(&entropy).unwrap(),
            entropy,
        };
        site.put("ca.crt", site.issuer.certificate_pem());
        site.put("ta.key", site.tls_auth.as_str());
        site
    }

    fn put(&self, name: &str, contents: &str) {
        std::fs::write(self.dir.path().join(name), contents).unwrap();
    }

    /// A server that passes for `gateway`, on a free port.
    fn server(&self, gateway: &str, crypto: CryptoProfile, transport: Transport) -> (OpenVpn, u16) {
        let gateway = VpnServerId::Gateway(gateway.parse().unwrap());
        let day = TimeDelta::days(1);
        let issued = issue_server(&self.issuer, &gateway, day, self.now, &self.entropy).unwrap();
        self.put("server.crt", &issued.certificate_pem);
        self.put("server.key", &issued.key_pem.unwrap());
        // Someone else may take the free port before the server does.
        for _ in 0..5 {
            let (proto, port) = free_port(transport);
            self.put(
                "server.conf",
                &format!(
                    "dev null\ntls-server\ndh none\nlocal 127.0.0.1\nproto {proto}\nport {port}\n\
                     ca ca.crt\ncert server.crt\nkey server.key\ntls-auth ta.key 0\n\
                     remote-cert-tls client\nverb 3\n{}\n",
                    suite(crypto).directives().join("\n")
                ),
            );
            let mut server = OpenVpn::start(self.dir.path(), &["--config", "server.conf"]);
            let taken = "Socket bind failed";
            let started = ["UDPv4 link local", "Listening for incoming TCP", taken];
            if server.waits_for(&started) != taken {
                return (server, port);
            }
        }
        panic!("no free port");
    }

    fn client_certificate(&self, key: KeySource<'_>) -> Issued {
        issue_client(&self.issuer, &self.name, TimeDelta::hours(1), key, self.now, &self.entropy)
            .unwrap()
    }

    fn profile<'a>(&'a self, to: &'a Host, issued: &'a Issued) -> Profile<'a> {
        Profile {
            server_id: &self.gateway,
            host: to,
            port: 0,
            transport: Transport::Udp,
            crypto_profile: CryptoProfile::Modern,
            ca_pem: self.issuer.certificate_pem(),
            certificate_pem: &issued.certificate_pem,
            key: issued.key_pem.as_ref().map_or(ClientKey::OnDevice, |it| ClientKey::Pem(it)),
            tls_auth: Some(&self.tls_auth),
            common_name: &self.name,
            password: Some(&self.password),
            expires_at: issued.not_after,
        }
    }

    /// A client with a new certificate, on a profile that `change` may spoil.
    fn client(
        &self,
        port: u16,
        crypto_profile: CryptoProfile,
        transport: Transport,
        change: impl FnOnce(String) -> String,
    ) -> OpenVpn {
        let issued = self.client_certificate(KeySource::Generate);
        let here = "127.0.0.1".parse().unwrap();
        let profile = Profile { port, transport, crypto_profile, ..self.profile(&here, &issued) };
        self.put("client.ovpn", &change(profile.render().unwrap().to_string()));
        OpenVpn::start(self.dir.path(), &["--config", "client.ovpn", "--dev", "null"])
    }
}

const UP: &str = "Peer Connection Initiated with";
const WRONG_NAME: &str = "VERIFY X509NAME ERROR";
const NO_ANSWER: &str = "TLS key negotiation failed";
const FAILED: [&str; 4] = [WRONG_NAME, NO_ANSWER, "Options error", "Exiting due to fatal error"];

/// What the client comes to: [`UP`] or one of [`FAILED`].
fn outcome(client: &mut OpenVpn) -> &'static str {
    client.waits_for(&[UP, FAILED[0], FAILED[1], FAILED[2], FAILED[3]])
}

#[test]
fn openvpn_shakes_hands_on_every_profile() {
    let site = Site::new();
    for crypto in [CryptoProfile::Modern, CryptoProfile::Fips, CryptoProfile::Compatible] {
        for transport in [Transport::Udp, Transport::Tcp] {
            let (mut server, port) = site.server("gw-001", crypto, transport);
            let mut client = site.client(port, crypto, transport, |it| it);
            assert_eq!(outcome(&mut client), UP, "{crypto:?} {transport:?}");
            assert!(client.said("VERIFY EKU OK") && client.said("VERIFY X509NAME OK: CN=gw-001"));
            assert!(!client.said("DEPRECATED"), "{}", client.seen.join("\n"));
            server.waits_for(&["[ada+vpn@example.com] Peer Connection Initiated"]);
        }
    }
}

#[test]
fn a_client_refuses_another_gateways_certificate() {
    let site = Site::new();
    let (modern, udp) = (CryptoProfile::Modern, Transport::Udp);
    let (_server, port) = site.server("gw-002", modern, udp);
    assert_eq!(outcome(&mut site.client(port, modern, udp, |it| it)), WRONG_NAME);
    // The pin is what does it. (A point-to-point server has one peer in its life.)
    let (_server, port) = site.server("gw-002", modern, udp);
    let unpinned = |it: String| it.replace("verify-x509-name", "# verify-x509-name");
    assert_eq!(outcome(&mut site.client(port, modern, udp, unpinned)), UP);
}

#[test]
fn another_digest_at_one_end_is_no_connection() {
    let site = Site::new();
    let udp = Transport::Udp;
    let (_server, port) = site.server("gw-001", CryptoProfile::Fips, udp);
    let hasty = |it: String| format!("hand-window 3\n{it}");
    let mut client = site.client(port, CryptoProfile::Modern, udp, hasty);
    assert_eq!(outcome(&mut client), NO_ANSWER);
}

#[test]
fn openvpn_takes_a_key_on_the_device() {
    let site = Site::new();
    let (modern, udp) = (CryptoProfile::Modern, Transport::Udp);
    let (_server, port) = site.server("gw-001", modern, udp);
    // As a person would: the key is made by OpenSSL and stays in its file.
    let request = "req -new -newkey ed25519 -noenc -keyout mine.key -subj /CN=me -out mine.csr";
    let made =
        Command::new("openssl").args(request.split(' ')).current_dir(site.dir.path()).output();
    assert!(made.unwrap().status.success());
    let request = std::fs::read_to_string(site.dir.path().join("mine.csr")).unwrap();
    let issued = site.client_certificate(KeySource::Csr(&request));
    let here = "127.0.0.1".parse().unwrap();
    let profile = Profile { port, ..site.profile(&here, &issued) };
    let text = profile.render().unwrap().replace("# key /path/to/your.key", "key mine.key");
    site.put("device.ovpn", &text);
    let mut client = OpenVpn::start(site.dir.path(), &["--config", "device.ovpn", "--dev", "null"]);
    assert_eq!(outcome(&mut client), UP);
}
