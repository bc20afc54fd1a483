//! A mesh hub's OpenVPN server: its configuration file and what it keeps about each spoke.
//!
//! A hub is stock OpenVPN and no agent, so everything that decides who comes in stands here: only
//! certificates whose common name begins with the hub's id (all servers share one authority), and
//! none that is on the revocation list.

use super::crypto_profile::suite;
use gatekey_aggregates::values::{
    Cidr, CommonName, CryptoProfile, MeshHubId, Transport, VpnSubnet,
};
use ipnet::{IpNet, Ipv6Net};
use ring::digest;
use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;

/// Where the files lie that the configuration names, beside it.
pub mod files {
    /// The authority's certificate.
    pub const CA: &str = "ca.crt";
    /// The server's certificate.
    pub const CERTIFICATE: &str = "server.crt";
    /// The server's key.
    pub const KEY: &str = "server.key";
    /// The `tls-auth` key.
    pub const TLS_AUTH: &str = "ta.key";
    /// The revocation list.
    pub const CRL: &str = "crl.pem";
    /// The directory of what is kept about each spoke.
    pub const CLIENT_CONFIG_DIR: &str = "ccd";
}

/// The common name of somebody or something at a hub begins with the hub's id, then this. No id
/// holds it.
pub const SEPARATOR: char = '.';

/// A site behind a hub.
#[derive(Clone, Debug)]
pub struct Site {
    /// Its router's common name.
    pub common_name: CommonName,
    /// The networks behind it.
    pub networks: Vec<Cidr>,
}

/// What a hub's server is configured from.
#[derive(Clone, Debug)]
pub struct HubServer {
    /// Whose server it is.
    pub hub_id: MeshHubId,
    /// OpenVPN's `port`.
    pub port: u16,
    /// OpenVPN's `proto`.
    pub transport: Transport,
    /// OpenVPN's `server`.
    pub vpn_subnet: VpnSubnet,
    /// Ciphers and digests.
    pub crypto_profile: CryptoProfile,
    /// Whether there is a `tls-auth` key.
    pub tls_auth: bool,
    /// What lies behind the hub itself.
    pub networks: Vec<Cidr>,
    /// What lies behind its spokes.
    pub sites: Vec<Site>,
}

impl HubServer {
    /// `server.conf`, for `openvpn --cd <directory> --config server.conf`.
    pub fn server_conf(&self) -> String {
        let (proto, is_udp) = match self.transport {
            Transport::Udp => ("udp", true),
            Transport::Tcp => ("tcp-server", false),
        };
        let behind_sites: BTreeSet<Cidr> =
            self.sites.iter().flat_map(|site| &site.networks).copied().collect();
        let all: BTreeSet<Cidr> = self.networks.iter().chain(&behind_sites).copied().collect();
        let subnet = self.vpn_subnet;
        let mut lines = vec![
            format!("# OpenVPN server of the GateKey mesh hub {}.", self.hub_id),
            format!("port {}", self.port),
            format!("proto {proto}"),
            "dev tun".to_owned(),
            "topology subnet".to_owned(),
            format!("server {} {}", subnet.network(), subnet.netmask()),
        ];
        if all.iter().any(|network| matches!(network.net(), IpNet::V6(_))) {
            lines.push(format!("server-ipv6 {}", ipv6_subnet(&self.hub_id)));
        }
        lines.push("keepalive 10 60".to_owned());
        if is_udp {
            lines.push("explicit-exit-notify 1".to_owned());
        }
        lines.extend([
            "persist-key".to_owned(),
            "persist-tun".to_owned(),
            format!("ca {}", files::CA),
            format!("cert {}", files::CERTIFICATE),
            format!("key {}", files::KEY),
            "dh none".to_owned(),
        ]);
        if self.tls_auth {
            lines.push(format!("tls-auth {} 0", files::TLS_AUTH));
        }
        lines.extend([
            "# Read anew at each connect: fetch it often. Without a good list nobody gets in."
                .to_owned(),
            format!("crl-verify {}", files::CRL),
            "verify-client-cert require".to_owned(),
            "remote-cert-tls client".to_owned(),
            "# All servers share one authority: only certificates of this hub may come in."
                .to_owned(),
            format!("verify-x509-name {}{SEPARATOR} name-prefix", self.hub_id),
        ]);
        lines.extend(suite(self.crypto_profile).directives());
        lines.extend([
            "# Each hour everyone is checked again.".to_owned(),
            "reneg-sec 3600".to_owned(),
            "# Spokes and people reach each other through the hub.".to_owned(),
            "client-to-client".to_owned(),
            format!("client-config-dir {}", files::CLIENT_CONFIG_DIR),
        ]);
        lines.extend(behind_sites.iter().map(route));
        lines.extend(all.iter().map(|network| format!("push \"{}\"", route(network))));
        lines.extend(["status status.log 10", "status-version 3", "verb 3"].map(str::to_owned));
        text(&lines)
    }

    /// The files of the client configuration directory, by name: one for each site.
    pub fn client_config_dir(&self) -> BTreeMap<String, String> {
        self.sites
            .iter()
            .map(|site| (site.common_name.to_string(), client_config(&site.networks)))
            .collect()
    }
}

/// What the server keeps about a site: what lies behind it, and that it need not be told so.
fn client_config(networks: &[Cidr]) -> String {
    let networks: BTreeSet<&Cidr> = networks.iter().collect();
    let mut lines = Vec::new();
    for network in networks {
        lines.push(format!("i{}", route(network)));
        // OpenVPN does by itself what is needed for IPv4: it leaves out the routes of an `iroute`.
        if let IpNet::V6(_) = network.net() {
            lines.push(format!("push-remove \"{}\"", route(network)));
        }
    }
    text(&lines)
}

fn route(network: &Cidr) -> String {
    match network.net() {
        IpNet::V4(net) => format!("route {} {}", net.network(), net.netmask()),
        IpNet::V6(net) => format!("route-ipv6 {net}"),
    }
}

fn text(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line, "\n"]).collect()
}

/// The addresses that a hub's tunnel has beside its IPv4 ones, where IPv6 goes through it: a unique
/// local /64 (RFC 4193) that is always the same for the same hub.
fn ipv6_subnet(hub_id: &MeshHubId) -> Ipv6Net {
    let hash = digest::digest(&digest::SHA256, hub_id.as_str().as_bytes());
    let mut octets = [0; 16];
    octets[0] = 0xfd;
    for (octet, byte) in octets[1..6].iter_mut().zip(hash.as_ref()) {
        *octet = *byte;
    }
    Ipv6Net::new_assert(Ipv6Addr::from(octets), 64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn networks(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn server() -> HubServer {
        HubServer {
            hub_id: "hub-eu".parse().unwrap(),
            port: 1194,
            transport: Transport::Udp,
            vpn_subnet: "172.30.0.0/24".parse().unwrap(),
            crypto_profile: CryptoProfile::Compatible,
            tls_auth: true,
            networks: networks(&["10.1.0.0/16"]),
            sites: vec![Site {
                common_name: "hub-eu.spoke-b".parse().unwrap(),
                networks: networks(&["10.20.0.0/16", "10.1.0.0/16"]),
            }],
        }
    }

    #[test]
    fn a_server_reads_like_this() {
        let expected = "\
# OpenVPN server of the GateKey mesh hub hub-eu.
port 1194
proto udp
dev tun
topology subnet
server 172.30.0.0 255.255.255.0
keepalive 10 60
explicit-exit-notify 1
persist-key
persist-tun
ca ca.crt
cert server.crt
key server.key
dh none
tls-auth ta.key 0
# Read anew at each connect: fetch it often. Without a good list nobody gets in.
crl-verify crl.pem
verify-client-cert require
remote-cert-tls client
# All servers share one authority: only certificates of this hub may come in.
verify-x509-name hub-eu. name-prefix
ignore-unknown-option data-ciphers data-ciphers-fallback
data-ciphers AES-256-GCM:CHACHA20-POLY1305:AES-256-CBC
data-ciphers-fallback AES-256-CBC
cipher AES-256-CBC
auth SHA256
tls-version-min 1.2
# Each hour everyone is checked again.
reneg-sec 3600
# Spokes and people reach each other through the hub.
client-to-client
client-config-dir ccd
route 10.1.0.0 255.255.0.0
route 10.20.0.0 255.255.0.0
push \"route 10.1.0.0 255.255.0.0\"
push \"route 10.20.0.0 255.255.0.0\"
status status.log 10
status-version 3
verb 3
";
        assert_eq!(server().server_conf(), expected);
        let of_sites = server().client_config_dir();
        let berlin = "iroute 10.1.0.0 255.255.0.0\niroute 10.20.0.0 255.255.0.0\n";
        assert_eq!(of_sites, BTreeMap::from([("hub-eu.spoke-b".to_owned(), berlin.to_owned())]));
    }

    #[test]
    fn ipv6_goes_through_where_there_is_any() {
        let mut server = server();
        server.sites[0].networks = networks(&["fd00:20::/32"]);
        let conf = server.server_conf();
        assert!(conf.contains("\nserver-ipv6 fd"), "{conf}");
        assert!(conf.contains("\nroute-ipv6 fd00:20::/32\n"), "{conf}");
        assert!(conf.contains("\npush \"route-ipv6 fd00:20::/32\"\n"), "{conf}");
        assert_eq!(
            server.client_config_dir()["hub-eu.spoke-b"],
            "iroute-ipv6 fd00:20::/32\npush-remove \"route-ipv6 fd00:20::/32\"\n"
        );
        let other = "hub-us".parse().unwrap();
        assert_eq!(ipv6_subnet(&server.hub_id), ipv6_subnet(&server.hub_id));
        assert_ne!(ipv6_subnet(&server.hub_id), ipv6_subnet(&other));
        assert_eq!(ipv6_subnet(&other).addr().octets()[6..], [0; 10]);
    }

    #[test]
    fn tcp_says_no_goodbye_and_a_key_is_named_where_there_is_one() {
        let server = HubServer { transport: Transport::Tcp, tls_auth: false, ..server() };
        let conf = server.server_conf();
        assert!(conf.contains("\nproto tcp-server\n"));
        assert!(!conf.contains("explicit-exit-notify") && !conf.contains("tls-auth"), "{conf}");
    }
}
