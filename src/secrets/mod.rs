//! Secrets at rest: the master key, and what it seals.
//!
//! ```text
//! master key ── seals ──► person keys ── seal ──► personal values in events and metadata
//!      └────── seals ──► the secrets table (private keys, password hashes, profiles)
//! ```

mod master_key;
mod person_key;
mod seal;
mod secret;
mod vault;

pub use master_key::{MasterKey, MasterKeyError};
pub use person_key::PersonKey;
pub use seal::{SealError, Sealer};
pub use secret::Secret;
pub use vault::{Vault, VaultError};
