//! The extractors that prove who may call. All of it is answered from memory.

use super::credential::Credential;
use super::principal::{Caller, Circumstances, Unproven, authenticate};
use super::same_origin;
use crate::api::{ApiError, ClientIp, RequestId};
use crate::config::Config;
use crate::services::Services;
use axum::extract::{FromRef, FromRequestParts, MatchedPath, OptionalFromRequestParts};
use axum::http::header;
use axum::http::request::Parts;
use gatekey_aggregates::attempt::{self, Denial};
use gatekey_aggregates::login::MAX_USER_AGENT;
use gatekey_aggregates::values::{Role, clip};
use std::ops::Deref;
use std::sync::Arc;

/// Anyone. Nothing is proven, and nothing of what is shown is looked at.
#[derive(Clone, Debug)]
pub struct Public(Circumstances);

impl Deref for Public {
    type Target = Circumstances;

    fn deref(&self) -> &Circumstances {
        &self.0
    }
}

impl<S> FromRequestParts<S> for Public
where
    S: Send + Sync,
    Arc<Services>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let services = <Arc<Services>>::from_ref(state);
        circumstances(parts, &services).map(Self)
    }
}

macro_rules! principals {
    ($($(#[$doc:meta])* $name:ident: |$caller:ident| $allowed:expr;)+) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug)]
            pub struct $name(Caller);

            impl Deref for $name {
                type Target = Caller;

                fn deref(&self) -> &Caller {
                    &self.0
                }
            }

            impl<S> FromRequestParts<S> for $name
            where
                S: Send + Sync,
                Arc<Services>: FromRef<S>,
                Arc<Config>: FromRef<S>,
            {
                type Rejection = ApiError;

                async fn from_request_parts(
                    parts: &mut Parts,
                    state: &S,
                ) -> Result<Self, ApiError> {
                    let services = <Arc<Services>>::from_ref(state);
                    let $caller = identify(parts, &services, &<Arc<Config>>::from_ref(state))?
                        .ok_or_else(ApiError::unauthorized)?;
                    let allowed: Result<(), ApiError> = $allowed;
                    match allowed {
                        Ok(()) => Ok(Self($caller)),
                        Err(error) => Err(refuse(parts, &services, &$caller, error)),
                    }
                }
            }
        )+
    };
}

principals! {
    /// Any active user, even one who must change their password before anything else. As
    /// `Option<SignedIn>`: whoever it is, if they prove it.
    SignedIn: |_caller| Ok(());
    /// Any active user.
    Member: |caller| has_role(&caller, Role::Member);
    /// An auditor or an admin: may read all that an admin may, and change nothing.
    Auditor: |caller| has_role(&caller, Role::Auditor);
    /// An admin.
    Admin: |caller| has_role(&caller, Role::Admin);
}

impl<S> OptionalFromRequestParts<S> for SignedIn
where
    S: Send + Sync,
    Arc<Services>: FromRef<S>,
    Arc<Config>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Option<Self>, ApiError> {
        let services = <Arc<Services>>::from_ref(state);
        let caller = identify(parts, &services, &<Arc<Config>>::from_ref(state))?;
        Ok(caller.map(Self))
    }
}

/// Roles are ordered: each may do what those before it may.
fn has_role(caller: &Caller, least: Role) -> Result<(), ApiError> {
    if caller.must_change_password {
        return Err(password_change_required());
    }
    if caller.role < least { Err(ApiError::forbidden()) } else { Ok(()) }
}

fn password_change_required() -> ApiError {
    ApiError::forbidden_as(
        "password_change_required",
        "Change your password first: POST /api/v1/auth/local/change-password",
    )
}

fn cross_origin() -> ApiError {
    ApiError::forbidden_as(
        "cross_origin",
        "With a cookie, changes are only taken from this server's own pages; scripts send \
         `Authorization: Bearer …`",
    )
}

fn circumstances(parts: &Parts, services: &Services) -> Result<Circumstances, ApiError> {
    let missing = || ApiError::internal("the edge layer is missing");
    let ClientIp(client_ip) = *parts.extensions.get::<ClientIp>().ok_or_else(missing)?;
    let request_id = parts.extensions.get::<RequestId>().ok_or_else(missing)?.clone();
    let user_agent = parts.headers.get(header::USER_AGENT).map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        clip(text.chars().filter(|c| !c.is_control()).collect(), MAX_USER_AGENT)
    });
    Ok(Circumstances { client_ip, user_agent, request_id, now: services.clock.now() })
}

/// Who is calling, if they prove it.
fn identify(
    parts: &Parts,
    services: &Services,
    config: &Config,
) -> Result<Option<Caller>, ApiError> {
    let circumstances = circumstances(parts, services)?;
    let Some(shown) = Credential::of(&parts.headers) else { return Ok(None) };
    if services.index.staleness() > config.max_staleness {
        // Whom to trust may have changed since.
        return Err(ApiError::unavailable("The database is unavailable: try again"));
    }
    let last_used = |id: &str| services.telemetry.last_use(id).map(|it| it.at);
    let authenticated = authenticate(&services.index.read(), shown, circumstances, last_used);
    let caller = match authenticated {
        Ok(caller) => caller,
        Err(Unproven::Invalid) => return Ok(None),
        Err(Unproven::WrongSource(caller)) => {
            record(parts, services, &caller, "source_not_allowed");
            return Ok(None);
        }
    };
    let by_cookie = matches!(shown, Credential::Session { cookie: true, .. });
    if by_cookie && !same_origin::is_proven(parts, config) {
        return Err(refuse(parts, services, &caller, cross_origin()));
    }
    services.telemetry.used(caller.proof.id(), Some(caller.circumstances.client_ip));
    Ok(Some(caller))
}

/// Takes down that somebody we know asked for what they may not do.
fn refuse(parts: &Parts, services: &Services, caller: &Caller, error: ApiError) -> ApiError {
    // That somebody has yet to change their password is no attempt at anything.
    if !caller.must_change_password || error.code == "cross_origin" {
        record(parts, services, caller, error.code);
    }
    error
}

fn record(parts: &Parts, services: &Services, caller: &Caller, reason: &str) {
    // The route's pattern: a path may hold secrets.
    let route = parts.extensions.get::<MatchedPath>().map_or("(none)", MatchedPath::as_str);
    let denial = Denial {
        user_id: Some(caller.user_id.clone()),
        client_ip: Some(caller.personal(caller.circumstances.client_ip)),
        target: Some(format!("{} {route}", parts.method)),
        ..Denial::new(reason)
    };
    services.attempts.record(attempt::Event::RequestForbidden, denial, caller.metadata(None));
}
