//! Passwords: argon2id, with bounded work, and the same work whether or not the user exists.

use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{Algorithm, Argon2, Params, Version};
use gatekey_aggregates::values::{Email, Username};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::back_off::network;
use crate::api::ApiError;
use crate::entropy::{Entropy, NoEntropy};
use crate::secrets::Secret;

/// OWASP's first choice for argon2id: 19 MiB, 2 passes, 1 lane.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

/// How many are computed at once: the memory that a burst of logins takes.
const AT_ONCE: usize = 2;
/// How many may wait for their turn; about two seconds' worth.
const WAITING: usize = 64;
/// Of these, one client's.
const EACH: usize = 8;

/// Fewest characters of a password.
pub const MIN_LENGTH: usize = 12;
/// Most characters of a password.
pub const MAX_LENGTH: usize = 256;

/// Crockford's base 32, without `i`, `l`, `o` and `u`: to be read out and typed.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";

/// Hashes and verifies passwords. Cheap to clone; make it once, for the bounds are its own.
#[derive(Clone)]
pub struct Passwords {
    /// Who is let into the queue at all.
    queue: Arc<Semaphore>,
    /// Whose turn it is.
    turns: Arc<Semaphore>,
    /// How many each client's network has under way.
    clients: Arc<Mutex<HashMap<IpAddr, usize>>>,
    /// What an unknown user's password is compared with.
    dummy: Arc<str>,
    entropy: Entropy,
}

/// A client's place, until it is dropped.
pub struct ClientPlace {
    clients: Arc<Mutex<HashMap<IpAddr, usize>>>,
    client: IpAddr,
}

impl Drop for ClientPlace {
    fn drop(&mut self) {
        let mut clients = self.clients.lock();
        if let Some(under_way) = clients.get_mut(&self.client) {
            *under_way -= 1;
            if *under_way == 0 {
                clients.remove(&self.client);
            }
        }
    }
}

/// Why a password was neither hashed nor verified.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too many wait already.
    #[error("too many logins at once")]
    Busy,
    /// What is stored is no argon2 hash.
    #[error("a stored password hash can't be used: {0}")]
    Stored(argon2::password_hash::Error),
    /// No hash could be computed.
    #[error("a password can't be hashed: {0}")]
    Hash(argon2::password_hash::Error),
    /// No salt could be drawn.
    #[error(transparent)]
    NoEntropy(#[from] NoEntropy),
    /// The worker died.
    #[error("hashing a password failed: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

impl From<PasswordError> for ApiError {
    fn from(error: PasswordError) -> Self {
        match error {
            PasswordError::Busy => Self {
                retry_after: Some(2),
                ..Self::unavailable("Too many logins at once: try again")
            },
            other => Self::internal(other),
        }
    }
}

impl Passwords {
    /// Computes one hash, for users who do not exist.
    pub fn new(entropy: Entropy) -> Result<Self, PasswordError> {
        let nobody = Secret::from(entropy.token("")?);
        let dummy = hash(&nobody, entropy.bytes()?)?;
        Ok(Self {
            queue: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
            turns: Arc::new(Semaphore::new(AT_ONCE)),
            clients: Arc::default(),
            dummy: dummy.into(),
            entropy,
        })
    }

    /// A place for one more login of this client's: nobody gets more than a few of those there are.
    pub fn place_for(&self, client: IpAddr) -> Result<ClientPlace, PasswordError> {
        let client = network(client);
        let mut clients = self.clients.lock();
        let under_way = clients.entry(client).or_default();
        if *under_way >= EACH {
            return Err(PasswordError::Busy);
        }
        *under_way += 1;
        Ok(ClientPlace { clients: self.clients.clone(), client })
    }

    /// The PHC string to keep (sealed) of a password that follows the rules.
    pub async fn hash(&self, password: &Secret) -> Result<String, PasswordError> {
        let salt = self.entropy.bytes()?;
        let password = password.clone();
        self.run(move || hash(&password, salt)).await
    }

    /// Whether `password` is the one of which `stored` is the hash. None, of a user who does not
    /// exist or has no password, takes the same time and is never true.
    pub async fn verify(
        &self,
        password: &Secret,
        stored: Option<&str>,
    ) -> Result<bool, PasswordError> {
        let exists = stored.is_some();
        let stored: Arc<str> = stored.map_or_else(|| self.dummy.clone(), Into::into);
        let password = password.clone();
        let same = self.run(move || verify(&password, &stored)).await?;
        Ok(same && exists)
    }

    /// Runs `work` off the async threads when its turn comes. The places taken are held until the
    /// work is over, even if the caller goes away.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, PasswordError> + Send + 'static,
    ) -> Result<T, PasswordError> {
        let place = take(self.queue.clone().try_acquire_owned().ok())?;
        let turn = take(self.turns.clone().acquire_owned().await.ok())?;
        tokio::task::spawn_blocking(move || {
            let _held = (place, turn);
            work()
        })
        .await?
    }
}

fn take(permit: Option<OwnedSemaphorePermit>) -> Result<OwnedSemaphorePermit, PasswordError> {
    permit.ok_or(PasswordError::Busy)
}

fn argon2id() -> Result<Argon2<'static>, PasswordError> {
    let params = Params::new(MEMORY_KIB, PASSES, LANES, None)
        .map_err(|error| PasswordError::Hash(error.into()))?;
    Ok(Argon2::new(Algorithm::Argon2id, Version::V0x13, params))
}

fn hash(password: &Secret, salt: [u8; 16]) -> Result<String, PasswordError> {
    let salt = SaltString::encode_b64(&salt).map_err(PasswordError::Hash)?;
    let hash = argon2id()?.hash_password(password.expose().as_bytes(), &salt);
    hash.map(|hash| hash.to_string()).map_err(PasswordError::Hash)
}

fn verify(password: &Secret, stored: &str) -> Result<bool, PasswordError> {
    let parsed = PasswordHash::new(stored).map_err(PasswordError::Stored)?;
    match argon2id()?.verify_password(password.expose().as_bytes(), &parsed) {
        Ok(()) => Ok(true),
        Err(argon2::password_hash::Error::Password) => Ok(false),
        Err(error) => Err(PasswordError::Stored(error)),
    }
}

/// Whether `password` may become this person's password; else what is wrong with it.
pub fn check(password: &Secret, username: &Username, email: &Email) -> Result<(), String> {
    let text = password.expose();
    let length = text.chars().count();
    if !(MIN_LENGTH..=MAX_LENGTH).contains(&length) {
        return Err(format!("must have {MIN_LENGTH} to {MAX_LENGTH} characters"));
    }
    let lower = text.to_lowercase();
    if lower == username.as_str() || lower == email.as_str() {
        return Err("must not be the user name or the e-mail address".to_owned());
    }
    Ok(())
}

/// A new password for a person to type once: 100 random bits in four groups.
pub fn generate(entropy: &Entropy) -> Result<Secret, NoEntropy> {
    let letters = entropy.bytes::<20>()?.map(|byte| ALPHABET[usize::from(byte & 31)] as char);
    let groups: Vec<String> = letters.chunks(5).map(|group| group.iter().collect()).collect();
    Ok(Secret::from(groups.join("-")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;
    use axum::http::StatusCode;

    fn entropy() -> Entropy {
        Entropy::system(Clock::system())
    }

    #[tokio::test]
    async fn a_password_verifies_against_its_own_hash_only() {
        let passwords = Passwords::new(entropy()).unwrap();
        let secret = Secret::from("correct horse battery");
        let stored = passwords.hash(&secret).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(passwords.verify(&secret, Some(&stored)).await.unwrap());
        assert!(!passwords.verify(&Secret::from("another"), Some(&stored)).await.unwrap());
        assert_ne!(passwords.hash(&secret).await.unwrap(), stored);
    }

    #[tokio::test]
    async fn nobody_has_no_password() {
        let passwords = Passwords::new(entropy()).unwrap();
        for guess in ["", "correct horse battery"] {
            assert!(!passwords.verify(&Secret::from(guess), None).await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_broken_hash_is_an_error_not_a_no() {
        let passwords = Passwords::new(entropy()).unwrap();
        let error = passwords.verify(&Secret::from("x"), Some("$argon2id$")).await.unwrap_err();
        assert!(matches!(error, PasswordError::Stored(_)));
        assert_eq!(ApiError::from(error).status, StatusCode::INTERNAL_SERVER_ERROR);
    }

    #[tokio::test]
    async fn the_queue_is_bounded() {
        let passwords = Passwords::new(entropy()).unwrap();
        let all = passwords.queue.clone().acquire_many_owned(66).await.unwrap();
        let error = passwords.hash(&Secret::from("x")).await.unwrap_err();
        assert!(matches!(error, PasswordError::Busy));
        let answer = ApiError::from(error);
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(answer.retry_after.is_some());
        drop(all);
        assert!(passwords.hash(&Secret::from("x")).await.is_ok());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_gives_its_place_back() {
        let passwords = Passwords::new(entropy()).unwrap();
        let running = passwords.clone();
        let task = tokio::spawn(async move { running.hash(&Secret::from("x")).await.map(|_| ()) });
        tokio::task::yield_now().await;
        task.abort();
        let _ = task.await;
        // All places at once: only to be had once the work is over.
        let all = passwords.queue.clone().acquire_many_owned(66);
        let bound = std::time::Duration::from_secs(30);
        assert!(tokio::time::timeout(bound, all).await.is_ok());
    }

    #[test]
    fn the_rules() {
        let (username, email) =
            ("ada-lovelace-1".parse().unwrap(), "ada@example.com".parse().unwrap());
        let check = |text: &str| check(&Secret::from(text), &username, &email);
        assert!(check("correct horse").is_ok());
        assert!(check(&"ä".repeat(12)).is_ok());
        assert!(check(&"x".repeat(256)).is_ok());
        for wrong in ["", "elevenchars", &"x".repeat(257), "Ada-Lovelace-1", "ADA@example.com"] {
            assert!(check(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_generated_password_follows_the_rules() {
        let made = generate(&entropy()).unwrap();
        assert_eq!(made.expose().len(), 23);
        assert!(!made.matches(generate(&entropy()).unwrap().expose()));
        check(&made, &"ada".parse().unwrap(), &"ada@example.com".parse().unwrap()).unwrap();
    }
}
