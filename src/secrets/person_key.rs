//! A person's key: it seals what events tell about them, and is destroyed to forget them.

use super::master_key::MasterKey;
use super::seal::{KEY_LEN, SealError, Sealer};
use crate::entropy::system_random;
use ring::rand::SecureRandom;
use zeroize::Zeroizing;

/// A person's key, ready for use.
#[derive(Debug)]
pub struct PersonKey(Sealer);

fn bound_to(person: &str) -> Vec<u8> {
    format!("person-key/{person}").into_bytes()
}

impl PersonKey {
    /// A new key for `person`, and itself sealed by the master key.
    pub fn generate(master: &MasterKey, person: &str) -> Result<(Self, Vec<u8>), SealError> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        system_random().fill(key.as_mut()).map_err(|_| SealError)?;
        let sealed = master.seal(&bound_to(person), key.as_ref())?;
        Ok((Self(Sealer::new(&key)?), sealed))
    }

    /// The key of `person` from its sealed form.
    pub fn unseal(master: &MasterKey, person: &str, sealed: &[u8]) -> Result<Self, SealError> {
        let key = master.open(&bound_to(person), sealed)?;
        let key: &[u8; KEY_LEN] = key.as_slice().try_into().map_err(|_| SealError)?;
        Ok(Self(Sealer::new(key)?))
    }

    /// Seals `plain` for its place.
    pub fn seal(&self, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, SealError> {
        self.0.seal(place, plain)
    }

    /// Opens what was sealed for that place.
    pub fn open(&self, place: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.0.open(place, sealed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_serves_its_person_only() {
        let master = MasterKey::from_bytes([1; 32]).unwrap();
        let (key, stored) = PersonKey::generate(&master, "usr-ada").unwrap();
        let sealed = key.seal(b"place", b"ada@example.com").unwrap();
        let again = PersonKey::unseal(&master, "usr-ada", &stored).unwrap();
        assert_eq!(again.open(b"place", &sealed).unwrap().as_slice(), b"ada@example.com");
        assert!(PersonKey::unseal(&master, "usr-eve", &stored).is_err());
    }
}
