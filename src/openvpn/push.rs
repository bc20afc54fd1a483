//! What a client is told when it connects: the lines of OpenVPN's per-client configuration.

use gatekey_aggregates::values::Cidr;
use ipnet::IpNet;
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What one client gets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Push<'a> {
    /// Networks that it reaches through the tunnel.
    pub routes: &'a [Cidr],
    /// Whether all its traffic goes through the tunnel.
    pub full_tunnel: bool,
    /// Whom it asks for names; empty: whomever it asks anyway.
    pub dns_servers: &'a [IpAddr],
}

impl Push<'_> {
    /// The lines, each complete: OpenVPN takes a bad one for a warning and lets the client in.
    pub fn client_config(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if self.full_tunnel {
            lines.push(push("redirect-gateway def1 bypass-dhcp"));
        }
        // Sorted and without repeats: the same networks always give the same lines.
        for network in self.routes.iter().collect::<BTreeSet<_>>() {
            lines.push(match network.net() {
                IpNet::V4(net) => push(&format!("route {} {}", net.network(), net.netmask())),
                IpNet::V6(net) => push(&format!("route-ipv6 {net}")),
            });
        }
        for server in self.dns_servers {
            lines.push(push(&format!("dhcp-option DNS {}", server.to_canonical())));
        }
        lines
    }
}

/// The only refusal at connect that every agent obeys.
pub fn refusal() -> Vec<String> {
    vec!["disable".to_owned()]
}

fn push(option: &str) -> String {
    format!("push \"{option}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_are_pushed_once_and_in_openvpns_notation() {
        let cidr = |text: &str| text.parse::<Cidr>().unwrap();
        let routes = [
            cidr("fd00:1::/32"),
            cidr("192.168.7.9/32"),
            cidr("10.0.0.0/8"),
            cidr("192.168.7.9/32"),
        ];
        let push = Push { routes: &routes, ..Push::default() };
        assert_eq!(
            push.client_config(),
            [
                r#"push "route 10.0.0.0 255.0.0.0""#,
                r#"push "route 192.168.7.9 255.255.255.255""#,
                r#"push "route-ipv6 fd00:1::/32""#,
            ]
        );
    }

    #[test]
    fn a_full_tunnel_and_name_servers_are_pushed() {
        let servers = ["10.0.0.53".parse().unwrap(), "fd00::53".parse().unwrap()];
        let push = Push { full_tunnel: true, dns_servers: &servers, ..Push::default() };
        assert_eq!(
            push.client_config(),
            [
                r#"push "redirect-gateway def1 bypass-dhcp""#,
                r#"push "dhcp-option DNS 10.0.0.53""#,
                r#"push "dhcp-option DNS fd00::53""#,
            ]
        );
    }

    #[test]
    fn nothing_to_push_is_no_line() {
        assert!(Push::default().client_config().is_empty());
        assert_eq!(refusal(), ["disable"]);
    }
}
