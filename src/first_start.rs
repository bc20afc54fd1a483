//! First start: the first admin and the certificate authority, made in one transaction.

use crate::access::AccessIndex;
use crate::auth::password::{self, PasswordError, Passwords};
use crate::clock::Clock;
use crate::entropy::{Entropy, NoEntropy};
use crate::event_log::{Bus, CommandError, Request};
use crate::pki;
use crate::secrets::{Secret, Vault, VaultError};
use gatekey_aggregates::authority::{self, Authority};
use gatekey_aggregates::user::{Command, Profile, User};
use gatekey_aggregates::values::{Email, Invalid, Role, UserId, Username};
use gatekey_aggregates::{Metadata, PersonId, Personal, RefusalKind};
use std::collections::BTreeSet;

/// The first admin's user name.
pub const ADMIN: &str = "admin";
/// Their address until they give their own (RFC 2606: a name that never resolves).
const ADMIN_EMAIL: &str = "admin@gatekey.invalid";

/// What it needs.
pub struct Means<'a> {
    /// Carries out the commands.
    pub bus: &'a Bus,
    /// Tells whether this is the first start.
    pub index: &'a AccessIndex,
    /// Keeps the key and the password's hash.
    pub vault: &'a Vault,
    /// Hashes the password.
    pub passwords: &'a Passwords,
    /// The time.
    pub clock: &'a Clock,
    /// Randomness.
    pub entropy: &'a Entropy,
    /// The password, where one was configured.
    pub admin_password: Option<Secret>,
}

/// Why the first start failed. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum FirstStartError {
    /// The configured password breaks a rule.
    #[error("GATEKEY_ADMIN_PASSWORD {0}")]
    Password(String),
    /// It could not be hashed.
    #[error(transparent)]
    Hash(#[from] PasswordError),
    /// A secret could not be sealed.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The authority could not be made.
    #[error("the certificate authority could not be made: {0}")]
    Authority(#[from] pki::Error),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// Not written.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// A constant of ours is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Makes what is missing. Gives the admin's password if it had to make one.
pub async fn ensure(means: Means<'_>) -> Result<Option<Secret>, FirstStartError> {
    if means.index.read().authority.is_some() {
        if means.admin_password.is_some() {
            tracing::info!(
                "GATEKEY_ADMIN_PASSWORD is for the very first start; it is not looked at"
            );
        }
        return Ok(None);
    }
    let made = match &means.admin_password {
        Some(_) => None,
        None => Some(password::generate(means.entropy)?),
    };
    let chosen = means.admin_password.as_ref().or(made.as_ref()).cloned();
    let Some(chosen) = chosen else { return Ok(None) };
    let username: Username = ADMIN.parse()?;
    let email: Email = ADMIN_EMAIL.parse()?;
    password::check(&chosen, &username, &email).map_err(FirstStartError::Password)?;

    let now = means.clock.now();
    let new = pki::create_authority(now, means.entropy)?;
    let key = means.vault.seal(new.key_pem.as_bytes(), None)?;
    let hash = means.passwords.hash(&chosen).await?;
    let hash = means.vault.seal(hash.as_bytes(), None)?;

    let id: UserId = means.entropy.id()?;
    let person = PersonId::user(&id);
    let create = Command::Create {
        profile: Profile {
            username: Personal::new(person.clone(), username),
            email: Personal::new(person, email),
            name: None,
        },
        role: Role::Admin,
        groups: BTreeSet::new(),
        password: Some(hash.id.clone()),
        // A made one was on a screen or in a file; a configured one is the operator's own choice.
        must_change_password: made.is_some(),
    };
    let authority = authority::Command::Create(authority::Issuer {
        certificate: new.certificate_pem,
        fingerprint: new.fingerprint,
        not_after: new.not_after,
        key: key.id.clone(),
    });
    let metadata = Metadata::system("first_start", PersonId::unknown_on(now.date_naive()));
    let request = Request::new::<User>(&id, create, metadata)
        .fresh()
        .also::<Authority>(authority::ID, authority)
        .with_secret(key)
        .with_secret(hash);
    match means.bus.execute::<User>(request).await {
        Ok(_) => Ok(made),
        // Another node was faster.
        Err(CommandError::Refused { kind: RefusalKind::Conflict, .. }) => {
            means.index.catch_up().await.map_err(|e| CommandError::Unavailable(e.to_string()))?;
            Ok(None)
        }
        Err(error) => Err(error.into()),
    }
}
