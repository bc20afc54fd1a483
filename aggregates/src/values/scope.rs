//! What an API key may do: the vocabulary. What each word allows stands in the server's
//! `auth/scopes.rs`.

use super::{Invalid, string_serde};
use std::fmt;
use std::str::FromStr;

macro_rules! resources {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $writable:literal;)+) => {
        /// What a scope can be bounded to: the kinds of thing that routes read and change, as they
        /// are called in URLs.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Resource {
            $($(#[$doc])* $name,)+
        }

        impl Resource {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// As in a scope.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }

            /// Whether a scope can let it be changed. What only a login (or `*`) changes, and what
            /// nobody changes by a request, can be read at most.
            pub const fn is_writable(self) -> bool {
                match self {
                    $(Self::$name => $writable,)+
                }
            }
        }
    };
}

resources! {
    /// Why somebody may connect, or not.
    Access = "access", false;
    /// What can be reached in a network.
    AccessRules = "access-rules", true;
    /// These very keys.
    ApiKeys = "api-keys", true;
    /// VPN configurations that were generated.
    Configs = "configs", true;
    /// VPN connections.
    Connections = "connections", false;
    /// Gateways, and who and what was given to them.
    Gateways = "gateways", true;
    /// From where one may connect.
    GeoFence = "geo-fence", true;
    /// Groups, as they appear in grants and memberships.
    Groups = "groups", false;
    /// Where people sign in.
    IdentityProviders = "identity-providers", false;
    /// Mesh hubs and their spokes.
    Mesh = "mesh", true;
    /// Networks behind gateways.
    Networks = "networks", true;
    /// The certificate authority, and revocations.
    Pki = "pki", true;
    /// Web logins.
    Sessions = "sessions", true;
    /// What admins can set.
    Settings = "settings", true;
    /// People.
    Users = "users", true;
}

impl FromStr for Resource {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        Self::ALL.iter().copied().find(|it| it.as_str() == text).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|it| it.as_str()).collect();
            Invalid::new(format!("must name one of {}", all.join(", ")))
        })
    }
}

/// Something that an API key may do, as far as its owner may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// `*`: everything.
    All,
    /// `read`: read everything.
    Read,
    /// `read:<resource>`: read things of that kind.
    ReadOf(Resource),
    /// `write:<resource>`: change things of that kind, and read them.
    WriteOf(Resource),
    /// `vpn:connect`: get VPN configurations, with their keys.
    VpnConnect,
    /// `audit:read`: read who did what.
    AuditRead,
}

const READ_OF: &str = "read:";
const WRITE_OF: &str = "write:";

impl Scope {
    /// Every scope that there is, each once.
    pub fn all() -> impl Iterator<Item = Self> {
        let resources = || Resource::ALL.iter().copied();
        [Self::All, Self::Read, Self::VpnConnect, Self::AuditRead]
            .into_iter()
            .chain(resources().map(Self::ReadOf))
            .chain(resources().filter(|it| it.is_writable()).map(Self::WriteOf))
    }
}

impl FromStr for Scope {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "*" => Ok(Self::All),
            "read" => Ok(Self::Read),
            "vpn:connect" => Ok(Self::VpnConnect),
            "audit:read" => Ok(Self::AuditRead),
            _ => {
                if let Some(resource) = text.strip_prefix(READ_OF) {
                    return resource.parse().map(Self::ReadOf);
                }
                let Some(resource) = text.strip_prefix(WRITE_OF) else {
                    return Err(Invalid::new(
                        "must be `*`, `read`, `read:<resource>`, `write:<resource>`, \
                         `vpn:connect` or `audit:read`, such as `read:gateways`",
                    ));
                };
                let resource: Resource = resource.parse()?;
                if resource.is_writable() {
                    Ok(Self::WriteOf(resource))
                } else {
                    let only = resource.as_str();
                    Err(Invalid::new(format!("is none: there is only `{READ_OF}{only}`")))
                }
            }
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Read => f.write_str("read"),
            Self::ReadOf(resource) => write!(f, "{READ_OF}{}", resource.as_str()),
            Self::WriteOf(resource) => write!(f, "{WRITE_OF}{}", resource.as_str()),
            Self::VpnConnect => f.write_str("vpn:connect"),
            Self::AuditRead => f.write_str("audit:read"),
        }
    }
}

string_serde!(Scope);

impl utoipa::PartialSchema for Scope {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .description(Some(
                "What an API key may do, as far as its owner may: `*` everything; `read` read \
                 everything; `read:…` read things of that kind; `write:…` change and read them; \
                 `vpn:connect` get VPN configurations; `audit:read` read who did what.",
            ))
            .enum_values(Some(Self::all().map(|it| it.to_string())))
            .examples([serde_json::Value::from("read:gateways")])
            .into()
    }
}

impl utoipa::ToSchema for Scope {}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_scope_is_read_as_it_is_written() {
        let mut seen = BTreeSet::new();
        for scope in Scope::all() {
            let text = scope.to_string();
            assert_eq!(text.parse(), Ok(scope), "{text}");
            assert_eq!(serde_json::to_value(scope).unwrap(), text);
            assert!(seen.insert(text));
        }
        for known in ["*", "read", "read:gateways", "write:access-rules", "vpn:connect"] {
            assert!(seen.contains(known), "{known}");
        }
    }

    #[test]
    fn what_is_none_is_told_why() {
        for (text, words) in [
            ("", "must be `*`, `read`, `read:<resource>`"),
            ("READ", "must be `*`"),
            ("gateways:read", "must be `*`"),
            ("vpn", "must be `*`"),
            ("read:", "must name one of access, access-rules, "),
            ("read:*", "must name one of"),
            ("read:gateways ", "must name one of"),
            ("write:gateway", "must name one of"),
            ("write:connections", "is none: there is only `read:connections`"),
            ("write:identity-providers", "is none"),
        ] {
            let error = text.parse::<Scope>().unwrap_err();
            assert!(error.0.starts_with(words), "{text}: {error}");
        }
    }
}
