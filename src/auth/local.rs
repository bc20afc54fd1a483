//! Proving who one is with a password.
//!
//! An unknown user, a wrong password, a user without one and a disabled user get the same answer
//! after the same work: a look at the secrets table and one argon2 verification. The log tells
//! them apart.

use super::back_off::{BackOff, Wait};
use super::principal::{Caller, Circumstances};
use crate::access::{State, UserEntry};
use crate::api::ApiError;
use crate::secrets::{Secret, VaultError};
use crate::services::Services;
use axum::http::StatusCode;
use gatekey_aggregates::attempt::{Denial, Event};
use gatekey_aggregates::values::{SecretId, UserId, clip};
use gatekey_aggregates::{Metadata, PersonId, Personal};

/// Longest account name that is told from others: an e-mail address's.
const MAX_ACCOUNT: usize = 254;

/// Whose user name or e-mail address `typed` is, if `password` is theirs and they may sign in.
pub async fn sign_in(
    services: &Services,
    back_off: &BackOff,
    circumstances: &Circumstances,
    typed: &str,
    password: &Secret,
) -> Result<(UserId, UserEntry), ApiError> {
    let account = clip(typed.trim().to_lowercase(), MAX_ACCOUNT);
    let found = find(&services.index.read(), &account);
    let known = found.as_ref().map(|(id, _)| id);
    let fail = |reason: &str| {
        // A name that is nobody's is not kept, not even its hash: it may well be a password that
        // was typed into the wrong field, and a mistyped one can be guessed from its hash.
        let nobody = PersonId::unknown_on(circumstances.now.date_naive());
        let denial = Denial {
            user_id: known.cloned(),
            username: known.map(|id| Personal::new(PersonId::user(id), account.clone())),
            client_ip: Some(Personal::new(nobody, circumstances.client_ip)),
            ..Denial::new(reason)
        };
        services.attempts.record(Event::LoginFailed, denial, circumstances.metadata());
    };
    let too_early = |wait: Wait| {
        fail("too_many_attempts");
        ApiError::from(wait)
    };

    let client = circumstances.client_ip;
    back_off.check_from(&account, client, circumstances.now).map_err(too_early)?;
    let secret = found.as_ref().and_then(|(_, user)| user.password.as_ref());
    // Before the database is asked: a flood must not even come so far.
    let _place = services.passwords.place_for(client)?;
    let matches = verify(services, secret, password).await?;
    let wrong = match &found {
        None => Some("unknown_user"),
        Some((_, user)) if user.password.is_none() => Some("no_password"),
        Some(_) if !matches => Some("wrong_password"),
        Some((_, user)) if !user.active => Some("user_disabled"),
        Some(_) => None,
    };
    let now = services.clock.now();
    back_off.settle_from(&account, client, now, wrong.is_none()).map_err(too_early)?;
    if let Some(reason) = wrong {
        fail(reason);
    }
    found.filter(|_| wrong.is_none()).ok_or_else(invalid_credentials)
}

/// Whether `password` is the caller's own, before they change it. Whoever found an open session
/// must not find out the password by it.
pub async fn confirm(
    services: &Services,
    back_off: &BackOff,
    caller: &Caller,
    secret: &SecretId,
    password: &Secret,
) -> Result<(), ApiError> {
    // No user name holds a space: failed logins do not keep anybody from changing their password.
    let account = format!("change {}", caller.user_id);
    let fail = |reason: &str| {
        let denial = Denial {
            user_id: Some(caller.user_id.clone()),
            client_ip: Some(caller.personal(caller.circumstances.client_ip)),
            ..Denial::new(reason)
        };
        let metadata: Metadata = caller.metadata(None);
        services.attempts.record(Event::LoginFailed, denial, metadata);
    };
    let too_early = |wait: Wait| {
        fail("too_many_attempts");
        ApiError::from(wait)
    };
    back_off.check(&account, caller.circumstances.now).map_err(too_early)?;
    let matches = verify(services, Some(secret), password).await?;
    back_off.settle(&account, services.clock.now(), matches).map_err(too_early)?;
    if matches {
        return Ok(());
    }
    fail("wrong_current_password");
    Err(ApiError::invalid_field("current_password", "is not your password").code("wrong_password"))
}

async fn verify(
    services: &Services,
    secret: Option<&SecretId>,
    password: &Secret,
) -> Result<bool, ApiError> {
    let nothing: SecretId = services.entropy.id()?;
    let stored = match services.vault.open(secret.unwrap_or(&nothing)).await {
        Ok(hash) => Some(hash),
        // None, or one that was replaced this moment.
        Err(VaultError::Missing(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let stored = match &stored {
        Some(hash) => Some(std::str::from_utf8(hash).map_err(ApiError::internal)?),
        None => None,
    };
    Ok(services.passwords.verify(password, stored).await?)
}

/// The user with this lower-case user name or e-mail address. Looks at all of them either way.
fn find(state: &State, account: &str) -> Option<(UserId, UserEntry)> {
    let is_email = account.contains('@');
    let is_theirs = |user: &UserEntry| {
        let profile = &user.profile;
        if is_email {
            profile.email.open().is_some_and(|it| it.as_str() == account)
        } else {
            profile.username.open().is_some_and(|it| it.as_str() == account)
        }
    };
    let theirs = state.users.iter().filter(|(_, user)| is_theirs(user)).last();
    theirs.map(|(id, user)| (id.clone(), user.clone()))
}

/// The one answer to all that failed.
pub fn invalid_credentials() -> ApiError {
    ApiError::unauthorized_as("invalid_credentials", "Wrong user name, e-mail address or password")
}

impl From<Wait> for ApiError {
    fn from(wait: Wait) -> Self {
        let message = format!("Too many failures: try again in {} s", wait.seconds);
        Self {
            retry_after: Some(wait.seconds),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_attempts", message)
        }
    }
}
