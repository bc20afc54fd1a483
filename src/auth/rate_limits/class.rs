//! Which routes are counted together.

use crate::config::RateLimits;
use std::num::NonZeroU32;

/// Routes that are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// Signing in: every login, callback and ACS route. By address.
    Authentication,
    /// A gateway's heartbeat. By gateway, or by address where the token is unknown.
    Heartbeat,
    /// Generating a VPN configuration, for a gateway or a mesh hub. By user, or by address of
    /// who does not prove to be one.
    ConfigGeneration,
    /// Everything below `/admin`. By user, or by address.
    Admin,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::Authentication, Self::Heartbeat, Self::ConfigGeneration, Self::Admin];

    /// Of a route, as routes are written or as it is asked for.
    pub fn of(route: &str) -> Option<Self> {
        let path = route.strip_prefix("/api/v1/")?;
        match path {
            "gateway/heartbeat" => Some(Self::Heartbeat),
            "configs/generate" | "mesh/generate-config" => Some(Self::ConfigGeneration),
            "admin" => Some(Self::Admin),
            _ if path.starts_with("admin/") => Some(Self::Admin),
            _ if path.starts_with("auth/") => {
                let last = path.rsplit('/').next().unwrap_or_default();
                matches!(last, "login" | "callback" | "acs").then_some(Self::Authentication)
            }
            _ => None,
        }
    }

    /// As in settings, events and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Heartbeat => "heartbeat",
            Self::ConfigGeneration => "config_generation",
            Self::Admin => "admin",
        }
    }

    /// Requests a minute.
    pub fn limit(self, limits: &RateLimits) -> NonZeroU32 {
        match self {
            Self::Authentication => limits.authentication,
            Self::Heartbeat => limits.heartbeat,
            Self::ConfigGeneration => limits.config_generation,
            Self::Admin => limits.admin,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_classes_are_found_by_path() {
        use Class::{Admin, Authentication, ConfigGeneration, Heartbeat};
        for (path, class) in [
            ("/auth/local/login", Some(Authentication)),
            ("/auth/oidc/login", Some(Authentication)),
            ("/auth/oidc/callback", Some(Authentication)),
            ("/auth/saml/login", Some(Authentication)),
            ("/auth/saml/acs", Some(Authentication)),
            ("/auth/cli/login", Some(Authentication)),
            ("/auth/logout", None),
            ("/auth/session", None),
            ("/auth/sessions/{id}", None),
            ("/auth/saml/metadata", None),
            ("/gateway/heartbeat", Some(Heartbeat)),
            ("/gateway/verify", None),
            ("/gateways", None),
            ("/configs/generate", Some(ConfigGeneration)),
            ("/mesh/generate-config", Some(ConfigGeneration)),
            ("/configs/{id}", None),
            ("/admin", Some(Admin)),
            ("/admin/users/{id}", Some(Admin)),
            ("/admin/nonesuch", Some(Admin)),
            ("/administer", None),
            ("/pki/crl", None),
        ] {
            assert_eq!(Class::of(&format!("/api/v1{path}")), class, "{path}");
            assert_eq!(Class::of(path), None, "{path}");
        }
    }
}
