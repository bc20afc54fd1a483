//! The only place that draws random numbers, and what is made of them: tokens and ids.

use crate::clock::Clock;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use gatekey_aggregates::values::TokenHash;
use ring::rand::{SecureRandom, SystemRandom};
use std::str::FromStr;

/// Crockford's base 32, lower-cased: no `i`, `l`, `o` or `u` to misread.
const BASE32: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Draws from the operating system's random source.
#[derive(Clone, Debug)]
pub struct Entropy {
    source: SystemRandom,
    clock: Clock,
}

/// The system's source itself, for keys and nonces, which carry no time.
#[allow(clippy::disallowed_methods)]
pub fn system_random() -> SystemRandom {
    SystemRandom::new()
}

/// The operating system gave no random bytes: nothing can be done safely.
#[derive(Debug, thiserror::Error)]
#[error("the operating system's random source failed")]
pub struct NoEntropy;

impl Entropy {
    /// The system's source; ids carry the time of `clock`.
    pub fn system(clock: Clock) -> Self {
        Self { source: system_random(), clock }
    }

    /// For ring's own key generation and signing.
    pub fn ring(&self) -> &SystemRandom {
        &self.source
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&self) -> Result<[u8; N], NoEntropy> {
        let mut bytes = [0; N];
        self.source.fill(&mut bytes).map_err(|_| NoEntropy)?;
        Ok(bytes)
    }

    /// A version 4 UUID (RFC 9562).
    pub fn uuid(&self) -> Result<uuid::Uuid, NoEntropy> {
        Ok(uuid::Builder::from_random_bytes(self.bytes()?).into_uuid())
    }

    /// A new token: `prefix`, then base64url of 32 random bytes.
    pub fn token(&self, prefix: &str) -> Result<String, NoEntropy> {
        Ok(format!("{prefix}{}", URL_SAFE_NO_PAD.encode(self.bytes::<32>()?)))
    }

    /// A new id of the type asked for: its prefix, 48 bits of time (so that ids sort by age) and
    /// 52 random bits, as 20 characters of base 32.
    pub fn id<T: Id>(&self) -> Result<T, NoEntropy> {
        let millis = u128::from(self.clock.now().timestamp_millis().unsigned_abs());
        let random = u128::from(u64::from_be_bytes(self.bytes()?) >> 12);
        let bits = (millis << 52) | random;
        let text: String = (0..20)
            .rev()
            .map(|digit| BASE32[((bits >> (digit * 5)) & 31) as usize] as char)
            .collect();
        T::from_str(&format!("{}{text}", T::PREFIX)).map_err(|_| NoEntropy)
    }
}

/// An id that can be made at random.
pub trait Id: FromStr {
    /// What it begins with.
    const PREFIX: &'static str;
}

macro_rules! ids {
    ($($id:ident),+) => {
        $(impl Id for gatekey_aggregates::values::$id {
            const PREFIX: &'static str = gatekey_aggregates::values::$id::PREFIX;
        })+
    };
}

ids!(
    AccessRuleId,
    ApiKeyId,
    CertificateId,
    GatewayId,
    GeoFenceRuleId,
    LoginId,
    MeshHubId,
    NetworkId,
    SecretId,
    SessionId,
    SpokeId,
    UserId
);

/// The hash under which a token is kept.
pub fn token_hash(token: &str) -> TokenHash {
    let digest = ring::digest::digest(&ring::digest::SHA256, token.as_bytes());
    let hex: String = digest.as_ref().iter().map(|b| format!("{b:02x}")).collect();
    match TokenHash::from_str(&hex) {
        Ok(hash) => hash,
        Err(_) => unreachable!("SHA-256 has 32 bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatekey_aggregates::values::GatewayId;

    #[test]
    fn ids_are_well_formed_differ_and_sort_by_age() {
        let clock = Clock::fixed(chrono::DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let entropy = Entropy::system(clock.clone());
        let first: GatewayId = entropy.id().unwrap();
        clock.advance(chrono::TimeDelta::milliseconds(1));
        let second: GatewayId = entropy.id().unwrap();
        assert!(first < second);
        assert_eq!(first.as_str().len(), "gw-".len() + 20);
    }

    #[test]
    fn a_token_hash_is_sha_256() {
        // FIPS 180-4's "abc".
        assert_eq!(
            token_hash("abc").as_str(),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
