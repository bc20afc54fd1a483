//! The write side of GateKey: aggregates that turn commands into events.
//!
//! Everything here is pure. What a decision needs (ids, times, hashes, certificates) arrives in
//! the command, so the same events always give the same state, and the same command the same
//! events. One file per aggregate holds its state, `Command`, `Event`, `Error`, `handle`, `apply`
//! and tests.

mod claims;
mod event;
mod grants;
mod metadata;
mod personal;
#[macro_use]
mod root;
pub mod values;

pub mod access_rule;
pub mod attempt;
pub mod authority;
pub mod certificate;
pub mod gateway;
pub mod geo_fence;
pub mod geo_fence_rule;
pub mod login;
pub mod mesh_hub;
pub mod network;
pub mod session;
pub mod settings;
pub mod user;

#[cfg(any(test, feature = "arbitrary"))]
pub mod arbitrary;
#[cfg(test)]
mod laws;
#[cfg(test)]
mod samples;

pub use claims::{Claim, ClaimKind, ClaimRule};
pub use event::{DecodeError, Event, Recorded, version_of};
pub use grants::Grants;
pub use metadata::{Actor, ActorKind, Credential, CredentialKind, Metadata};
pub use personal::{PersonId, Personal};
pub use root::{Fact, Refusal, RefusalKind, Root};
