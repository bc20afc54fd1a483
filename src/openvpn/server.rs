//! What shapes a gateway's OpenVPN server, and the version by which a change of it is noticed.

use gatekey_aggregates::values::{
    CryptoProfile, GatewayId, SecretId, Serial, Transport, VpnSubnet,
};
use ring::digest;

/// Raised when what an agent makes of the same settings changes, so that all reprovision.
const GENERATION: u32 = 1;

/// Everything in a provision answer that would have the server configured otherwise. What is
/// pushed to clients (routes, DNS, full tunnel) is not: it comes anew with each connect.
#[derive(Clone, Copy, Debug)]
pub struct ServerSettings<'a> {
    /// Whose server it is.
    pub gateway_id: &'a GatewayId,
    /// OpenVPN's `port`.
    pub port: u16,
    /// OpenVPN's `proto`.
    pub transport: Transport,
    /// OpenVPN's `server`.
    pub vpn_subnet: VpnSubnet,
    /// Ciphers and digests.
    pub crypto_profile: CryptoProfile,
    /// Where the `tls-auth` key is kept, while it is in use.
    pub tls_auth: Option<&'a SecretId>,
    /// SHA-256 of the authority's certificate.
    pub ca_fingerprint: &'a str,
    /// The server certificate's serial; none before the first provision.
    pub server_serial: Option<&'a Serial>,
    /// How often an admin asked for it to be fetched again.
    pub reprovisions: u64,
}

/// The version of these settings: 32 hex digits, the same for the same settings on every node and
/// in every release, and others for others.
pub fn config_version(settings: &ServerSettings<'_>) -> String {
    let ServerSettings {
        gateway_id,
        port,
        transport,
        vpn_subnet,
        crypto_profile,
        tls_auth,
        ca_fingerprint,
        server_serial,
        reprovisions,
    } = settings;
    // No value holds a line break, so no two settings give one text.
    let text = [
        format!("generation={GENERATION}"),
        format!("gateway={gateway_id}"),
        format!("port={port}"),
        format!("proto={}", transport.as_str()),
        format!("server={vpn_subnet}"),
        format!("crypto={}", crypto_profile.as_str()),
        format!("tls-auth={}", tls_auth.map_or("", SecretId::as_str)),
        format!("ca={ca_fingerprint}"),
        format!("serial={}", server_serial.map_or("", Serial::as_str)),
        format!("reprovisions={reprovisions}"),
    ]
    .join("\n");
    let hash = digest::digest(&digest::SHA256, text.as_bytes());
    hash.as_ref().iter().take(16).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_stable_and_follows_every_setting() {
        let (gateway_id, other) = ("gw-001".parse().unwrap(), "gw-002".parse().unwrap());
        let (serial, renewed) = ("5a0f".parse().unwrap(), "5a10".parse().unwrap());
        let secret = "sec-01".parse().unwrap();
        let one = ServerSettings {
            gateway_id: &gateway_id,
            port: 1194,
            transport: Transport::Udp,
            vpn_subnet: VpnSubnet::DEFAULT,
            crypto_profile: CryptoProfile::Modern,
            tls_auth: Some(&secret),
            ca_fingerprint: "ab",
            server_serial: Some(&serial),
            reprovisions: 0,
        };
        // Written down: a gateway must not reprovision because the server was upgraded.
        assert_eq!(config_version(&one), "469a0bb3af96bccecf36102fc773a336");
        let changed = [
            ServerSettings { gateway_id: &other, ..one },
            ServerSettings { port: 1195, ..one },
            ServerSettings { transport: Transport::Tcp, ..one },
            ServerSettings { vpn_subnet: VpnSubnet::DEFAULT.below(1).unwrap(), ..one },
            ServerSettings { crypto_profile: CryptoProfile::Fips, ..one },
            ServerSettings { tls_auth: None, ..one },
            ServerSettings { ca_fingerprint: "ac", ..one },
            ServerSettings { server_serial: Some(&renewed), ..one },
            ServerSettings { server_serial: None, ..one },
            ServerSettings { reprovisions: 1, ..one },
        ];
        let versions: std::collections::BTreeSet<String> =
            changed.iter().chain([&one]).map(config_version).collect();
        assert_eq!(versions.len(), changed.len() + 1);
    }
}
