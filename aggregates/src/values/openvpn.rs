//! OpenVPN's choices that an admin makes for a gateway.

use serde::{Deserialize, Serialize};

/// OpenVPN's `proto`.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Transport {
    /// UDP.
    #[default]
    Udp,
    /// TCP.
    Tcp,
}

impl Transport {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// A set of ciphers and digests.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum CryptoProfile {
    /// AES-256-GCM and CHACHA20-POLY1305, SHA256, ECDHE AEAD suites.
    #[default]
    Modern,
    /// AES-GCM only, SHA384.
    Fips,
    /// Also AES-256-CBC, for old clients.
    Compatible,
}

impl CryptoProfile {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Modern => "modern",
            Self::Fips => "fips",
            Self::Compatible => "compatible",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_written_as_in_json() {
        for transport in [Transport::Udp, Transport::Tcp] {
            assert_eq!(serde_json::to_value(transport).unwrap(), transport.as_str());
        }
        for profile in [CryptoProfile::Modern, CryptoProfile::Fips, CryptoProfile::Compatible] {
            assert_eq!(serde_json::to_value(profile).unwrap(), profile.as_str());
        }
    }
}
