//! Claims: facts that must hold across streams, such as a name that only one gateway may bear.
//!
//! A state lists what it claims ([`crate::Root::claims`]); the log writer checks the difference
//! under its lock and refuses what is taken.

use serde::{Deserialize, Serialize};

/// What is claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClaimKind {
    /// The one certificate authority.
    Authority,
    /// A gateway's name.
    GatewayName,
    /// A mesh hub's name.
    MeshHubName,
    /// The addresses a gateway (or hub) gives to its clients.
    VpnSubnet,
    /// A user's name, lower-cased.
    Username,
    /// A user's e-mail, lower-cased.
    UserEmail,
    /// An active admin: the key is the user id. One must always be left.
    ActiveAdmin,
    /// A network's name.
    NetworkName,
    /// A network's addresses.
    NetworkCidr,
    /// An access rule's name.
    AccessRuleName,
    /// The name of a rule of the geo-fence.
    GeoFenceRuleName,
    /// A certificate's serial, as lower-case hex without leading zeros.
    CertificateSerial,
    /// A VPN address in use: `<gateway id>/<address>`; held by the open session.
    VpnAddress,
}

/// What the log writer checks for a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimRule {
    /// A key has one owner.
    Unique,
    /// Keys are CIDRs, and no two overlap.
    Disjoint,
    /// A key has one owner, and the last one can't be released.
    NeverEmpty,
}

impl ClaimKind {
    /// The rule that the log writer applies.
    pub fn rule(self) -> ClaimRule {
        match self {
            Self::VpnSubnet | Self::NetworkCidr => ClaimRule::Disjoint,
            Self::ActiveAdmin => ClaimRule::NeverEmpty,
            _ => ClaimRule::Unique,
        }
    }

    /// As stored in the `kind` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authority => "authority",
            Self::GatewayName => "gateway_name",
            Self::MeshHubName => "mesh_hub_name",
            Self::VpnSubnet => "vpn_subnet",
            Self::Username => "username",
            Self::UserEmail => "user_email",
            Self::ActiveAdmin => "active_admin",
            Self::NetworkName => "network_name",
            Self::NetworkCidr => "network_cidr",
            Self::AccessRuleName => "access_rule_name",
            Self::GeoFenceRuleName => "geo_fence_rule_name",
            Self::CertificateSerial => "certificate_serial",
            Self::VpnAddress => "vpn_address",
        }
    }

    /// The request field that a taken claim speaks of.
    pub fn field(self) -> &'static str {
        match self {
            Self::GatewayName
            | Self::MeshHubName
            | Self::NetworkName
            | Self::AccessRuleName
            | Self::GeoFenceRuleName => "name",
            Self::VpnSubnet => "vpn_subnet",
            Self::Username => "username",
            Self::UserEmail => "email",
            Self::ActiveAdmin => "role",
            Self::NetworkCidr => "cidr",
            Self::CertificateSerial => "serial",
            Self::VpnAddress => "vpn_ip",
            Self::Authority => "authority",
        }
    }
}

/// One claim of one stream.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Claim {
    /// What is claimed.
    pub kind: ClaimKind,
    /// The value that is claimed.
    pub key: String,
}

impl Claim {
    /// A claim of `key`.
    pub fn new(kind: ClaimKind, key: impl Into<String>) -> Self {
        Self { kind, key: key.into() }
    }
}
