//! What OpenVPN is told: the client's profile, the server's settings, and what is pushed.
//!
//! Pure. Whatever lands in a line that OpenVPN reads arrives here as a parsed value, because one
//! line break too many would be another directive.

mod crypto_profile;
pub mod hub;
pub mod profile;
pub mod push;
#[cfg(test)]
mod real;
#[cfg(test)]
mod rules_jq;
mod server;
mod tls_auth;

pub use crypto_profile::{Suite, suite};
pub use hub::{HubServer, Site};
pub use profile::{ClientKey, Profile, ProfilePassword};
pub use push::Push;
pub use server::{ServerSettings, config_version};
pub use tls_auth::TlsAuthKey;
