//! The extractors that prove who may call. All of it is answered from memory.

use super::credential::Credential;
use super::principal::{Caller, Circumstances, KeyOwner, Proof, Unproven, authenticate};
use super::same_origin;
use super::scopes::{self, Need};
use crate::api::{ApiError, ClientIp, RequestId};
use crate::config::Config;
use crate::services::Services;
use axum::extract::{FromRef, FromRequestParts, MatchedPath, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, header};
use gatekey_aggregates::attempt::{self, Denial};
use gatekey_aggregates::login::MAX_USER_AGENT;
use gatekey_aggregates::values::{Role, Scope, clip};
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
        circumstances(&parts.headers, &parts.extensions, &services).map(Self)
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
                    match allowed.and_then(|()| has_scope(parts, &$caller)) {
                        Ok(()) => {
                            parts.extensions.insert(KeyOwner::of(&$caller));
                            Ok(Self($caller))
                        }
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
        if let Some(caller) = &caller
            && let Err(error) = has_scope(parts, caller)
        {
            return Err(refuse(parts, &services, caller, error));
        }
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

/// A web login may do all that its owner may. An API key needs the scope of the operation; of one
/// that is not known, all of them.
fn has_scope(parts: &Parts, caller: &Caller) -> Result<(), ApiError> {
    let Proof::ApiKey(key) = &caller.proof else { return Ok(()) };
    let route = parts.extensions.get::<MatchedPath>().map_or("", MatchedPath::as_str);
    match scopes::needed(&parts.method, route).unwrap_or(Need::Scope(Scope::All)) {
        Need::Scope(needed) if !scopes::grants(&key.scopes, Need::Scope(needed)) => {
            Err(ApiError::insufficient_scope(needed))
        }
        Need::Scope(_) | Need::Nothing => Ok(()),
    }
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

/// What is known of a request before anything is proven.
pub(super) fn circumstances(
    headers: &HeaderMap,
    extensions: &Extensions,
    services: &Services,
) -> Result<Circumstances, ApiError> {
    let missing = || ApiError::internal("the edge layer is missing");
    let ClientIp(client_ip) = *extensions.get::<ClientIp>().ok_or_else(missing)?;
    let request_id = extensions.get::<RequestId>().ok_or_else(missing)?.clone();
    let user_agent = headers.get(header::USER_AGENT).map(|value| {
        let text = String::from_utf8_lossy(value.as_bytes());
        clip(text.chars().filter(|c| !c.is_control()).collect(), MAX_USER_AGENT)
    });
    Ok(Circumstances { client_ip, user_agent, request_id, now: services.clock.now() })
}

/// Who is calling, as found out before the handler is asked: with the request it goes to the
/// extractors, which ask no second time.
#[derive(Clone)]
pub(super) struct Identified(Arc<Result<Option<Caller>, ApiError>>);

impl Identified {
    /// What [`identify`] gave.
    pub(super) fn new(identified: Result<Option<Caller>, ApiError>) -> Self {
        Self(Arc::new(identified))
    }
}

/// Who is calling, if they prove it.
pub(super) fn identify(
    parts: &Parts,
    services: &Services,
    config: &Config,
) -> Result<Option<Caller>, ApiError> {
    if let Some(Identified(known)) = parts.extensions.get() {
        return Result::clone(known);
    }
    let circumstances = circumstances(&parts.headers, &parts.extensions, services)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client::{Client, PASSWORD, add_user, change_user};
    use crate::api::edge::{self, Edge};
    use crate::app::AppState;
    use crate::clock::Clock;
    use crate::testing;
    use axum::Router;
    use axum::routing::{get, post};
    use gatekey_aggregates::user::Command;
    use gatekey_aggregates::{ActorKind, CredentialKind, Event};
    use std::time::Duration;

    /// A route for each extractor.
    fn routes(state: &AppState) -> Router {
        let routes = Router::new()
            .route("/public", get(|_: Public| async {}))
            .route(
                "/maybe",
                get(|caller: Option<SignedIn>| async move {
                    caller.map(|it| it.username.clone()).unwrap_or_default()
                }),
            )
            .route("/signed-in", get(|_: SignedIn| async {}))
            .route("/member", get(|_: Member| async {}))
            .route("/auditor", get(|_: Auditor| async {}))
            .route("/admin/{id}", get(|_: Admin| async {}).post(|_: Admin| async {}))
            .route(
                "/whom",
                post(|caller: Member| async move {
                    format!("{:?}", caller.metadata(Some("because".to_owned())))
                }),
            );
        let edge = Edge {
            entropy: state.services.entropy.clone(),
            trusted_proxies: Vec::new().into(),
            https: false,
            timeout: edge::TIMEOUT,
            rate_limits: None,
        };
        edge::around(Router::new().nest("/api/v1", routes.with_state(state.clone())), edge)
    }

    #[tokio::test]
    async fn each_lets_in_whom_it_says() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let login = Client::of(&plane);
        let routes = Client::over(routes(&plane.state));
        let mut callers = vec![("nobody", routes.clone()), ("wrong", routes.bearer("gks_wrong"))];
        for (name, role) in [
            ("member", Role::Member),
            ("auditor", Role::Auditor),
            ("admin2", Role::Admin),
            ("pending", Role::Admin),
        ] {
            let id = add_user(&plane.state, name, role).await;
            if name == "pending" {
                let password = plane.state.services.index.read().users[&id].password.clone();
                let password = password.unwrap();
                let command = Command::ChangePassword {
                    password,
                    must_change_password: true,
                    expected: None,
                };
                change_user(&plane.state, &id, command).await;
            }
            let answer = login.try_login(name, PASSWORD).await;
            let token = answer.body["data"]["token"].as_str().unwrap().to_owned();
            callers.push((name, routes.bearer(&token)));
        }
        // By caller, in the order above.
        for (path, expected) in [
            ("/public", [200, 200, 200, 200, 200, 200]),
            ("/maybe", [200, 200, 200, 200, 200, 200]),
            ("/signed-in", [401, 401, 200, 200, 200, 200]),
            ("/member", [401, 401, 200, 200, 200, 403]),
            ("/auditor", [401, 401, 403, 200, 200, 403]),
            ("/admin/1", [401, 401, 403, 403, 200, 403]),
        ] {
            for ((name, caller), status) in callers.iter().zip(expected) {
                let answer = caller.get(path).await;
                assert_eq!(answer.status, status, "{name} {path}");
                let code = match (status, *name) {
                    (401, _) => "unauthorized",
                    (403, "pending") => "password_change_required",
                    (403, _) => "forbidden",
                    _ => "",
                };
                assert_eq!(answer.code(), code, "{name} {path}");
            }
        }
        assert_eq!(callers[0].1.get("/maybe").await.body, "");
        assert_eq!(callers[1].1.get("/maybe").await.body, "");
        assert_eq!(callers[2].1.get("/maybe").await.body, "member");
    }

    #[tokio::test]
    async fn a_key_may_what_its_scopes_say_and_what_its_owner_may() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let client = Client::of(&plane);
        add_user(&plane.state, "ada", Role::Member).await;
        let (admin, ada) = (client.admin().await, client.login("ada", PASSWORD).await);
        let key = async |owner: &Client, scopes: &[&str]| {
            let body = serde_json::json!({"name": "ci", "scopes": scopes});
            let made = owner.post("/api-keys", body).await;
            client.bearer(made.body["data"]["key"].as_str().unwrap())
        };
        let both = ["read:gateways", "write:networks"];
        let (narrow, members) = (key(&admin, &both).await, key(&ada, &["read:users"]).await);
        for (caller, method, path, status, lacks) in [
            (&narrow, "GET", "/admin/gateways", 200, ""),
            (&narrow, "HEAD", "/admin/gateways", 200, ""),
            (&narrow, "GET", "/gateways", 200, ""),
            (&narrow, "GET", "/admin/networks", 200, ""),
            (&narrow, "DELETE", "/admin/networks/net-none", 404, ""),
            (&narrow, "DELETE", "/admin/gateways/gw-none", 403, "write:gateways"),
            (&narrow, "GET", "/admin/audit", 403, "audit:read"),
            (&narrow, "GET", "/users/me", 403, "read:users"),
            (&narrow, "POST", "/configs/generate", 403, "vpn:connect"),
            (&narrow, "POST", "/admin/users", 403, "*"),
            (&narrow, "POST", "/auth/local/change-password", 403, "*"),
            // What tells a key of itself, and what is for anyone, needs none.
            (&narrow, "GET", "/auth/api-key/validate", 200, ""),
            (&narrow, "GET", "/auth/session", 200, ""),
            (&members, "GET", "/users/me", 200, ""),
        ] {
            let answer = caller.call(method, path, None).await;
            assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
            if status == 403 {
                assert_eq!(answer.code(), "insufficient_scope", "{method} {path}");
                let challenge = answer.headers["www-authenticate"].to_str().unwrap();
                assert!(challenge.ends_with(&format!(r#"scope="{lacks}""#)), "{challenge}");
            }
        }
        // The right scope makes nobody an admin.
        assert_eq!(members.get("/admin/users").await.code(), "forbidden");
    }

    #[tokio::test]
    async fn on_a_route_that_nobody_knows_a_key_needs_all() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let client = Client::of(&plane);
        let admin = client.admin().await;
        let routes = Client::over(routes(&plane.state));
        for (scopes, status, whom) in [
            (vec!["read", "write:users", "vpn:connect", "audit:read"], 403, 403),
            (vec!["*"], 200, 200),
        ] {
            let body = serde_json::json!({"name": "ci", "scopes": scopes});
            let made = admin.post("/api-keys", body).await;
            let key = routes.bearer(made.body["data"]["key"].as_str().unwrap());
            assert_eq!(key.get("/member").await.status, status);
            assert_eq!(key.get("/signed-in").await.status, status);
            assert_eq!(key.get("/maybe").await.status, whom);
            assert_eq!(key.get("/public").await.status, 200);
        }
    }

    #[tokio::test]
    async fn who_asks_for_too_much_is_taken_down_by_route() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let id = add_user(&plane.state, "ada", Role::Member).await;
        let answer = Client::of(&plane).try_login("ada", PASSWORD).await;
        let token = answer.body["data"]["token"].as_str().unwrap().to_owned();
        let ada = Client::over(routes(&plane.state)).bearer(&token).with("user-agent", "curl/8.0");
        assert_eq!(ada.call("POST", "/admin/secret", None).await.status, 403);
        let recorded = 'found: {
            for _ in 0..500 {
                let events = plane.state.services.reader.after(0, 1000).await.unwrap();
                let is_it = |event: &Event| matches!(event, Event::Attempt(_));
                if let Some(found) = events.into_iter().find(|it| is_it(&it.event)) {
                    break 'found found;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            panic!("it was not written down");
        };
        let Event::Attempt(attempt::Event::RequestForbidden(denial)) = &recorded.event else {
            panic!("{recorded:?}");
        };
        assert_eq!(denial.reason, "forbidden");
        assert_eq!(denial.target.as_deref(), Some("POST /api/v1/admin/{id}"));
        assert_eq!(denial.user_id.as_ref(), Some(&id));
        let metadata = &recorded.metadata;
        assert_eq!(metadata.actor.kind, ActorKind::User);
        assert_eq!(metadata.actor.label, "ada@example.com");
        assert_eq!(metadata.credential.kind, CredentialKind::Session);
        assert!(metadata.credential.id.starts_with("ses-"));
        assert_eq!(metadata.source_ip.as_deref(), Some("192.0.2.1"));
        assert_eq!(metadata.user_agent.as_deref(), Some("curl/8.0"));
    }

    #[tokio::test]
    async fn what_an_event_keeps_of_a_caller_is_bounded() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let answer = Client::of(&plane).try_login("admin", testing::ADMIN_PASSWORD).await;
        let token = answer.body["data"]["token"].as_str().unwrap().to_owned();
        let long = "x".repeat(5_000);
        let admin = Client::over(routes(&plane.state)).bearer(&token).with("user-agent", &long);
        let metadata = admin.with("x-request-id", "r-1").call("POST", "/whom", None).await.body;
        let metadata = metadata.as_str().unwrap();
        assert!(metadata.contains(r#"request_id: Some("r-1")"#), "{metadata}");
        assert!(metadata.contains(r#"reason: Some("because")"#), "{metadata}");
        assert!(metadata.contains(&"x".repeat(MAX_USER_AGENT)));
        assert!(!metadata.contains(&"x".repeat(MAX_USER_AGENT + 1)));
    }

    #[tokio::test]
    async fn nobody_is_trusted_by_what_may_be_out_of_date() {
        let fresh = testing::start("", vec![], Clock::system()).await;
        let answer = Client::of(&fresh).try_login("admin", testing::ADMIN_PASSWORD).await;
        let token = answer.body["data"]["token"].as_str().unwrap().to_owned();
        let mut state = fresh.state.clone();
        let config = Config { max_staleness: Duration::ZERO, ..(*state.config).clone() };
        state.config = config.into();
        let stale = Client::over(routes(&state));
        let answer = stale.bearer(&token).get("/member").await;
        assert_eq!((answer.status, answer.code()), (503, "unavailable"));
        assert!(answer.headers.contains_key(header::RETRY_AFTER));
        // Who shows nothing is nobody in any case.
        assert_eq!(stale.get("/member").await.status, 401);
    }
}
