//! The beginning of a web login, however the person proved who they are.

use super::credential::new_session_token;
use super::principal::Circumstances;
use crate::access::UserEntry;
use crate::api::ApiError;
use crate::entropy::token_hash;
use crate::event_log::Request;
use crate::services::Services;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::login::{Beginning, Command, EndReason, Login, Method};
use gatekey_aggregates::values::{LoginId, UserId};
use gatekey_aggregates::{
    Actor, ActorKind, Credential, CredentialKind, Metadata, PersonId, Personal,
};

/// A login that has begun.
pub struct Begun {
    /// `ses-…`
    pub id: LoginId,
    /// Told once.
    pub token: String,
    /// When it ends at the latest.
    pub expires_at: DateTime<Utc>,
}

/// Begins a login of `user_id`, who was `user` when they proved it. The very next request can use
/// it. None if their password, role or standing has changed meanwhile: then they have proved
/// nothing.
pub async fn begin(
    services: &Services,
    circumstances: &Circumstances,
    user_id: &UserId,
    user: &UserEntry,
    method: Method,
) -> Result<Option<Begun>, ApiError> {
    let token = new_session_token(&services.entropy)?;
    let id: LoginId = services.entropy.id()?;
    let hours = services.index.read().settings.login_lifetime_hours;
    let expires_at = services.clock.now() + TimeDelta::hours(i64::from(hours));
    let person = PersonId::user(user_id);
    let beginning = Beginning {
        user_id: user_id.clone(),
        method,
        token_hash: token_hash(&token),
        client_ip: Some(Personal::new(person.clone(), circumstances.client_ip)),
        user_agent: circumstances
            .user_agent
            .clone()
            .map(|agent| Personal::new(person.clone(), agent)),
        expires_at,
    };
    let metadata = metadata(circumstances, user_id, user, method);
    let request = Request::new::<Login>(&id, Command::Begin(beginning), metadata.clone()).fresh();
    let outcome = services.bus.execute::<Login>(request).await?;

    // What changed before the login began did not end it, and what the index has not seen, nobody
    // can use.
    let position = outcome.appended.map_or(0, |it| it.last_position);
    if services.index.read().position < position && services.index.catch_up().await.is_err() {
        return Err(ApiError::unavailable("The database is unavailable: try again"));
    }
    let same = services.index.read().users.get(user_id).is_some_and(|now| {
        now.active
            && now.role == user.role
            && now.password == user.password
            && now.must_change_password == user.must_change_password
    });
    if !same {
        let end = Command::End(EndReason::Revoked);
        services.bus.execute::<Login>(Request::new::<Login>(&id, end, metadata)).await?;
        return Ok(None);
    }
    Ok(Some(Begun { id, token, expires_at }))
}

fn metadata(
    circumstances: &Circumstances,
    user_id: &UserId,
    user: &UserEntry,
    method: Method,
) -> Metadata {
    let email = user.profile.email.open().map(ToString::to_string);
    let username = || user.profile.username.open().map(ToString::to_string);
    let kind = match method {
        Method::Local => CredentialKind::Password,
        Method::Oidc | Method::Saml => CredentialKind::None,
    };
    circumstances.metadata_of(
        Actor {
            kind: ActorKind::User,
            id: user_id.to_string(),
            label: email.or_else(username).unwrap_or_default(),
        },
        Credential { kind, id: String::new() },
        PersonId::user(user_id),
        None,
    )
}
