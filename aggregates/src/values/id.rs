//! Ids: opaque strings with a readable prefix, such as `gw-01k9…`.

use super::{Invalid, text_value};

/// Longest id: a gateway's id is also its server certificate's common name (64, RFC 5280 ub-common-name).
const MAX_LEN: usize = 64;

fn prefixed(text: &str, prefix: &str, expected: &'static str) -> Result<String, Invalid> {
    let rest = text.strip_prefix(prefix).unwrap_or_default();
    let plain = rest.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if rest.is_empty() || !plain || text.len() > MAX_LEN {
        return Err(Invalid::new(expected));
    }
    Ok(text.to_owned())
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal, $example:literal) => {
        text_value! {
            $(#[$doc])* $name, $example, |text| prefixed(text, $prefix, $name::EXPECTED)
        }

        impl $name {
            /// What every such id begins with.
            pub const PREFIX: &'static str = $prefix;

            /// What is said of one that is none.
            pub const EXPECTED: &'static str = concat!(
                "must be an id such as `",
                $prefix,
                "01k9x3`: `",
                $prefix,
                "`, then lower-case letters, digits and `-`, at most 64 in all"
            );
        }
    };
}

id!(/// A gateway. 
    GatewayId, "gw-", "gw-001");
id!(/// A user.
    UserId, "usr-", "usr-01k9x3");
id!(/// A certificate; a client's is called a config.
    CertificateId, "cfg-", "cfg-abc123");
id!(/// A VPN connection.
    SessionId, "con-", "con-01k9x3");
id!(/// A web login.
    LoginId, "ses-", "ses-01k9x3");
id!(/// A network.
    NetworkId, "net-", "net-01k9x3");
id!(/// An access rule.
    AccessRuleId, "rule-", "rule-01k9x3");
id!(/// A rule of the geo-fence.
    GeoFenceRuleId, "fence-", "fence-01k9x3");
id!(/// An API key.
    ApiKeyId, "key-", "key-01k9x3");
id!(/// A mesh hub.
    MeshHubId, "hub-", "hub-01k9x3");
id!(/// A spoke of a mesh hub.
    SpokeId, "spoke-", "spoke-01k9x3");
id!(/// A row of the secrets table.
    SecretId, "sec-", "sec-01k9x3");

/// What clients dial, by its id, which is also the common name of its certificate: every profile pins
/// it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum VpnServerId {
    /// A gateway.
    Gateway(GatewayId),
    /// A mesh hub.
    Hub(MeshHubId),
}

impl VpnServerId {
    /// The id.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Gateway(id) => id.as_str(),
            Self::Hub(id) => id.as_str(),
        }
    }
}

impl std::fmt::Display for VpnServerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_has_its_prefix_and_plain_letters() {
        assert_eq!("gw-001".parse::<GatewayId>().unwrap().as_str(), "gw-001");
        for wrong in ["", "gw-", "usr-001", "gw-A", "gw-a b", "gw-a/b", "gw-\n"] {
            assert!(wrong.parse::<GatewayId>().is_err(), "{wrong:?}");
        }
        assert!(format!("gw-{}", "a".repeat(62)).parse::<GatewayId>().is_err());
    }
}
