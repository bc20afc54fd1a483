//! A certificate signing request (PKCS #10, RFC 2986): its public key, and nothing else of it.
//!
//! Its subject, names and extensions are what the sender would like to be; we know who they are.

use super::pem;
use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_SHA1WITHRSA, OID_SHA1_WITH_RSA, OID_SIG_ED25519,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

/// Longest request, in PEM. One with an RSA key of 8,192 bits has 3 KiB.
pub const MAX_CSR_BYTES: usize = 16 * 1024;

/// Fewest bits of an RSA key.
const MIN_RSA_BITS: usize = 2048;

/// Why a certificate signing request was refused, in words for the person who sent it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Longer than [`MAX_CSR_BYTES`].
    #[error("must be at most {MAX_CSR_BYTES} bytes long")]
    TooLong,
    /// Not one PEM block of the right kind.
    #[error("must be a certificate signing request in PEM (`-----BEGIN CERTIFICATE REQUEST-----`)")]
    NotPem,
    /// The block holds something else.
    #[error("is not a well-formed certificate signing request (PKCS #10)")]
    Malformed,
    /// Not a key that we certify.
    #[error("must have a P-256, P-384, Ed25519 or RSA key, RSA with 2,048 to 8,192 bits")]
    Key,
    /// Not signed with the key that it asks a certificate for.
    #[error("is not signed by its own key, or with SHA-1")]
    Signature,
}

/// The public key of a request whose sender proved to hold the private one.
pub(super) fn public_key(text: &str) -> Result<SubjectPublicKeyInfo, CsrError> {
    if text.len() > MAX_CSR_BYTES {
        return Err(CsrError::TooLong);
    }
    let der = pem::decode("CERTIFICATE REQUEST", text)
        .or_else(|_| pem::decode("NEW CERTIFICATE REQUEST", text))
        .map_err(|_| CsrError::NotPem)?;
    let (rest, request) =
        X509CertificationRequest::from_der(&der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    check_key(&request.certification_request_info.subject_pki)?;
    let by = &request.signature_algorithm.algorithm;
    if *by == OID_PKCS1_SHA1WITHRSA || *by == OID_SHA1_WITH_RSA {
        return Err(CsrError::Signature);
    }
    request.verify_signature().map_err(|_| CsrError::Signature)?;
    SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| CsrError::Key)
}

fn check_key(key: &x509_parser::x509::SubjectPublicKeyInfo<'_>) -> Result<(), CsrError> {
    let kind = &key.algorithm.algorithm;
    let accepted = if *kind == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key.algorithm.parameters.as_ref().and_then(|it| it.as_oid().ok());
        curve.is_some_and(|it| it == OID_EC_P256 || it == OID_NIST_EC_P384)
    } else if *kind == OID_PKCS1_RSAENCRYPTION {
        match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => (MIN_RSA_BITS..=8192).contains(&bits(rsa.modulus)),
            _ => false,
        }
    } else {
        *kind == OID_SIG_ED25519
    };
    if accepted { Ok(()) } else { Err(CsrError::Key) }
}

/// How long a number is, without leading zeros.
fn bits(number: &[u8]) -> usize {
    let mut octets = number.iter().skip_while(|it| **it == 0);
    let first = octets.next().map_or(0, |it| 8 - it.leading_zeros() as usize);
    first + 8 * octets.count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, PublicKeyData};

    fn request(key: &KeyPair) -> String {
        CertificateParams::default().serialize_request(key).unwrap().pem().unwrap()
    }

    #[test]
    fn the_key_of_a_request_is_taken() {
        for kind in
            [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
        {
            let key = KeyPair::generate_for(kind).unwrap();
            let taken = public_key(&request(&key)).unwrap();
            assert_eq!(taken.subject_public_key_info(), key.subject_public_key_info());
        }
    }

    #[test]
    fn a_request_that_its_key_did_not_sign_is_refused() {
        let (mine, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let mut der = CertificateParams::default().serialize_request(&mine).unwrap().der().to_vec();
        let public = other.public_key_raw();
        let at = der.windows(public.len()).position(|it| it == mine.public_key_raw()).unwrap();
        der[at..at + public.len()].copy_from_slice(public);
        let forged = pem::encode("CERTIFICATE REQUEST", &der);
        assert_eq!(public_key(&forged), Err(CsrError::Signature));
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let key = KeyPair::generate().unwrap();
        let good = request(&key);
        assert_eq!(public_key(""), Err(CsrError::NotPem));
        assert_eq!(public_key(&good.replace("REQUEST", "THING")), Err(CsrError::NotPem));
        assert_eq!(public_key(&"x".repeat(MAX_CSR_BYTES + 1)), Err(CsrError::TooLong));
        let cert = CertificateParams::default().self_signed(&key).unwrap();
        let relabelled = pem::encode("CERTIFICATE REQUEST", cert.der());
        assert_eq!(public_key(&relabelled), Err(CsrError::Malformed));
        let mut der = pem::decode("CERTIFICATE REQUEST", &good).unwrap().to_vec();
        der.push(0);
        let trailing = pem::encode("CERTIFICATE REQUEST", &der);
        assert_eq!(public_key(&trailing), Err(CsrError::Malformed));
    }

    #[test]
    fn leading_zeros_do_not_lengthen_a_key() {
        assert_eq!(bits(&[0, 0, 1]), 1);
        assert_eq!(bits(&[0, 0x80, 0]), 16);
        assert_eq!(bits(&[0x7f, 0xff]), 15);
        assert_eq!(bits(&[]), 0);
    }

    #[test]
    fn a_request_with_any_bit_flipped_gets_no_other_key_certified() {
        let key = KeyPair::generate().unwrap();
        let good = CertificateParams::default().serialize_request(&key).unwrap().der().to_vec();
        for bit in 0..good.len() * 8 {
            let mut der = good.clone();
            der[bit / 8] ^= 1 << (bit % 8);
            if let Ok(taken) = public_key(&pem::encode("CERTIFICATE REQUEST", &der)) {
                // Some bits say nothing, such as how many of a bit string are unused.
                assert_eq!(taken.der_bytes(), key.public_key_raw(), "bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,200}") {
            prop_assert!(public_key(&text).is_err());
        }
    }
}
