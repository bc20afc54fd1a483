//! The certificate revocation list (RFC 5280, 5).

use super::validity::{BACKDATING, offset};
use super::{Error, Issuer, pem};
use chrono::{DateTime, SubsecRound, Utc};
use gatekey_aggregates::values::{RevocationReason, Serial};
use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};

/// A signed revocation list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crl {
    /// As `/pki/crl` serves it.
    pub der: Vec<u8>,
    /// As `/pki/crl.pem` serves it, and the only form that OpenVPN reads.
    pub pem: String,
    /// Its number: greater than that of every list before it.
    pub number: u64,
    /// From when it counts.
    pub this_update: DateTime<Utc>,
    /// Until when it counts. Past it, OpenVPN refuses every client.
    pub next_update: DateTime<Utc>,
}

/// Signs a list at the time `now`. Its `thisUpdate` is set [`BACKDATING`] back, because a list
/// from the future locks every client out of a gateway whose clock is slow.
pub fn sign(
    issuer: &Issuer,
    number: u64,
    now: DateTime<Utc>,
    next_update: DateTime<Utc>,
    entries: impl IntoIterator<Item = (Serial, DateTime<Utc>, RevocationReason)>,
) -> Result<Crl, Error> {
    let this_update = (now - BACKDATING).trunc_subsecs(0);
    let next_update = next_update.trunc_subsecs(0);
    let revoked_certs = entries
        .into_iter()
        .map(|(serial, revoked_at, reason)| {
            Ok(RevokedCertParams {
                serial_number: SerialNumber::from(serial.to_bytes()),
                revocation_time: offset(revoked_at)?,
                reason_code: reason_code(reason),
                invalidity_date: None,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let list = CertificateRevocationListParams {
        this_update: offset(this_update)?,
        next_update: offset(next_update)?,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::PreSpecified(issuer.key_id().to_vec()),
    }
    .signed_by(issuer.signer())?;
    Ok(Crl {
        pem: pem::encode(pem::CRL, list.der()).to_string(),
        der: list.der().to_vec(),
        number,
        this_update,
        next_update,
    })
}

/// RFC 5280, 5.3.1: instead of `unspecified`, the extension should be absent.
fn reason_code(reason: RevocationReason) -> Option<rcgen::RevocationReason> {
    Some(match reason {
        RevocationReason::Unspecified => return None,
        RevocationReason::KeyCompromise => rcgen::RevocationReason::KeyCompromise,
        RevocationReason::CaCompromise => rcgen::RevocationReason::CaCompromise,
        RevocationReason::AffiliationChanged => rcgen::RevocationReason::AffiliationChanged,
        RevocationReason::Superseded => rcgen::RevocationReason::Superseded,
        RevocationReason::CessationOfOperation => rcgen::RevocationReason::CessationOfOperation,
        RevocationReason::PrivilegeWithdrawn => rcgen::RevocationReason::PrivilegeWithdrawn,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::entropy::Entropy;
    use crate::pki::create_authority;
    use chrono::TimeDelta;
    use x509_parser::certificate::X509Certificate;
    use x509_parser::extensions::ParsedExtension;
    use x509_parser::prelude::{FromDer, parse_x509_crl};

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn issuer() -> Issuer {
        let made = create_authority(now(), &Entropy::system(Clock::fixed(now()))).unwrap();
        Issuer::load(&made.certificate_pem, &made.key_pem).unwrap()
    }

    #[test]
    fn a_list_says_what_was_revoked_when_and_why() {
        let issuer = issuer();
        let reasons = [
            (RevocationReason::Unspecified, None),
            (RevocationReason::KeyCompromise, Some(1)),
            (RevocationReason::CaCompromise, Some(2)),
            (RevocationReason::AffiliationChanged, Some(3)),
            (RevocationReason::Superseded, Some(4)),
            (RevocationReason::CessationOfOperation, Some(5)),
            (RevocationReason::PrivilegeWithdrawn, Some(9)),
        ];
        let serial = |index: usize| format!("80{index:02x}").parse::<Serial>().unwrap();
        let entries =
            reasons.iter().enumerate().map(|(index, (reason, _))| (serial(index), now(), *reason));
        let crl = sign(&issuer, u64::MAX, now(), now() + TimeDelta::days(7), entries).unwrap();

        let (rest, parsed) = parse_x509_crl(&crl.der).unwrap();
        assert!(rest.is_empty());
        let der = pem::decode(pem::CERTIFICATE, issuer.certificate_pem()).unwrap();
        let (_, ca) = X509Certificate::from_der(&der).unwrap();
        assert!(parsed.verify_signature(ca.public_key()).is_ok());
        assert_eq!(parsed.issuer().as_raw(), ca.subject().as_raw());
        assert_eq!(parsed.crl_number().unwrap().to_string(), u64::MAX.to_string());
        assert_eq!(parsed.last_update().timestamp(), now().timestamp() - 300);
        assert_eq!(parsed.next_update().unwrap().timestamp(), now().timestamp() + 7 * 86_400);
        let key_id = parsed.extensions().iter().find_map(|it| match it.parsed_extension() {
            ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.clone(),
            _ => None,
        });
        assert_eq!(key_id.unwrap().0, issuer.key_id());

        let revoked: Vec<_> = parsed.iter_revoked_certificates().collect();
        assert_eq!(revoked.len(), reasons.len());
        for (index, (entry, (_, code))) in revoked.iter().zip(reasons).enumerate() {
            assert_eq!(Serial::from_bytes(entry.raw_serial()).unwrap(), serial(index));
            assert_eq!(entry.revocation_date.timestamp(), now().timestamp());
            assert_eq!(entry.reason_code().map(|(_, it)| it.0), code);
            assert_eq!(entry.extensions().is_empty(), code.is_none());
        }
        assert_eq!(pem::decode(pem::CRL, &crl.pem).unwrap().as_slice(), crl.der);
    }

    #[test]
    fn an_empty_list_is_a_list() {
        let crl = sign(&issuer(), 0, now(), now() + TimeDelta::days(7), []).unwrap();
        let (_, parsed) = parse_x509_crl(&crl.der).unwrap();
        assert_eq!(parsed.iter_revoked_certificates().count(), 0);
        assert_eq!(parsed.crl_number().unwrap().to_string(), "0");
    }

    #[test]
    fn a_list_that_has_ended_is_not_signed() {
        let ended = sign(&issuer(), 1, now(), now() - TimeDelta::hours(1), []);
        assert!(matches!(ended, Err(Error::Signing(rcgen::Error::InvalidCrlNextUpdate))));
    }
}
