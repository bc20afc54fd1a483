//! Authenticated encryption: AES-256-GCM with a random nonce.
//!
//! A sealed value is `version (1 byte) ‖ nonce (12) ‖ ciphertext ‖ tag (16)`. Random 96-bit nonces
//! are safe for 2³² values under one key (NIST SP 800-38D, 8.3); a key here seals far fewer.

use crate::entropy::system_random;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// The only format there is.
const VERSION: u8 = 1;
/// Bytes of a key.
pub const KEY_LEN: usize = 32;

/// A value could not be sealed or opened. It does not say why: that would help an attacker only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the value could not be sealed or opened")]
pub struct SealError;

/// A key ready for use.
pub struct Sealer {
    key: LessSafeKey,
    random: SystemRandom,
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealer {
    /// Seals with `key`.
    pub fn new(key: &[u8; KEY_LEN]) -> Result<Self, SealError> {
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(|_| SealError)?;
        Ok(Self { key: LessSafeKey::new(key), random: system_random() })
    }

    /// Seals `plain`, bound to `bound_to`: it opens only with the same.
    pub fn seal(&self, bound_to: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).map_err(|_| SealError)?;
        let mut sealed = Vec::with_capacity(1 + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(bound_to), &mut sealed[1 + NONCE_LEN..])
            .map_err(|_| SealError)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens what [`Self::seal`] made.
    pub fn open(&self, bound_to: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (version, rest) = sealed.split_first().ok_or(SealError)?;
        if *version != VERSION || rest.len() < NONCE_LEN {
            return Err(SealError);
        }
        let (nonce, ciphertext) = rest.split_at(NONCE_LEN);
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError)?;
        let mut buffer = Zeroizing::new(ciphertext.to_vec());
        let length = self
            .key
            .open_in_place(nonce, Aad::from(bound_to), &mut buffer)
            .map_err(|_| SealError)?
            .len();
        buffer.truncate(length);
        Ok(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_opens_again_where_it_belongs_and_nowhere_else() {
        let sealer = Sealer::new(&[7; KEY_LEN]).unwrap();
        let sealed = sealer.seal(b"here", b"secret").unwrap();
        assert_eq!(sealer.open(b"here", &sealed).unwrap().as_slice(), b"secret");
        assert_eq!(sealer.open(b"there", &sealed), Err(SealError));
        assert_eq!(Sealer::new(&[8; KEY_LEN]).unwrap().open(b"here", &sealed), Err(SealError));
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let sealer = Sealer::new(&[7; KEY_LEN]).unwrap();
        let sealed = sealer.seal(b"", b"secret").unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut forged = sealed.clone();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(sealer.open(b"", &forged), Err(SealError), "bit {bit}");
        }
        for length in 0..sealed.len() {
            assert_eq!(sealer.open(b"", &sealed[..length]), Err(SealError), "length {length}");
        }
    }

    #[test]
    fn the_same_value_is_never_sealed_the_same_way() {
        let sealer = Sealer::new(&[7; KEY_LEN]).unwrap();
        assert_ne!(sealer.seal(b"", b"secret").unwrap(), sealer.seal(b"", b"secret").unwrap());
    }
}
