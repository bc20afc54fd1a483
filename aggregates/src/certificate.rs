//! A certificate that our authority issued: a person's (called a config), for one gateway or one mesh
//! hub; a gateway's or a hub's own; or a spoke's.

use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{
    CommonName, GatewayId, MeshHubId, RevocationReason, SecretId, Serial, SpokeId, TokenHash,
    UserId, VpnServerId, is_sha256_hex,
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
    /// A person, for one mesh hub.
    HubClient {
        /// Who.
        user_id: UserId,
        /// The only hub that lets it in.
        hub_id: MeshHubId,
        /// The certificate's common name: the hub's id and the person's.
        common_name: CommonName,
        /// Where the key and the profile are kept until it expires.
        bundle: SecretId,
    },
    /// A mesh hub; its id is the common name.
    HubServer {
        /// Which.
        hub_id: MeshHubId,
        /// Where the key and the certificate are kept.
        bundle: SecretId,
    },
    /// The router of a site that a mesh hub joins.
    Spoke {
        /// The only hub that lets it in.
        hub_id: MeshHubId,
        /// Which site.
        spoke_id: SpokeId,
        /// The certificate's common name: the hub's id and the spoke's.
        common_name: CommonName,
    },
}

impl Subject {
    /// The gateway or hub that it is for.
    pub fn server_id(&self) -> VpnServerId {
        match self {
            Self::Client { gateway_id, .. } | Self::Server { gateway_id, .. } => {
                VpnServerId::Gateway(gateway_id.clone())
            }
            Self::HubClient { hub_id, .. }
            | Self::HubServer { hub_id, .. }
            | Self::Spoke { hub_id, .. } => VpnServerId::Hub(hub_id.clone()),
        }
    }

    /// The person it was issued to.
    pub fn user_id(&self) -> Option<&UserId> {
        match self {
            Self::Client { user_id, .. } | Self::HubClient { user_id, .. } => Some(user_id),
            Self::Server { .. } | Self::HubServer { .. } | Self::Spoke { .. } => None,
        }
    }

    /// Where its private parts are kept. A spoke's are handed over once, and kept nowhere.
    pub fn bundle(&self) -> Option<&SecretId> {
        match self {
            Self::Client { bundle, .. }
            | Self::Server { bundle, .. }
            | Self::HubClient { bundle, .. }
            | Self::HubServer { bundle, .. } => Some(bundle),
            Self::Spoke { .. } => None,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{adas, after, answer, at, digest, erased, value};
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};

    fn given(events: Vec<Event>) -> AggregateTestExecutor<Certificate> {
        TestFramework::with(()).given(events)
    }

    fn client(common_name: Personal<CommonName>) -> Subject {
        Subject::Client {
            user_id: value("usr-ada"),
            gateway_id: value("gw-001"),
            common_name,
            token_hash: value(&digest('a')),
            bundle: value("sec-bundle"),
        }
    }

    fn server() -> Subject {
        Subject::Server { gateway_id: value("gw-001"), bundle: value("sec-server") }
    }

    fn hub_client() -> Subject {
        Subject::HubClient {
            user_id: value("usr-ada"),
            hub_id: value("hub-eu"),
            common_name: value("hub-eu.usr-ada"),
            bundle: value("sec-mesh"),
        }
    }

    fn hub_server() -> Subject {
        Subject::HubServer { hub_id: value("hub-eu"), bundle: value("sec-hub") }
    }

    fn spoke() -> Subject {
        Subject::Spoke {
            hub_id: value("hub-eu"),
            spoke_id: value("spoke-b"),
            common_name: value("hub-eu.spoke-b"),
        }
    }

    fn issuance() -> Issuance {
        Issuance {
            subject: client(adas("ada@example.com")),
            serial: value("5A:0F:3C"),
            not_before: at(0),
            not_after: at(86_400),
            fingerprint: digest('f'),
        }
    }

    #[tokio::test]
    async fn it_is_issued_once() {
        for subject in [client(erased()), server(), hub_client(), hub_server(), spoke()] {
            let issuance = Issuance { subject, ..issuance() };
            given(vec![])
                .when_async(Command::Issue(issuance.clone()))
                .await
                .then_expect_events(vec![Event::Issued(issuance.clone())]);
            given(vec![Event::Issued(issuance.clone())])
                .when_async(Command::Issue(issuance))
                .await
                .then_expect_error(Error::AlreadyIssued);
        }
    }

    #[tokio::test]
    async fn a_certificate_that_makes_no_sense_is_refused() {
        let wrong = [
            (Issuance { serial: value("00"), ..issuance() }, Error::SerialZero),
            (Issuance { not_after: at(0), ..issuance() }, Error::NeverValid),
            (Issuance { fingerprint: "f00".to_owned(), ..issuance() }, Error::Fingerprint),
            (Issuance { fingerprint: digest('F'), ..issuance() }, Error::Fingerprint),
        ];
        for (wrong, error) in wrong {
            given(vec![]).when_async(Command::Issue(wrong)).await.then_expect_error(error);
        }
    }

    #[tokio::test]
    async fn it_is_revoked_once_and_the_first_reason_stays() {
        let revoked = Event::Revoked { reason: RevocationReason::KeyCompromise };
        given(vec![Event::Issued(issuance())])
            .when_async(Command::Revoke(RevocationReason::KeyCompromise))
            .await
            .then_expect_events(vec![revoked.clone()]);
        given(vec![Event::Issued(issuance()), revoked])
            .when_async(Command::Revoke(RevocationReason::Superseded))
            .await
            .then_expect_events(vec![]);
        given(vec![])
            .when_async(Command::Revoke(RevocationReason::Unspecified))
            .await
            .then_expect_error(Error::NotFound);
    }

    #[test]
    fn it_claims_its_serial_for_ever() {
        let serial = [Claim::new(ClaimKind::CertificateSerial, "5a0f3c")];
        let revoked = Event::Revoked { reason: RevocationReason::Unspecified };
        let nobody = Issuance { subject: client(erased()), ..issuance() };
        assert_eq!(after::<Certificate>([Event::Issued(issuance())]).claims("cfg-abc"), serial);
        let both: Certificate = after([Event::Issued(nobody), revoked]);
        assert!(both.exists());
        assert_eq!(both.claims("cfg-abc"), serial);
        assert_eq!(Certificate::default().claims("cfg-abc"), []);
    }

    #[test]
    fn a_subject_tells_its_server_its_person_and_its_bundle() {
        let gateway = VpnServerId::Gateway(value("gw-001"));
        let hub = VpnServerId::Hub(value("hub-eu"));
        let ada: UserId = value("usr-ada");
        for (subject, server_id, user_id, bundle) in [
            (client(erased()), &gateway, Some(&ada), Some("sec-bundle")),
            (server(), &gateway, None, Some("sec-server")),
            (hub_client(), &hub, Some(&ada), Some("sec-mesh")),
            (hub_server(), &hub, None, Some("sec-hub")),
            (spoke(), &hub, None, None),
        ] {
            assert_eq!((&subject.server_id(), subject.user_id()), (server_id, user_id));
            assert_eq!(subject.bundle().map(SecretId::as_str), bundle);
        }
    }

    #[test]
    fn what_was_written_before_there_were_hubs_is_read() {
        let old = serde_json::json!({
            "server": {"gateway_id": "gw-001", "bundle": "sec-server"},
        });
        assert_eq!(serde_json::from_value::<Subject>(old).unwrap(), server());
    }

    #[test]
    fn refusals_are_answered_by_code_kind_and_field() {
        use RefusalKind::{Conflict, Invalid, NotFound};
        let (serial, fingerprint) = (Some("serial"), Some("fingerprint"));
        assert_eq!(answer(&Error::NotFound), ("certificate_not_found", NotFound, None));
        assert_eq!(answer(&Error::AlreadyIssued), ("certificate_exists", Conflict, None));
        assert_eq!(answer(&Error::SerialZero), ("invalid_certificate", Invalid, serial));
        assert_eq!(answer(&Error::NeverValid), ("invalid_certificate", Invalid, Some("not_after")));
        assert_eq!(answer(&Error::Fingerprint), ("invalid_certificate", Invalid, fingerprint));
    }
}
