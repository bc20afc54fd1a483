//! A certificate that our authority issued: a client's (called a config) or a gateway's.

use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{
    CommonName, GatewayId, RevocationReason, SecretId, Serial, TokenHash, UserId, is_sha256_hex,
};
use crate::{Claim, ClaimKind, Personal};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// Whom it was issued to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A person, for one gateway.
    Client {
        /// Who.
        user_id: UserId,
        /// The only gateway that lets it in.
        gateway_id: GatewayId,
        /// The certificate's common name.
        common_name: Personal<CommonName>,
        /// Hash of the config's own password.
        token_hash: TokenHash,
        /// Where the key and the profile are kept until it expires.
        bundle: SecretId,
    },
    /// A gateway; its id is the common name.
    Server {
        /// Which.
        gateway_id: GatewayId,
        /// Where the key and the certificate are kept.
        bundle: SecretId,
    },
}

impl Subject {
    /// The gateway it is for.
    pub fn gateway_id(&self) -> &GatewayId {
        match self {
            Self::Client { gateway_id, .. } | Self::Server { gateway_id, .. } => gateway_id,
        }
    }

    /// The person it was issued to.
    pub fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::Client { user_id, .. } => Some(user_id),
            Self::Server { .. } => None,
        }
    }

    /// Where its private parts are kept.
    pub fn bundle(&self) -> &SecretId {
        match self {
            Self::Client { bundle, .. } | Self::Server { bundle, .. } => bundle,
        }
    }
}

/// What was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Issuance {
    /// To whom.
    pub subject: Subject,
    /// Never 0, and never used before.
    pub serial: Serial,
    /// Valid from.
    pub not_before: DateTime<Utc>,
    /// Valid until.
    pub not_after: DateTime<Utc>,
    /// SHA-256 of the DER, as 64 lower-case hex digits.
    pub fingerprint: String,
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// None before it is issued.
    pub issued: Option<Issuance>,
    /// Why it was revoked, if it was. There is no way back.
    pub revoked: Option<RevocationReason>,
}

/// What can be asked of a certificate.
#[derive(Clone, Debug)]
pub enum Command {
    /// It was signed: make it known.
    Issue(Issuance),
    /// Never trust it again. The first reason stays.
    Revoke(RevocationReason),
}

/// What happened to a certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was issued.
    Issued(Issuance),
    /// It was revoked.
    Revoked {
        /// Why.
        reason: RevocationReason,
    },
}

/// Why a command on a certificate was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none with that id.
    #[error("there is no such certificate")]
    NotFound,
    /// The id is in use.
    #[error("this certificate was issued already")]
    AlreadyIssued,
    /// Serial 0, which RFC 5280 forbids.
    #[error("must be a positive number")]
    SerialZero,
    /// It would end before it begins.
    #[error("must be later than not_before")]
    NeverValid,
    /// Not a SHA-256 digest.
    #[error("must be a SHA-256 digest of 64 lower-case hex digits")]
    Fingerprint,
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "certificate_not_found",
            Self::AlreadyIssued => "certificate_exists",
            Self::SerialZero | Self::NeverValid | Self::Fingerprint => "invalid_certificate",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound => RefusalKind::NotFound,
            Self::AlreadyIssued => RefusalKind::Conflict,
            Self::SerialZero | Self::NeverValid | Self::Fingerprint => RefusalKind::Invalid,
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::SerialZero => Some("serial"),
            Self::NeverValid => Some("not_after"),
            Self::Fingerprint => Some("fingerprint"),
            _ => None,
        }
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Issued(_) => "certificate.issued",
            Self::Revoked { .. } => "certificate.revoked",
        }
    }
}

aggregate!(Certificate, "certificate");

impl Root for Certificate {
    fn exists(&self) -> bool {
        self.issued.is_some()
    }

    /// The serial is claimed for ever: a revocation list names nothing else.
    fn claims(&self, _id: &str) -> Vec<Claim> {
        self.issued
            .iter()
            .map(|it| Claim::new(ClaimKind::CertificateSerial, it.serial.as_str()))
            .collect()
    }
}

impl Certificate {
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        let event = match command {
            Command::Issue(issuance) => {
                if self.issued.is_some() {
                    return Err(Error::AlreadyIssued);
                }
                check(&issuance)?;
                Some(Event::Issued(issuance))
            }
            Command::Revoke(_) if self.issued.is_none() => return Err(Error::NotFound),
            Command::Revoke(reason) => self.revoked.is_none().then_some(Event::Revoked { reason }),
        };
        Ok(event.into_iter().collect())
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Issued(issuance) => self.issued = Some(issuance),
            Event::Revoked { reason } => self.revoked = Some(reason),
        }
    }
}

fn check(issuance: &Issuance) -> Result<(), Error> {
    if issuance.serial.as_str() == "0" {
        return Err(Error::SerialZero);
    }
    if issuance.not_after <= issuance.not_before {
        return Err(Error::NeverValid);
    }
    if !is_sha256_hex(&issuance.fingerprint) {
        return Err(Error::Fingerprint);
    }
    Ok(())
}
