//! Why something could not be signed.

use super::csr::CsrError;
use super::pem::NotPem;
use crate::entropy::NoEntropy;

/// Why something could not be signed, or an authority not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The caller's certificate signing request is at fault.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// No random numbers.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The authority's certificate or key is not what it should be.
    #[error("the authority's {what} cannot be read: {source}")]
    NotPem {
        /// `certificate` or `key`.
        what: &'static str,
        /// What is wrong with it.
        source: NotPem,
    },
    /// The authority's certificate or key does not do.
    #[error("the authority cannot be used: {0}")]
    Unusable(&'static str),
    /// The key belongs to another certificate.
    #[error("the authority's key does not belong to its certificate")]
    KeyMismatch,
    /// Nothing can be issued any more.
    #[error("the authority's certificate has expired")]
    Expired,
    /// The validity asked for is none.
    #[error("a certificate must be valid for at least a second")]
    NoValidity,
    /// A time that X.509 cannot say.
    #[error("a time lies outside the years that a certificate can name")]
    TimeOutOfRange,
    /// The library refused.
    #[error("signing failed: {0}")]
    Signing(#[from] rcgen::Error),
}
