//! Certificates for clients, and for gateways and hubs.

use super::authority::{common_name, fingerprint, generate_key, random_serial};
use super::validity::{Validity, offset};
use super::{Error, Issuer, csr, pem};
use crate::entropy::Entropy;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::{CommonName, Serial, VpnServerId};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData,
    SanType,
};
use std::fmt;
use zeroize::Zeroizing;

/// Where a client's key comes from.
#[derive(Clone, Copy)]
pub enum KeySource<'a> {
    /// It is made here, P-256, and handed over with the certificate.
    Generate,
    /// It stays on the person's device; this is the signing request, in PEM.
    Csr(&'a str),
}

/// A certificate that was just signed.
pub struct Issued {
    /// The certificate.
    pub certificate_pem: String,
    /// Its key, PKCS #8, if it was made here.
    pub key_pem: Option<Zeroizing<String>>,
    /// Its serial.
    pub serial: Serial,
    /// From when it counts.
    pub not_before: DateTime<Utc>,
    /// Until when it counts.
    pub not_after: DateTime<Utc>,
    /// SHA-256 of it, in hex.
    pub fingerprint: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("serial", &self.serial)
            .field("not_after", &self.not_after)
            .field("fingerprint", &self.fingerprint)
            .finish_non_exhaustive()
    }
}

/// A client's certificate, from now on for `lifetime`, never beyond the authority's own end.
pub fn issue_client(
    issuer: &Issuer,
    name: &CommonName,
    lifetime: TimeDelta,
    key: KeySource<'_>,
    now: DateTime<Utc>,
    entropy: &Entropy,
) -> Result<Issued, Error> {
    let (mut params, signed) = leaf(issuer, name.as_str(), lifetime, now, entropy)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    match key {
        KeySource::Generate => signed.with_new_key(&params, issuer, entropy),
        KeySource::Csr(text) => signed.by(&params, &csr::public_key(text)?, issuer),
    }
}

/// A gateway's or hub's certificate, from now on for `lifetime`. Its common name is the server's id,
/// which every profile pins: all servers share one authority, and none may pass for another.
pub fn issue_server(
    issuer: &Issuer,
    server: &VpnServerId,
    lifetime: TimeDelta,
    now: DateTime<Utc>,
    entropy: &Entropy,
) -> Result<Issued, Error> {
    let (mut params, signed) = leaf(issuer, server.as_str(), lifetime, now, entropy)?;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.subject_alt_names = vec![SanType::DnsName(server.as_str().try_into()?)];
    signed.with_new_key(&params, issuer, entropy)
}

/// What clients and servers have in common.
fn leaf(
    issuer: &Issuer,
    name: &str,
    lifetime: TimeDelta,
    now: DateTime<Utc>,
    entropy: &Entropy,
) -> Result<(CertificateParams, Unsigned), Error> {
    let validity = Validity::new(now, lifetime, Some(issuer.not_after()))?;
    let (number, serial) = random_serial(entropy)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(name);
    params.serial_number = Some(number);
    params.not_before = offset(validity.from)?;
    params.not_after = offset(validity.until)?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    Ok((params, Unsigned { serial, validity }))
}

/// A certificate that lacks only its key and its signature.
struct Unsigned {
    serial: Serial,
    validity: Validity,
}

impl Unsigned {
    fn by(
        self,
        params: &CertificateParams,
        public_key: &impl PublicKeyData,
        issuer: &Issuer,
    ) -> Result<Issued, Error> {
        let certificate = params.signed_by(public_key, issuer.signer())?;
        Ok(Issued {
            certificate_pem: pem::encode(pem::CERTIFICATE, certificate.der()).to_string(),
            key_pem: None,
            serial: self.serial,
            not_before: self.validity.from,
            not_after: self.validity.until,
            fingerprint: fingerprint(certificate.der()),
        })
    }

    fn with_new_key(
        self,
        params: &CertificateParams,
        issuer: &Issuer,
        entropy: &Entropy,
    ) -> Result<Issued, Error> {
        let key: Zeroizing<KeyPair> = generate_key(entropy)?;
        let key_pem = pem::encode(pem::PRIVATE_KEY, key.serialized_der());
        Ok(Issued { key_pem: Some(key_pem), ..self.by(params, &*key, issuer)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use crate::pki::{CsrError, create_authority};
    use x509_parser::certificate::X509Certificate;
    use x509_parser::extensions::{GeneralName, ParsedExtension};
    use x509_parser::prelude::FromDer;

    struct World {
        now: DateTime<Utc>,
        entropy: Entropy,
        issuer: Issuer,
        ca_der: Vec<u8>,
    }

    fn world() -> World {
        let now = DateTime::from_timestamp(1_800_000_000, 999_000_000).unwrap();
        let entropy = Entropy::system(Clock::fixed(now));
        let made = create_authority(now, &entropy).unwrap();
        let issuer = Issuer::load(&made.certificate_pem, &made.key_pem).unwrap();
        let ca_der = pem::decode(pem::CERTIFICATE, &made.certificate_pem).unwrap().to_vec();
        World { now, entropy, issuer, ca_der }
    }

    impl World {
        fn client(&self, lifetime: TimeDelta, key: KeySource<'_>) -> Result<Issued, Error> {
            let name = "ada+vpn@example.com".parse().unwrap();
            issue_client(&self.issuer, &name, lifetime, key, self.now, &self.entropy)
        }
    }

    fn with_parsed<T>(issued: &Issued, check: impl FnOnce(&X509Certificate<'_>) -> T) -> T {
        let der = pem::decode(pem::CERTIFICATE, &issued.certificate_pem).unwrap();
        let (rest, certificate) = X509Certificate::from_der(&der).unwrap();
        assert!(rest.is_empty());
        check(&certificate)
    }

    #[test]
    fn a_client_certificate_is_for_clients_only() {
        let world = world();
        let issued = world.client(TimeDelta::hours(24), KeySource::Generate).unwrap();
        let (_, ca) = X509Certificate::from_der(&world.ca_der).unwrap();
        with_parsed(&issued, |it| {
            assert!(it.verify_signature(Some(ca.public_key())).is_ok());
            assert_eq!(it.subject().to_string(), "CN=ada+vpn@example.com");
            assert_eq!(it.issuer().as_raw(), ca.subject().as_raw());
            assert!(!it.is_ca());
            assert_eq!(it.key_usage().unwrap().unwrap().value.flags, 1, "digitalSignature only");
            let extended = it.extended_key_usage().unwrap().unwrap().value;
            assert!(extended.client_auth && !extended.server_auth && !extended.any);
            assert!(it.subject_alternative_name().unwrap().is_none());
            assert_eq!(Serial::from_bytes(it.raw_serial()).unwrap(), issued.serial);
            assert_eq!(it.validity().not_before.timestamp(), issued.not_before.timestamp());
            assert_eq!(it.validity().not_after.timestamp(), issued.not_after.timestamp());
            assert_eq!(fingerprint(it.as_raw()), issued.fingerprint);
            let authority_key = it.iter_extensions().find_map(|it| match it.parsed_extension() {
                ParsedExtension::AuthorityKeyIdentifier(id) => id.key_identifier.clone(),
                _ => None,
            });
            assert_eq!(authority_key.unwrap().0, world.issuer.key_id());
        });
        assert_eq!(issued.not_before.timestamp(), 1_800_000_000 - 300);
        assert_eq!(issued.not_after.timestamp(), 1_800_000_000 + 86_400);
        assert_eq!(issued.not_after.timestamp_subsec_nanos(), 0, "as the certificate says");
    }

    #[test]
    fn a_server_certificate_bears_the_servers_id() {
        let world = world();
        let gateway = format!("gw-{}", "a".repeat(61));
        let gateway = VpnServerId::Gateway(gateway.parse().unwrap());
        let issued =
            issue_server(&world.issuer, &gateway, TimeDelta::days(90), world.now, &world.entropy)
                .unwrap();
        with_parsed(&issued, |it| {
            assert_eq!(it.subject().to_string(), format!("CN={gateway}"));
            assert_eq!(it.key_usage().unwrap().unwrap().value.flags, 1, "digitalSignature only");
            let extended = it.extended_key_usage().unwrap().unwrap().value;
            assert!(extended.server_auth && !extended.client_auth);
            let names = it.subject_alternative_name().unwrap().unwrap().value;
            assert_eq!(names.general_names, [GeneralName::DNSName(gateway.as_str())]);
        });
    }

    #[test]
    fn a_generated_key_belongs_to_its_certificate() {
        let issued = world().client(TimeDelta::hours(1), KeySource::Generate).unwrap();
        let pkcs8 = pem::decode(pem::PRIVATE_KEY, issued.key_pem.as_ref().unwrap()).unwrap();
        let key = KeyPair::try_from(pkcs8.as_slice()).unwrap();
        with_parsed(&issued, |it| {
            assert_eq!(it.public_key().raw, key.subject_public_key_info());
        });
    }

    #[test]
    fn of_a_request_only_the_key_is_taken() {
        let world = world();
        let key = KeyPair::generate().unwrap();
        let mut wish = CertificateParams::new(["admin.example.com".to_owned()]).unwrap();
        wish.distinguished_name = common_name("root");
        wish.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        wish.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        wish.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let request = wish.serialize_request(&key).unwrap().pem().unwrap();

        let issued = world.client(TimeDelta::hours(1), KeySource::Csr(&request)).unwrap();
        assert!(issued.key_pem.is_none());
        with_parsed(&issued, |it| {
            assert_eq!(it.public_key().raw, key.subject_public_key_info());
            assert_eq!(it.subject().to_string(), "CN=ada+vpn@example.com");
            assert!(!it.is_ca());
            assert_eq!(it.key_usage().unwrap().unwrap().value.flags, 1);
            assert!(!it.extended_key_usage().unwrap().unwrap().value.server_auth);
            assert!(it.subject_alternative_name().unwrap().is_none());
        });
    }

    #[test]
    fn a_bad_request_is_the_callers_fault() {
        let refused = world().client(TimeDelta::hours(1), KeySource::Csr("no request"));
        assert!(matches!(refused, Err(Error::Csr(CsrError::NotPem))));
    }

    #[test]
    fn nothing_outlives_the_authority() {
        let mut world = world();
        let end = world.issuer.not_after();
        let long = world.client(TimeDelta::days(100_000), KeySource::Generate).unwrap();
        assert_eq!(long.not_after, end);
        world.now = end;
        let late = world.client(TimeDelta::hours(1), KeySource::Generate);
        assert!(matches!(late, Err(Error::Expired)));
    }

    #[test]
    fn a_key_is_not_debug_printed() {
        let issued = world().client(TimeDelta::hours(1), KeySource::Generate).unwrap();
        let printed = format!("{issued:?}");
        let key = issued.key_pem.unwrap();
        assert!(key.lines().skip(1).all(|line| !printed.contains(line)));
    }
}
