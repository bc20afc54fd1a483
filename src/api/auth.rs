//! `/auth`: signing in and out with a password, who one is, and one's own sessions.

use super::logins::idle_since;
use super::openapi::{Access, callable_by};
use super::{ApiError, Data, Filter, Json, List, Page, Path};
use crate::app::AppState;
use crate::auth::back_off::BackOff;
use crate::auth::{Caller, Member, Proof, Public, SignedIn, cookie, local, login, password};
use crate::config::Config;
use crate::event_log::Request;
use crate::secrets::Secret;
use crate::services::Services;
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use gatekey_aggregates::login::{Command, EndReason, Login, Method};
use gatekey_aggregates::user::{self, ApiKey, User};
use gatekey_aggregates::values::{
    ApiKeyId, Cidr, GroupName, LoginId, ResourceName, Role, Scope, UserId, from_micros,
};
use gatekey_projections::logins;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let anyone = OpenApiRouter::new()
        .routes(routes!(local_login))
        .routes(routes!(logout))
        .routes(routes!(session))
        .routes(routes!(providers));
    let member = OpenApiRouter::new()
        .routes(routes!(change_password))
        .routes(routes!(list_sessions))
        .routes(routes!(end_session))
        .routes(routes!(validate_api_key));
    callable_by(Access::Anyone, anyone)
        .merge(callable_by(Access::Member, member))
        .layer(Extension(BackOff::default()))
}

/// A person, as they see themselves.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Me {
    /// Their id.
    pub id: UserId,
    /// What they sign in with.
    #[schema(example = "ada")]
    pub username: String,
    /// Their e-mail address.
    #[schema(example = "ada@example.com")]
    pub email: String,
    /// What they are called.
    #[schema(required, example = "Ada Lovelace")]
    pub name: Option<String>,
    /// What they may do.
    pub role: Role,
    /// Their groups.
    pub groups: Vec<GroupName>,
    /// Whether they must change their password before anything else.
    pub must_change_password: bool,
}

impl From<&Caller> for Me {
    fn from(caller: &Caller) -> Self {
        Self {
            id: caller.user_id.clone(),
            username: caller.username.clone(),
            email: caller.email.clone(),
            name: caller.name.clone(),
            role: caller.role,
            groups: caller.groups.iter().cloned().collect(),
            must_change_password: caller.must_change_password,
        }
    }
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct LocalLogin {
    /// User name or e-mail address.
    #[schema(example = "admin")]
    username: String,
    /// Their password.
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    password: Secret,
}

/// A session that was begun.
#[derive(Serialize, ToSchema)]
struct LoggedIn {
    /// For `Authorization: Bearer …`. Told this once.
    #[schema(example = "gks_q0wYdvEDGUlRbNvX1xyFAUOxzJlL9jqq3oRxLDjdyVI")]
    token: String,
    /// When the session ends at the latest. Idle, it ends sooner.
    expires_at: DateTime<Utc>,
    user: Me,
}

/// Sign in with a password
///
/// The answer holds a session token for scripts, and sets the session's cookie for browsers. An
/// unknown user and a wrong password get the same answer. After 5 failures in a row an account
/// must wait 1, 2, 4, … seconds, at most a minute.
#[utoipa::path(
    post, path = "/auth/local/login", tag = "Auth", operation_id = "localLogin",
    request_body = LocalLogin,
    responses(
        (status = 200, description = "Signed in.", body = Data<LoggedIn>,
            headers(("Set-Cookie" = String, description = "`gatekey_session`"))),
        (status = 401, description = "`invalid_credentials`", body = super::error::ErrorBody),
        (status = 429, description = "`too_many_attempts`, or over the rate limit: `Retry-After` says when to go on.",
            body = super::error::ErrorBody),
    )
)]
async fn local_login(
    public: Public,
    State(services): State<Arc<Services>>,
    State(config): State<Arc<Config>>,
    Extension(back_off): Extension<BackOff>,
    Json(given): Json<LocalLogin>,
) -> Result<Response, ApiError> {
    let (user_id, user) =
        local::sign_in(&services, &back_off, &public, &given.username, &given.password).await?;
    let begun = login::begin(&services, &public, &user_id, &user, Method::Local).await?;
    let begun = begun.ok_or_else(local::invalid_credentials)?;
    let profile = &user.profile;
    let me = Me {
        id: user_id,
        username: profile.username.open().map(ToString::to_string).unwrap_or_default(),
        email: profile.email.open().map(ToString::to_string).unwrap_or_default(),
        name: profile.name.as_ref().and_then(|it| it.open()).map(ToString::to_string),
        role: user.role,
        groups: user.groups.iter().cloned().collect(),
        must_change_password: user.must_change_password,
    };
    let cookie = cookie::set(&config, &begun.token, services.clock.now(), begun.expires_at);
    let data = LoggedIn { token: begun.token, expires_at: begun.expires_at, user: me };
    Ok((set_cookie(cookie), Data { data }).into_response())
}

fn set_cookie(cookie: Option<HeaderValue>) -> HeaderMap {
    cookie.map(|cookie| (header::SET_COOKIE, cookie)).into_iter().collect()
}

/// Who makes a request.
#[derive(Serialize, ToSchema)]
struct Session {
    /// Whether the request shows who makes it.
    authenticated: bool,
    /// Who.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<Me>,
    /// Their session, where it is one and no API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionFacts>,
}

/// A web login that goes on.
#[derive(Serialize, ToSchema)]
struct SessionFacts {
    /// Its id.
    id: LoginId,
    /// When it ends at the latest. Idle, it ends sooner.
    expires_at: DateTime<Utc>,
    /// How they signed in.
    method: Method,
}

impl Session {
    const NONE: Self = Self { authenticated: false, user: None, session: None };

    fn of(caller: &Caller) -> Self {
        let session = match &caller.proof {
            Proof::Session { id, method, expires_at } => {
                Some(SessionFacts { id: id.clone(), expires_at: *expires_at, method: *method })
            }
            Proof::ApiKey(_) => None,
        };
        Self { authenticated: true, user: Some(caller.into()), session }
    }
}

/// Who am I
#[utoipa::path(
    get, path = "/auth/session", tag = "Auth", operation_id = "getSession",
    responses((status = 200, description = "Who makes this request, as far as it shows.", body = Data<Session>))
)]
async fn session(caller: Option<SignedIn>) -> Data<Session> {
    Data { data: caller.map_or(Session::NONE, |caller| Session::of(&caller)) }
}

/// Sign out
///
/// Ends the session, if there is one, and removes the cookie. Once is enough, but twice does no
/// harm.
#[utoipa::path(
    post, path = "/auth/logout", tag = "Auth", operation_id = "logout",
    responses(
        (status = 200, description = "Signed out.", body = Data<Session>,
            headers(("Set-Cookie" = String, description = "Removes `gatekey_session`"))),
        (status = 403, description = "`cross_origin`: not from this server's own pages.", body = super::error::ErrorBody),
    )
)]
async fn logout(
    caller: Option<SignedIn>,
    State(services): State<Arc<Services>>,
    State(config): State<Arc<Config>>,
) -> Result<Response, ApiError> {
    if let Some(caller) = caller
        && let Proof::Session { id, .. } = &caller.proof
    {
        let end = Command::End(EndReason::Logout);
        let request = Request::new::<Login>(id, end, caller.metadata(None));
        services.bus.execute::<Login>(request).await?;
    }
    Ok((set_cookie(cookie::clear(&config)), Data { data: Session::NONE }).into_response())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ChangePassword {
    /// The one that is to be replaced.
    #[schema(value_type = String, format = Password, example = "correct horse battery staple")]
    current_password: Secret,
    /// 12 to 256 characters, and neither the user name nor the e-mail address.
    #[schema(value_type = String, format = Password, min_length = 12, max_length = 256, example = "a quiet pond at dusk")]
    new_password: Secret,
}

/// Change the own password
///
/// Ends all sessions of this user, this one too: sign in anew. API keys stay.
#[utoipa::path(
    post, path = "/auth/local/change-password", tag = "Auth", operation_id = "changePassword",
    request_body = ChangePassword,
    responses(
        (status = 200, description = "Changed. All sessions have ended.", body = Data<Me>,
            headers(("Set-Cookie" = String, description = "Removes `gatekey_session`"))),
        (status = 409, description = "`no_password`: this user signs in otherwise. `password_changed`: somebody changed it meanwhile.",
            body = super::error::ErrorBody),
        (status = 429, description = "`too_many_attempts`: `Retry-After` says when to go on.",
            body = super::error::ErrorBody),
    )
)]
async fn change_password(
    caller: SignedIn,
    State(services): State<Arc<Services>>,
    State(config): State<Arc<Config>>,
    Extension(back_off): Extension<BackOff>,
    Json(given): Json<ChangePassword>,
) -> Result<Response, ApiError> {
    let user = services.index.read().users.get(&caller.user_id).cloned();
    let user = user.ok_or_else(ApiError::unauthorized)?;
    let old = user.password.clone().ok_or_else(|| {
        ApiError::conflict("no_password", "You have no password here: you sign in otherwise")
    })?;
    local::confirm(&services, &back_off, &caller, &old, &given.current_password).await?;

    let new = &given.new_password;
    let wrong = |why: &str| ApiError::invalid_field("new_password", why);
    let (Some(username), Some(email)) = (user.profile.username.open(), user.profile.email.open())
    else {
        return Err(ApiError::unauthorized());
    };
    password::check(new, username, email).map_err(|why| wrong(&why))?;
    if new.matches(given.current_password.expose()) {
        return Err(wrong("must be another than the current one"));
    }
    let hash = services.passwords.hash(new).await?;
    let hash = services.vault.seal(hash.as_bytes(), None)?;
    let command = user::Command::ChangePassword {
        password: hash.id.clone(),
        must_change_password: false,
        // Should it be reset while this takes its time, what was confirmed proves nothing any more.
        expected: Some(old.clone()),
    };
    let request = Request::new::<User>(&caller.user_id, command, caller.metadata(None))
        .with_secret(hash)
        .forget(old);
    services.bus.execute::<User>(request).await?;
    let data = Me { must_change_password: false, ..Me::from(&*caller) };
    Ok((set_cookie(cookie::clear(&config)), Data { data }).into_response())
}

#[derive(Serialize, ToSchema)]
struct OwnSession {
    /// Its id.
    id: LoginId,
    /// How they signed in.
    method: Method,
    /// From where.
    #[schema(required, example = "198.51.100.2")]
    client_ip: Option<String>,
    /// With what.
    #[schema(required, example = "curl/8.5.0")]
    user_agent: Option<String>,
    /// When they signed in.
    created_at: DateTime<Utc>,
    /// When it ends at the latest.
    expires_at: DateTime<Utc>,
    /// When it was last used.
    #[schema(required)]
    last_used_at: Option<DateTime<Utc>>,
    /// From where it was last used.
    #[schema(required, example = "198.51.100.2")]
    last_used_ip: Option<String>,
    /// Whether it makes this request.
    current: bool,
}

impl OwnSession {
    fn new(login: logins::Login, caller: &Caller) -> Result<Self, ApiError> {
        let logins::Login { row, last_used, last_ip } = login;
        let method = match row.method.as_str() {
            "oidc" => Method::Oidc,
            "saml" => Method::Saml,
            _ => Method::Local,
        };
        Ok(Self {
            current: row.id == caller.proof.id(),
            id: row.id.parse().map_err(ApiError::internal)?,
            method,
            client_ip: row.client_ip,
            user_agent: row.user_agent,
            created_at: from_micros(row.began_at),
            expires_at: from_micros(row.expires_at),
            last_used_at: last_used.map(from_micros),
            last_used_ip: last_ip,
        })
    }
}

#[derive(Deserialize, IntoParams)]
struct Sessions {}

impl Filter for Sessions {
    const SORT: &'static [&'static str] = logins::SORT;
}

/// The own sessions
///
/// Those that have neither ended nor been idle for too long, the newest first.
#[utoipa::path(
    get, path = "/auth/sessions", tag = "Auth", operation_id = "listOwnSessions",
    params(List<Sessions>),
    responses((status = 200, description = "A page of them.", body = Page<OwnSession>))
)]
async fn list_sessions(
    caller: Member,
    list: List<Sessions>,
    State(services): State<Arc<Services>>,
) -> Result<Page<OwnSession>, ApiError> {
    let now = caller.circumstances.now;
    // What was used in the last two seconds is not in the tables yet.
    services.telemetry.flush().await?;
    let (user_id, idle_since) = (caller.user_id.as_str(), idle_since(&services, now));
    let listed = logins::list(&services.db, user_id, now, idle_since, &list.wanted()?).await?;
    let page = Page::listed(listed, list.paging);
    let data = page.data.into_iter().map(|login| OwnSession::new(login, &caller));
    Ok(Page { data: data.collect::<Result<_, _>>()?, meta: page.meta })
}

/// What was ended or taken away.
#[derive(Serialize, ToSchema)]
pub struct Gone<T> {
    /// Its id.
    pub id: T,
}

/// End one of the own sessions
#[utoipa::path(
    delete, path = "/auth/sessions/{id}", tag = "Auth", operation_id = "endOwnSession",
    params(("id" = LoginId, Path, description = "The session's id")),
    responses((status = 200, description = "Ended, also if it had ended before.", body = Data<Gone<LoginId>>))
)]
async fn end_session(
    caller: Member,
    Path(id): Path<LoginId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Gone<LoginId>>, ApiError> {
    let login = services.bus.load::<Login>(&id).await?.state;
    // Somebody else's is nobody's.
    if login.began.is_none_or(|it| it.user_id != caller.user_id) {
        return Err(ApiError::not_found());
    }
    let end = Command::End(EndReason::Revoked);
    let request = Request::new::<Login>(&id, end, caller.metadata(None));
    services.bus.execute::<Login>(request).await?;
    Ok(Data { data: Gone { id } })
}

/// A key that is good.
#[derive(Serialize, ToSchema)]
struct ValidKey {
    /// `true`: one that isn't gets no answer but 401.
    valid: bool,
    /// What is known of it.
    key: KeyFacts,
    /// Its owner.
    user: Me,
}

/// What is known of a key.
#[derive(Serialize, ToSchema)]
struct KeyFacts {
    /// Its id.
    id: ApiKeyId,
    /// What its owner calls it.
    name: ResourceName,
    /// What it may do, as far as its owner may.
    scopes: Vec<Scope>,
    /// When it ends by itself.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// The networks it may be used from; empty: any.
    source_cidrs: Vec<Cidr>,
}

/// Check an API key
///
/// For the key that makes the request.
#[utoipa::path(
    get, path = "/auth/api-key/validate", tag = "Auth", operation_id = "validateApiKey",
    responses(
        (status = 200, description = "It is good.", body = Data<ValidKey>),
        (status = 401, description = "It is not, or this is no API key.", body = super::error::ErrorBody),
    )
)]
async fn validate_api_key(caller: Member) -> Result<Data<ValidKey>, ApiError> {
    let Proof::ApiKey(ApiKey { id, name, scopes, expires_at, source_cidrs, .. }) =
        caller.proof.clone()
    else {
        return Err(ApiError::unauthorized());
    };
    let key = KeyFacts { id, name, scopes, expires_at, source_cidrs };
    Ok(Data { data: ValidKey { valid: true, key, user: Me::from(&*caller) } })
}

/// A way to sign in.
#[derive(Serialize, ToSchema)]
struct Provider {
    /// `local`: with a password.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "local")]
    kind: &'static str,
    /// What it is called in URLs.
    #[schema(value_type = String, example = "local")]
    name: &'static str,
    /// What people are shown.
    #[schema(value_type = String, example = "User name and password")]
    display_name: &'static str,
}

/// The ways to sign in
#[utoipa::path(
    get, path = "/auth/providers", tag = "Auth", operation_id = "listProviders",
    responses((status = 200, description = "All of them.", body = Data<Vec<Provider>>))
)]
async fn providers(_: Public) -> Data<[Provider; 1]> {
    let local = Provider { kind: "local", name: "local", display_name: "User name and password" };
    Data { data: [local] }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client::{Answer, Client, PASSWORD, add_user, change_user};
    use crate::clock::Clock;
    use crate::testing::{self, ADMIN_PASSWORD, TestPlane};
    use chrono::TimeDelta;
    use gatekey_aggregates::Event;
    use gatekey_aggregates::attempt;
    use serde_json::{Value, json};
    use std::time::Duration;

    async fn plane(toml: &str) -> (TestPlane, Clock, Client) {
        let clock = Clock::fixed(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
        let plane = testing::start(toml, vec![], clock.clone()).await;
        let client = Client::of(&plane);
        (plane, clock, client)
    }

    fn without_request_id(mut answer: Answer) -> Value {
        answer.body["error"].as_object_mut().unwrap().remove("request_id");
        answer.body
    }

    /// The refusals that were written, once there are `count` of them.
    async fn attempts(plane: &TestPlane, count: usize) -> Vec<attempt::Event> {
        for _ in 0..500 {
            let events = plane.state.services.reader.after(0, 1000).await.unwrap();
            let attempts: Vec<_> = events
                .into_iter()
                .filter_map(|it| match it.event {
                    Event::Attempt(attempt) => Some(attempt),
                    _ => None,
                })
                .collect();
            if attempts.len() >= count {
                return attempts;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{count} refusals were not written in time");
    }

    #[tokio::test]
    async fn one_signs_in_by_user_name_or_e_mail() {
        let (plane, _, client) = plane("").await;
        let id = add_user(&plane.state, "ada", Role::Member).await;
        for typed in ["ada", "Ada", " ada ", "ada@example.com", "Ada@Example.COM"] {
            let answer = client.try_login(typed, PASSWORD).await;
            assert_eq!(answer.status, 200, "{typed}: {}", answer.body);
            let data = &answer.body["data"];
            assert_eq!(data["expires_at"], "2027-01-15T20:00:00Z");
            assert_eq!(
                data["user"],
                json!({"id": id, "username": "ada", "email": "ada@example.com", "name": null,
                    "role": "member", "groups": [], "must_change_password": false})
            );
            let token = data["token"].as_str().unwrap();
            assert!(token.starts_with("gks_") && token.len() == 47, "{token}");
            // The very next request can use it.
            let session = client.bearer(token).get("/auth/session").await;
            assert_eq!(session.body["data"]["authenticated"], true);
            assert_eq!(session.body["data"]["user"], data["user"]);
            assert_eq!(session.body["data"]["session"]["method"], "local");
            assert_eq!(session.body["data"]["session"]["expires_at"], data["expires_at"]);
            assert_eq!(client.bearer(token).get("/users/me").await.body["data"], data["user"]);
        }
        let nobody = client.get("/auth/session").await;
        assert_eq!((nobody.status, nobody.body), (200, json!({"data": {"authenticated": false}})));
        assert_eq!(client.get("/users/me").await.status, 401);
    }

    #[tokio::test]
    async fn whatever_is_wrong_the_answer_is_the_same_and_the_log_tells_it_apart() {
        let (plane, _, client) = plane("").await;
        add_user(&plane.state, "ada", Role::Member).await;
        let disabled = add_user(&plane.state, "bob", Role::Member).await;
        change_user(&plane.state, &disabled, user::Command::Disable).await;
        let wrong = [
            ("ada", "a wrong password"),
            ("nobody", "a wrong password"),
            ("bob", PASSWORD),
            ("ada@example.org", PASSWORD),
            ("", ""),
        ];
        for (username, password) in wrong {
            let answer = client.try_login(username, password).await;
            assert_eq!(answer.status, 401, "{username}");
            assert!(answer.cookie().is_none());
            let expected = json!({"error": {"code": "invalid_credentials",
                "message": "Wrong user name, e-mail address or password"}});
            assert_eq!(without_request_id(answer), expected, "{username}");
        }
        // Nobody's names are not told apart: the first is written, the repeats are counted.
        let reasons: Vec<(String, bool)> = attempts(&plane, 3)
            .await
            .iter()
            .map(|it| {
                assert!(matches!(it, attempt::Event::LoginFailed(_)));
                (it.denial().reason.clone(), it.denial().user_id.is_some())
            })
            .collect();
        let expected = [("wrong_password", true), ("unknown_user", false), ("user_disabled", true)];
        assert_eq!(reasons, expected.map(|(reason, known)| (reason.to_owned(), known)));
    }

    #[tokio::test]
    async fn what_was_typed_is_kept_only_where_it_names_somebody() {
        let (plane, _, client) = plane("").await;
        add_user(&plane.state, "ada", Role::Member).await;
        let typed = ["ada", "ada@example.com", PASSWORD, "nobody", "ada@example.org"];
        for username in typed {
            assert_eq!(client.try_login(username, "wrong").await.status, 401);
        }
        // Those who are nobody are alike: one is written now, the repeats are counted.
        let kept: Vec<Option<String>> = attempts(&plane, 3)
            .await
            .iter()
            .map(|it| it.denial().username.as_ref().and_then(|it| it.open()).cloned())
            .collect();
        let expected = [Some("ada"), Some("ada@example.com"), None];
        assert_eq!(kept, expected.map(|it| it.map(str::to_owned)));
    }

    #[tokio::test]
    async fn what_is_no_login_names_its_field() {
        let (_plane, _, client) = plane("").await;
        for (body, field) in [
            (json!({"username": "admin"}), "password"),
            (json!({"password": "x"}), "username"),
            (json!({"username": 5, "password": "x"}), "username"),
            (json!({"username": "admin", "password": "x", "otp": "1"}), "otp"),
        ] {
            let answer = client.post("/auth/local/login", body).await;
            assert_eq!(answer.status, 400);
            assert_eq!(answer.body["error"]["details"][0]["field"], field);
        }
    }

    #[tokio::test]
    async fn who_keeps_guessing_must_wait_known_or_not() {
        let (plane, clock, client) = plane("").await;
        add_user(&plane.state, "ada", Role::Member).await;
        for account in ["ada", "nobody"] {
            for _ in 0..5 {
                assert_eq!(client.try_login(account, "wrong").await.status, 401);
            }
            let refused = client.try_login(&account.to_uppercase(), PASSWORD).await;
            assert_eq!((refused.status, refused.code()), (429, "too_many_attempts"));
            assert_eq!(refused.headers[header::RETRY_AFTER], "1");
        }
        // It goes by account.
        assert_eq!(client.try_login("admin", ADMIN_PASSWORD).await.status, 200);
        clock.advance(TimeDelta::seconds(1));
        assert_eq!(client.try_login("ada", "wrong").await.status, 401);
        let refused = client.try_login("ada", PASSWORD).await;
        assert_eq!(refused.headers[header::RETRY_AFTER], "2");
        clock.advance(TimeDelta::seconds(2));
        assert_eq!(client.try_login("ada", PASSWORD).await.status, 200);
        assert_eq!(client.try_login("ada", "wrong").await.status, 401);
        assert_eq!(client.try_login("ada", PASSWORD).await.status, 200);
    }

    #[tokio::test]
    async fn the_cookie_serves_own_pages_only() {
        let (plane, _, client) = plane("public_url = 'https://vpn.example.com'").await;
        let answer = client.try_login("admin", ADMIN_PASSWORD).await;
        let set = answer.headers[header::SET_COOKIE].to_str().unwrap();
        for part in ["Path=/", "Max-Age=43200", "HttpOnly", "SameSite=Lax", "Secure"] {
            assert!(set.split("; ").any(|it| it == part), "{set}");
        }
        let browser = client.with("cookie", &answer.cookie().unwrap());
        assert_eq!(browser.get("/users/me").await.status, 200);
        let cross_site = browser.with("sec-fetch-site", "cross-site");
        assert_eq!(cross_site.get("/users/me").await.status, 200);

        let make_key =
            |client: Client| async move { client.post("/api-keys", json!({"name": "ci"})).await };
        for stranger in [
            browser.clone(),
            cross_site,
            browser.with("sec-fetch-site", "same-site"),
            browser.with("sec-fetch-site", "none"),
            browser.with("origin", "https://evil.example"),
            browser.with("origin", "null"),
        ] {
            let answer = make_key(stranger.clone()).await;
            assert_eq!((answer.status, answer.code()), (403, "cross_origin"));
            assert_eq!(stranger.call("POST", "/auth/logout", None).await.code(), "cross_origin");
        }
        assert_eq!(make_key(browser.with("sec-fetch-site", "same-origin")).await.status, 201);
        assert_eq!(make_key(browser.with("origin", "https://vpn.example.com")).await.status, 201);
        // A bearer token is never sent by itself.
        let token = answer.body["data"]["token"].as_str().unwrap();
        assert_eq!(make_key(client.bearer(token)).await.status, 201);

        let refused = attempts(&plane, 2).await;
        let targets: Vec<_> =
            refused.iter().map(|it| it.denial().target.clone().unwrap()).collect();
        assert!(targets.contains(&"POST /api/v1/api-keys".to_owned()), "{targets:?}");
        assert!(refused.iter().all(|it| it.denial().reason == "cross_origin"));
    }

    #[tokio::test]
    async fn who_signs_out_is_out() {
        let (_plane, _, client) = plane("").await;
        let answer = client.try_login("admin", ADMIN_PASSWORD).await;
        let browser =
            client.with("cookie", &answer.cookie().unwrap()).with("sec-fetch-site", "same-origin");
        let other = client.admin().await;
        for _ in 0..2 {
            let out = browser.call("POST", "/auth/logout", None).await;
            assert_eq!((out.status, out.cookie()), (200, Some(String::new())));
            assert_eq!(out.body, json!({"data": {"authenticated": false}}));
            assert_eq!(browser.get("/users/me").await.status, 401);
        }
        assert_eq!(client.call("POST", "/auth/logout", None).await.status, 200);
        assert_eq!(other.get("/users/me").await.status, 200);
    }

    #[tokio::test]
    async fn a_session_ends_by_itself() {
        let (_plane, clock, client) = plane("").await;
        let idle = client.admin().await;
        let busy = client.admin().await;
        for minutes in (0..12 * 60).step_by(59) {
            assert_eq!(busy.get("/users/me").await.status, 200, "after {minutes} minutes");
            if minutes > 60 {
                let answer = idle.get("/users/me").await;
                assert_eq!((answer.status, answer.code()), (401, "unauthorized"));
            }
            clock.advance(TimeDelta::minutes(59));
        }
        let session = busy.get("/auth/session").await;
        assert_eq!(session.body, json!({"data": {"authenticated": false}}));

        let exact = client.admin().await;
        clock.advance(TimeDelta::minutes(60) - TimeDelta::microseconds(1));
        assert_eq!(exact.get("/users/me").await.status, 200);
        clock.advance(TimeDelta::minutes(60));
        assert_eq!(exact.get("/users/me").await.status, 401);
    }

    #[tokio::test]
    async fn a_changed_password_ends_all_sessions_and_no_key() {
        let (plane, clock, client) = plane("").await;
        add_user(&plane.state, "ada", Role::Member).await;
        let other = client.login("ada", PASSWORD).await;
        let ada = client.login("ada", PASSWORD).await;
        let key = ada.post("/api-keys", json!({"name": "ci"})).await;
        let key = client.bearer(key.body["data"]["key"].as_str().unwrap());
        let change = |current: &str, new: &str| {
            let body = json!({"current_password": current, "new_password": new});
            let ada = ada.clone();
            async move { ada.post("/auth/local/change-password", body).await }
        };
        let new = "battery horse staple";
        for (current, wanted, field) in [
            ("wrong", new, "current_password"),
            (PASSWORD, "short", "new_password"),
            (PASSWORD, "ada@example.com", "new_password"),
            (PASSWORD, PASSWORD, "new_password"),
        ] {
            let answer = change(current, wanted).await;
            assert_eq!(answer.status, 400, "{wanted}");
            assert_eq!(answer.body["error"]["details"][0]["field"], field);
        }
        let secret = |plane: &TestPlane| {
            let state = plane.state.services.index.read();
            let user = state.users.values().find(|it| it.role == Role::Member);
            user.unwrap().password.clone().unwrap()
        };
        let before = secret(&plane);
        let changed = change(PASSWORD, new).await;
        assert_eq!((changed.status, changed.cookie()), (200, Some(String::new())));
        for ended in [&ada, &other] {
            assert_eq!(ended.get("/users/me").await.status, 401);
        }
        assert_eq!(key.get("/users/me").await.status, 200);
        assert_eq!(client.try_login("ada", PASSWORD).await.status, 401);
        let ada = client.login("ada", new).await;
        assert_eq!(ada.get("/users/me").await.status, 200);
        // The old hash is gone.
        assert!(plane.state.services.vault.open(&before).await.is_err());
        assert!(plane.state.services.vault.open(&secret(&plane)).await.is_ok());

        // A session that somebody found does not serve to guess the password.
        let guess = json!({"current_password": "a guess", "new_password": PASSWORD});
        for _ in 0..5 {
            let answer = ada.post("/auth/local/change-password", guess.clone()).await;
            assert_eq!(answer.code(), "wrong_password");
        }
        let answer = ada.post("/auth/local/change-password", guess).await;
        assert_eq!((answer.status, answer.code()), (429, "too_many_attempts"));
        clock.advance(TimeDelta::seconds(1));
        let right = json!({"current_password": new, "new_password": PASSWORD});
        assert_eq!(ada.post("/auth/local/change-password", right).await.status, 200);
    }

    #[tokio::test]
    async fn of_two_changes_that_confirmed_the_same_password_one_counts() {
        let (plane, _, client) = plane("").await;
        add_user(&plane.state, "ada", Role::Member).await;
        let ada = client.login("ada", PASSWORD).await;
        let change = |new: &str| {
            let body = json!({"current_password": PASSWORD, "new_password": new});
            let ada = ada.clone();
            async move { ada.post("/auth/local/change-password", body).await }
        };
        let passwords = ["battery horse staple", "horse staple battery"];
        let (first, second) = tokio::join!(change(passwords[0]), change(passwords[1]));
        let won = usize::from(first.status != 200);
        let [winner, loser] = if won == 0 { [first, second] } else { [second, first] };
        assert_eq!(winner.status, 200);
        // Whoever came later still found the password another, or the session ended.
        let refused = (loser.status, loser.code());
        let refusals = [(409, "password_changed"), (400, "wrong_password"), (401, "unauthorized")];
        assert!(refusals.contains(&refused), "{}", loser.body);
        assert_eq!(client.try_login("ada", passwords[won]).await.status, 200);
        assert_eq!(client.try_login("ada", passwords[1 - won]).await.status, 401);
    }

    #[tokio::test]
    async fn who_must_change_the_password_can_do_nothing_else() {
        let (plane, _, client) = plane("").await;
        let id = add_user(&plane.state, "ada", Role::Admin).await;
        let ada = client.login("ada", PASSWORD).await;
        let key = ada.post("/api-keys", json!({"name": "ci"})).await;
        let key = client.bearer(key.body["data"]["key"].as_str().unwrap());
        let password = plane.state.services.index.read().users[&id].password.clone().unwrap();
        let command =
            user::Command::ChangePassword { password, must_change_password: true, expected: None };
        change_user(&plane.state, &id, command).await;
        assert_eq!(ada.get("/users/me").await.status, 401);

        let ada = client.login("ada", PASSWORD).await;
        for caller in [&ada, &key] {
            let session = caller.get("/auth/session").await;
            assert_eq!(session.body["data"]["user"]["must_change_password"], true);
            for path in ["/users/me", "/api-keys", "/auth/sessions", "/auth/api-key/validate"] {
                let answer = caller.get(path).await;
                assert_eq!((answer.status, answer.code()), (403, "password_change_required"));
            }
        }
        let change = json!({"current_password": PASSWORD, "new_password": "battery horse staple"});
        assert_eq!(ada.post("/auth/local/change-password", change).await.status, 200);
        let ada = client.login("ada", "battery horse staple").await;
        assert_eq!(ada.get("/users/me").await.status, 200);
        assert_eq!(ada.call("POST", "/auth/logout", None).await.status, 200);
    }

    #[tokio::test]
    async fn one_sees_and_ends_ones_own_sessions() {
        let (plane, clock, client) = plane("").await;
        add_user(&plane.state, "ada", Role::Member).await;
        let admin = client.admin().await;
        let ada = client.with("user-agent", "curl/8.0").login("ada", PASSWORD).await;
        clock.advance(TimeDelta::minutes(1));
        let second = client.at("198.51.100.7").login("ada", PASSWORD).await;
        let list = ada.get("/auth/sessions").await;
        assert_eq!(list.body["meta"]["total"], 2);
        let data = list.body["data"].as_array().unwrap();
        let facts = |it: &Value| (it["client_ip"].clone(), it["current"].clone());
        assert_eq!(facts(&data[0]), (json!("198.51.100.7"), json!(false)));
        assert_eq!(facts(&data[1]), (json!("192.0.2.1"), json!(true)));
        assert_eq!(data[1]["user_agent"], "curl/8.0");
        assert_eq!(data[1]["created_at"], "2027-01-15T08:00:00Z");
        assert_eq!(data[1]["method"], "local");

        let path = format!("/auth/sessions/{}", data[0]["id"].as_str().unwrap());
        for nobodys in [&admin, &client] {
            assert!([401, 404].contains(&nobodys.delete(&path).await.status));
        }
        assert_eq!(second.get("/users/me").await.status, 200);
        for _ in 0..2 {
            let ended = ada.delete(&path).await;
            assert_eq!((ended.status, &ended.body["data"]["id"]), (200, &data[0]["id"]));
        }
        assert_eq!(second.get("/users/me").await.status, 401);
        assert_eq!(ada.get("/auth/sessions").await.body["meta"]["total"], 1);
        assert_eq!(ada.delete("/auth/sessions/ses-none").await.status, 404);
    }

    #[tokio::test]
    async fn a_session_that_was_idle_for_too_long_is_not_listed() {
        let (plane, clock, client) = plane("").await;
        let id = add_user(&plane.state, "ada", Role::Member).await;
        let _idle = client.login("ada", PASSWORD).await;
        let busy = client.login("ada", PASSWORD).await;
        let admin = client.admin().await;
        let of_ada = format!("/admin/users/{id}/sessions");
        for (minutes, listed) in [(0, 2), (59, 2), (1, 1), (58, 1)] {
            clock.advance(TimeDelta::minutes(minutes));
            for (caller, path) in [(&busy, "/auth/sessions"), (&admin, &*of_ada)] {
                let list = caller.get(path).await.body;
                assert_eq!(list["meta"]["total"], listed, "{path} after {minutes} more: {list}");
                assert_eq!(list["data"].as_array().unwrap().len(), listed);
            }
        }
    }

    #[tokio::test]
    async fn who_is_disabled_is_out_at_once() {
        let (plane, _, client) = plane("").await;
        let id = add_user(&plane.state, "ada", Role::Member).await;
        let ada = client.login("ada", PASSWORD).await;
        let key = ada.post("/api-keys", json!({"name": "ci"})).await;
        let key = client.bearer(key.body["data"]["key"].as_str().unwrap());
        assert_eq!(key.get("/users/me").await.status, 200);
        change_user(&plane.state, &id, user::Command::Disable).await;
        assert_eq!(ada.get("/users/me").await.status, 401);
        assert_eq!(key.get("/users/me").await.status, 401);
        change_user(&plane.state, &id, user::Command::Enable).await;
        // The session has ended; the key was only of no use.
        assert_eq!(ada.get("/users/me").await.status, 401);
        assert_eq!(key.get("/users/me").await.status, 200);
        change_user(&plane.state, &id, user::Command::Delete).await;
        assert_eq!(key.get("/users/me").await.status, 401);
        assert_eq!(client.try_login("ada", PASSWORD).await.status, 401);
    }

    #[tokio::test]
    async fn a_login_of_a_password_that_was_just_replaced_is_none() {
        let (plane, clock, _) = plane("").await;
        let id = add_user(&plane.state, "ada", Role::Member).await;
        let services = &plane.state.services;
        let circumstances = crate::auth::Circumstances {
            client_ip: [192, 0, 2, 1].into(),
            user_agent: None,
            request_id: crate::api::RequestId::from_header("r-1").unwrap(),
            now: clock.now(),
        };
        // As it was when the password was verified.
        let then = services.index.read().users[&id].clone();
        let begin = || login::begin(services, &circumstances, &id, &then, Method::Local);
        assert!(begin().await.unwrap().is_some());
        let password = services.entropy.id().unwrap();
        let command =
            user::Command::ChangePassword { password, must_change_password: false, expected: None };
        change_user(&plane.state, &id, command).await;
        assert!(begin().await.unwrap().is_none());
        assert!(services.index.read().logins.is_empty());
    }

    #[tokio::test]
    async fn local_is_a_way_to_sign_in() {
        let (_plane, _, client) = plane("").await;
        let answer = client.get("/auth/providers").await;
        assert_eq!(
            answer.body,
            json!({"data": [{"type": "local", "name": "local", "display_name": "User name and password"}]})
        );
    }
}
