//! PEM (RFC 7468), for keys as well: every buffer that holds one is wiped when dropped.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

/// The label of a certificate.
pub const CERTIFICATE: &str = "CERTIFICATE";
/// The label of a PKCS #8 private key.
pub const PRIVATE_KEY: &str = "PRIVATE KEY";
/// The label of a revocation list.
pub const CRL: &str = "X509 CRL";

/// Characters on a line.
const LINE: usize = 64;

/// Why a text is not such a PEM block.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotPem {
    /// There is no block with that label.
    #[error("there is no PEM block `{0}`")]
    Missing(&'static str),
    /// What is between the lines is not base64.
    #[error("its PEM block is not base64")]
    NotBase64,
}

/// `der` as one PEM block.
pub fn encode(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    // Reserved whole, so that no copy is left behind by growing.
    let room = base64.len() + base64.len() / LINE + 2 * label.len() + 40;
    let mut text = Zeroizing::new(String::with_capacity(room));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(LINE));
        text.push_str(line);
        text.push('\n');
        rest = tail;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// The contents of the first block with that label. Text around it is passed over, as RFC 7468
/// allows and `openssl` writes.
pub fn decode(label: &'static str, text: &str) -> Result<Zeroizing<Vec<u8>>, NotPem> {
    let missing = || NotPem::Missing(label);
    let (_, after) = text.split_once(&format!("-----BEGIN {label}-----")).ok_or_else(missing)?;
    let (body, _) = after.split_once(&format!("-----END {label}-----")).ok_or_else(missing)?;
    let mut base64 = Zeroizing::new(String::with_capacity(body.len()));
    base64.extend(body.chars().filter(|c| !c.is_ascii_whitespace()));
    STANDARD.decode(base64.as_str()).map(Zeroizing::new).map_err(|_| NotPem::NotBase64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn text_around_a_block_is_passed_over() {
        let text = format!("Subject: x\r\n{}\nmore", encode(CERTIFICATE, b"hello").as_str());
        let text = text.replace('\n', "\r\n");
        assert_eq!(decode(CERTIFICATE, &text).unwrap().as_slice(), b"hello");
    }

    #[test]
    fn what_is_no_such_block_is_refused() {
        let block = encode(CERTIFICATE, b"hello");
        assert_eq!(decode(PRIVATE_KEY, &block), Err(NotPem::Missing(PRIVATE_KEY)));
        assert_eq!(decode(CERTIFICATE, ""), Err(NotPem::Missing(CERTIFICATE)));
        let cut = &block[..block.len() - 8];
        assert_eq!(decode(CERTIFICATE, cut), Err(NotPem::Missing(CERTIFICATE)));
        let bad = block.replace("aGVs", "a*Vs");
        assert_eq!(decode(CERTIFICATE, &bad), Err(NotPem::NotBase64));
    }

    proptest! {
        #[test]
        fn a_block_survives_and_its_lines_are_short(
            der in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let text = encode(CRL, &der);
            prop_assert!(text.lines().all(|line| line.len() <= LINE));
            prop_assert!(text.len() <= text.capacity());
            let back = decode(CRL, &text).unwrap();
            prop_assert_eq!(back.as_slice(), der.as_slice());
        }
    }
}
