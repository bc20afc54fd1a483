//! The certificate authority itself: how it is made at first start, and how it is loaded to sign.

use super::validity::{Validity, offset, utc};
use super::{Error, pem};
use crate::entropy::{Entropy, NoEntropy};
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::Serial;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SerialNumber, SigningKey,
};
use ring::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair};
use std::fmt;
use std::sync::Arc;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;
use zeroize::Zeroizing;

/// How long an authority lasts: ten years.
const LIFETIME: TimeDelta = TimeDelta::days(3653);

/// An authority that was just made. Its key is to be sealed, and kept nowhere else.
pub struct NewAuthority {
    /// The self-signed certificate.
    pub certificate_pem: String,
    /// Its key, PKCS #8.
    pub key_pem: Zeroizing<String>,
    /// SHA-256 of the certificate, in hex.
    pub fingerprint: String,
    /// From when it counts.
    pub not_before: DateTime<Utc>,
    /// Until when it counts.
    pub not_after: DateTime<Utc>,
}

impl fmt::Debug for NewAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewAuthority")
            .field("fingerprint", &self.fingerprint)
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Makes an authority: P-256, self-signed, ten years, and no authorities below it.
pub fn create_authority(now: DateTime<Utc>, entropy: &Entropy) -> Result<NewAuthority, Error> {
    let key = generate_key(entropy)?;
    let validity = Validity::new(now, LIFETIME, None)?;
    // Two authorities must not bear one name: OpenVPN takes a revocation list of the same name and
    // another key for a forgery, and refuses everyone.
    let mark: String = entropy.bytes::<4>()?.iter().map(|b| format!("{b:02x}")).collect();

    let mut params = CertificateParams::default();
    params.distinguished_name = common_name(&format!("GateKey CA {mark}"));
    params.serial_number = Some(random_serial(entropy)?.0);
    params.not_before = offset(validity.from)?;
    params.not_after = offset(validity.until)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&*key)?;

    Ok(NewAuthority {
        certificate_pem: pem::encode(pem::CERTIFICATE, certificate.der()).to_string(),
        key_pem: pem::encode(pem::PRIVATE_KEY, key.serialized_der()),
        fingerprint: fingerprint(certificate.der()),
        not_before: validity.from,
        not_after: validity.until,
    })
}

/// An authority that can sign. Loading parses and checks; clone it from then on, which costs
/// nothing.
#[derive(Clone)]
pub struct Issuer(Arc<Loaded>);

struct Loaded {
    certificate_pem: String,
    fingerprint: String,
    key_id: Vec<u8>,
    not_after: DateTime<Utc>,
    signer: rcgen::Issuer<'static, Key>,
}

impl Issuer {
    /// Loads an authority, and makes sure that it is one and that the key is its own.
    pub fn load(certificate_pem: &str, key_pem: &str) -> Result<Self, Error> {
        let der = pem::decode(pem::CERTIFICATE, certificate_pem)
            .map_err(|source| Error::NotPem { what: "certificate", source })?;
        let pkcs8 = pem::decode(pem::PRIVATE_KEY, key_pem)
            .map_err(|source| Error::NotPem { what: "key", source })?;
        let (rest, certificate) = X509Certificate::from_der(&der)
            .map_err(|_| Error::Unusable("its certificate is not X.509"))?;
        if !rest.is_empty() {
            return Err(Error::Unusable("its certificate is followed by other bytes"));
        }
        if !certificate.is_ca() {
            return Err(Error::Unusable("its certificate is not an authority's"));
        }
        let usage = certificate.key_usage().ok().flatten();
        if !usage.is_some_and(|it| it.value.key_cert_sign() && it.value.crl_sign()) {
            return Err(Error::Unusable("its key may not sign certificates and revocation lists"));
        }
        let key_id = certificate
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            })
            .ok_or(Error::Unusable("its certificate has no subject key identifier"))?;
        let key = KeyPair::try_from(pkcs8.as_slice())
            .map(|pair| Key(Zeroizing::new(pair)))
            .map_err(|_| Error::Unusable("its key is not PKCS #8 of a kind we can sign with"))?;
        if key.subject_public_key_info() != certificate.public_key().raw {
            return Err(Error::KeyMismatch);
        }
        Ok(Self(Arc::new(Loaded {
            certificate_pem: pem::encode(pem::CERTIFICATE, &der).to_string(),
            fingerprint: fingerprint(&der),
            key_id,
            not_after: utc(certificate.validity().not_after.timestamp())?,
            signer: rcgen::Issuer::from_ca_cert_der(&der.as_slice().into(), key)?,
        })))
    }

    /// Its certificate.
    pub fn certificate_pem(&self) -> &str {
        &self.0.certificate_pem
    }

    /// SHA-256 of its certificate, in hex.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// When its certificate expires. Nothing that it signs lasts longer.
    pub fn not_after(&self) -> DateTime<Utc> {
        self.0.not_after
    }

    /// Its subject key identifier: the authority key identifier of all that it signs.
    pub(super) fn key_id(&self) -> &[u8] {
        &self.0.key_id
    }

    pub(super) fn signer(&self) -> &rcgen::Issuer<'static, impl SigningKey + use<>> {
        &self.0.signer
    }
}

impl fmt::Debug for Issuer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issuer").field("fingerprint", &self.0.fingerprint).finish_non_exhaustive()
    }
}

/// A key pair whose bytes are wiped when it is dropped.
struct Key(Zeroizing<KeyPair>);

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for Key {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

/// A new P-256 key.
pub(super) fn generate_key(entropy: &Entropy) -> Result<Zeroizing<KeyPair>, Error> {
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, entropy.ring())
        .map_err(|_| NoEntropy)?;
    Ok(Zeroizing::new(KeyPair::try_from(pkcs8.as_ref())?))
}

/// A new serial: 16 octets, 126 of their bits random, positive and without a leading zero however
/// it is written.
pub(super) fn random_serial(entropy: &Entropy) -> Result<(SerialNumber, Serial), Error> {
    let mut bytes: [u8; 16] = entropy.bytes()?;
    bytes[0] = (bytes[0] & 0x3f) | 0x40;
    let serial =
        Serial::from_bytes(&bytes).map_err(|_| Error::Unusable("a serial has 16 octets"))?;
    Ok((SerialNumber::from_slice(&bytes), serial))
}

/// A subject that is a common name and nothing else.
pub(super) fn common_name(name: &str) -> DistinguishedName {
    let mut subject = DistinguishedName::new();
    subject.push(DnType::CommonName, name);
    subject
}

/// SHA-256 of a certificate, in hex.
pub(super) fn fingerprint(der: &[u8]) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, der);
    digest.as_ref().iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    fn now() -> DateTime<Utc> {
        utc(1_800_000_000).unwrap()
    }

    fn made() -> NewAuthority {
        create_authority(now(), &Entropy::system(Clock::fixed(now()))).unwrap()
    }

    #[test]
    fn an_authority_is_what_rfc_5280_asks_of_one() {
        let made = made();
        let der = pem::decode(pem::CERTIFICATE, &made.certificate_pem).unwrap();
        let (_, certificate) = X509Certificate::from_der(&der).unwrap();
        let constraints = certificate.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = certificate.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        assert_eq!(usage.value.flags, 0b110_0000, "keyCertSign and cRLSign only");
        assert!(certificate.verify_signature(None).is_ok());
        assert_eq!(certificate.validity().not_before.timestamp(), 1_800_000_000 - 300);
        assert_eq!(certificate.validity().not_after.timestamp(), made.not_after.timestamp());
        let days = (made.not_after - now()).num_days();
        assert_eq!(days, 3653);
        let subject = certificate.subject().to_string();
        assert!(subject.starts_with("CN=GateKey CA ") && subject.len() == 22, "{subject}");
        assert!(
            certificate.iter_extensions().any(|it| matches!(
                it.parsed_extension(),
                ParsedExtension::SubjectKeyIdentifier(_)
            ))
        );
    }

    #[test]
    fn a_new_authority_can_be_loaded() {
        let made = made();
        let issuer = Issuer::load(&made.certificate_pem, &made.key_pem).unwrap();
        assert_eq!(issuer.certificate_pem(), made.certificate_pem);
        assert_eq!(issuer.fingerprint(), made.fingerprint);
        assert_eq!(issuer.not_after(), made.not_after);
    }

    #[test]
    fn a_key_of_another_authority_is_refused() {
        let (one, other) = (made(), made());
        let loaded = Issuer::load(&one.certificate_pem, &other.key_pem);
        assert!(matches!(loaded, Err(Error::KeyMismatch)));
    }

    #[test]
    fn what_is_no_authority_is_refused() {
        let entropy = Entropy::system(Clock::fixed(now()));
        let made = made();
        let garbage = Issuer::load(&made.certificate_pem, "no key");
        assert!(matches!(garbage, Err(Error::NotPem { what: "key", .. })));
        let swapped = Issuer::load(&made.key_pem, &made.key_pem);
        assert!(matches!(swapped, Err(Error::NotPem { what: "certificate", .. })));

        let key = generate_key(&entropy).unwrap();
        let leaf = CertificateParams::default().self_signed(&*key).unwrap();
        let leaf_pem = pem::encode(pem::CERTIFICATE, leaf.der());
        let key_pem = pem::encode(pem::PRIVATE_KEY, key.serialized_der());
        assert!(matches!(Issuer::load(&leaf_pem, &key_pem), Err(Error::Unusable(_))));
    }

    #[test]
    fn keys_are_not_debug_printed() {
        let made = made();
        let issuer = Issuer::load(&made.certificate_pem, &made.key_pem).unwrap();
        let secret: Vec<&str> =
            made.key_pem.lines().filter(|line| !line.starts_with("-----")).collect();
        let printed = format!("{made:?} {issuer:?}");
        assert!(secret.iter().all(|line| !printed.contains(line)));
        assert!(!printed.contains("PRIVATE KEY"));
    }

    #[test]
    fn serials_have_sixteen_octets() {
        let entropy = Entropy::system(Clock::fixed(now()));
        for _ in 0..200 {
            let (_, serial) = random_serial(&entropy).unwrap();
            let bytes = serial.to_bytes();
            assert_eq!(bytes.len(), 16);
            assert_eq!(bytes[0] & 0xc0, 0x40);
        }
    }
}
