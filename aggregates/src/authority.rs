//! The certificate authority that every certificate of ours is signed by.

use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{SecretId, is_sha256_hex};
use crate::{Claim, ClaimKind};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// The id of the one stream.
pub const ID: &str = "authority";

/// The authority's certificate, and where its key is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuer {
    /// The certificate, as PEM.
    pub certificate: String,
    /// SHA-256 of its DER, as 64 lower-case hex digits.
    pub fingerprint: String,
    /// Valid until.
    pub not_after: DateTime<Utc>,
    /// Where the private key is kept, sealed.
    pub key: SecretId,
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    /// None before first start.
    pub issuer: Option<Issuer>,
}

/// What can be asked of the authority.
#[derive(Clone, Debug)]
pub enum Command {
    /// It was made: make it known.
    Create(Issuer),
}

/// What happened to the authority.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was made.
    Created(Issuer),
}

/// Why a command on the authority was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is one.
    #[error("there is a certificate authority already")]
    AlreadyCreated,
    /// Not one PEM certificate; a private key, say, which no event may hold.
    #[error("must be one certificate as PEM, and nothing else")]
    NotOneCertificate,
    /// Not a SHA-256 digest.
    #[error("must be a SHA-256 digest of 64 lower-case hex digits")]
    Fingerprint,
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::AlreadyCreated => "authority_exists",
            Self::NotOneCertificate | Self::Fingerprint => "invalid_authority",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::AlreadyCreated => RefusalKind::Conflict,
            Self::NotOneCertificate | Self::Fingerprint => RefusalKind::Invalid,
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::AlreadyCreated => None,
            Self::NotOneCertificate => Some("certificate"),
            Self::Fingerprint => Some("fingerprint"),
        }
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Created(_) => "authority.created",
        }
    }
}

aggregate!(Authority, "authority");

impl Root for Authority {
    fn exists(&self) -> bool {
        self.issuer.is_some()
    }

    fn claims(&self, _id: &str) -> Vec<Claim> {
        self.issuer.iter().map(|_| Claim::new(ClaimKind::Authority, "active")).collect()
    }
}

impl Authority {
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        let Command::Create(issuer) = command;
        if self.issuer.is_some() {
            return Err(Error::AlreadyCreated);
        }
        if !is_one_certificate(&issuer.certificate) {
            return Err(Error::NotOneCertificate);
        }
        if !is_sha256_hex(&issuer.fingerprint) {
            return Err(Error::Fingerprint);
        }
        Ok(vec![Event::Created(issuer)])
    }

    fn evolve(&mut self, event: Event) {
        let Event::Created(issuer) = event;
        self.issuer = Some(issuer);
    }
}

/// Whether `pem` is one block, and that block a certificate.
fn is_one_certificate(pem: &str) -> bool {
    let body = pem
        .trim()
        .strip_prefix("-----BEGIN CERTIFICATE-----")
        .and_then(|rest| rest.strip_suffix("-----END CERTIFICATE-----"));
    body.is_some_and(|body| !body.trim().is_empty() && !body.contains('-'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{after, answer, at, digest, value};
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};

    fn given(events: Vec<Event>) -> AggregateTestExecutor<Authority> {
        TestFramework::with(()).given(events)
    }

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nMIIB+w==\n-----END CERTIFICATE-----\n";

    fn issuer(certificate: &str) -> Issuer {
        Issuer {
            certificate: certificate.to_owned(),
            fingerprint: digest('f'),
            not_after: at(86_400),
            key: value("sec-ca"),
        }
    }

    #[tokio::test]
    async fn it_is_created_once() {
        given(vec![])
            .when_async(Command::Create(issuer(PEM)))
            .await
            .then_expect_events(vec![Event::Created(issuer(PEM))]);
        given(vec![Event::Created(issuer(PEM))])
            .when_async(Command::Create(issuer(PEM)))
            .await
            .then_expect_error(Error::AlreadyCreated);
    }

    #[tokio::test]
    async fn it_holds_one_certificate_and_no_key() {
        let key = "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----\n";
        let empty = "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n";
        let wrong = [
            "",
            "MIIB",
            empty,
            key,
            &format!("{PEM}{key}"),
            &format!("{PEM}{key}{PEM}"),
            &format!("{PEM}{PEM}"),
        ];
        for wrong in wrong {
            given(vec![])
                .when_async(Command::Create(issuer(wrong)))
                .await
                .then_expect_error(Error::NotOneCertificate);
        }
    }

    #[tokio::test]
    async fn its_fingerprint_is_a_digest() {
        let wrong = Issuer { fingerprint: "5a:0f".to_owned(), ..issuer(PEM) };
        given(vec![])
            .when_async(Command::Create(wrong))
            .await
            .then_expect_error(Error::Fingerprint);
    }

    #[test]
    fn there_is_one_at_a_time() {
        let here: Authority = after([Event::Created(issuer(PEM))]);
        assert!(here.exists());
        assert_eq!(here.claims(ID), [Claim::new(ClaimKind::Authority, "active")]);
        assert!(!Authority::default().exists());
        assert_eq!(Authority::default().claims(ID), []);
    }

    #[test]
    fn refusals_are_answered_by_code_kind_and_field() {
        use RefusalKind::{Conflict, Invalid};
        let (certificate, fingerprint) = (Some("certificate"), Some("fingerprint"));
        assert_eq!(answer(&Error::AlreadyCreated), ("authority_exists", Conflict, None));
        assert_eq!(answer(&Error::NotOneCertificate), ("invalid_authority", Invalid, certificate));
        assert_eq!(answer(&Error::Fingerprint), ("invalid_authority", Invalid, fingerprint));
    }
}
