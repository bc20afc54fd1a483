//! Values parsed at the edge, so that the core need not doubt them.
//!
//! Each is made by `FromStr` (and therefore by serde) or not at all; the error says in words for a
//! person what is allowed. Text that reaches a profile, a push line or a file name is one of these.

mod address;
mod certificate;
mod id;
mod names;
mod openvpn;
mod scope;
mod time;
mod token;

pub use address::{Cidr, Host, Hostname, HostnameWildcard, PortRange, VpnSubnet, canonical_ip};
pub use certificate::{CommonName, RevocationReason, Serial};
pub use id::{
    AccessRuleId, ApiKeyId, CertificateId, GatewayId, GeoFenceRuleId, LoginId, MeshHubId,
    NetworkId, SecretId, SessionId, SpokeId, UserId, VpnServerId,
};
pub use names::{Description, DisplayName, Email, GroupName, ResourceName, Role, Username, clip};
pub use openvpn::{CryptoProfile, Transport};
pub use scope::{Resource, Scope};
pub use time::{from_micros, micros};
pub use token::TokenHash;
pub(crate) use token::is_sha256_hex;

/// Why a text is not such a value, in words for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(pub String);

impl Invalid {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

/// Serde for a value whose JSON is a string and whose parser is `FromStr`.
macro_rules! string_serde {
    ($name:ident) => {
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <String as serde::Deserialize>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

/// The same, and a schema that shows an example.
macro_rules! string_value {
    ($name:ident, $example:literal) => {
        $crate::values::string_serde!($name);

        impl utoipa::PartialSchema for $name {
            fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
                utoipa::openapi::ObjectBuilder::new()
                    .schema_type(utoipa::openapi::schema::Type::String)
                    .examples([serde_json::Value::from($example)])
                    .into()
            }
        }

        impl utoipa::ToSchema for $name {}
    };
}

/// A value that is nothing but a checked string.
macro_rules! text_value {
    ($(#[$doc:meta])* $name:ident, $example:literal, |$text:ident| $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(String);

        impl $name {
            /// The text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::values::Invalid;

            fn from_str($text: &str) -> Result<Self, Self::Err> {
                let checked: Result<String, $crate::values::Invalid> = $check;
                checked.map(Self)
            }
        }

        $crate::values::string_value!($name, $example);
    };
}

pub(crate) use {string_serde, string_value, text_value};
