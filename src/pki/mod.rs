//! The certificate authority: its key, what it issues, and what it takes back.
//!
//! Pure, but for the publisher: nothing else here reads the clock, the disk or the database. Times arrive as arguments, random
//! numbers from [`Entropy`](crate::entropy::Entropy), and private keys leave in memory that is
//! wiped when dropped.

mod authority;
pub mod crl;
mod csr;
mod error;
mod issue;
#[cfg(test)]
mod openssl;
pub mod pem;
mod publisher;
mod validity;

pub use authority::{Issuer, NewAuthority, create_authority};
pub use crl::Crl;
pub use csr::{CsrError, MAX_CSR_BYTES};
pub use error::Error;
pub use issue::{Issued, KeySource, issue_client, issue_server};
pub use publisher::{CrlPublisher, PublishError, Published};
pub use validity::BACKDATING;
