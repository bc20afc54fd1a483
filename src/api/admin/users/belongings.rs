//! `/admin/users/{id}/{api-keys,sessions,logins,configs,connections}`: what a user has and has done.

use super::{execute, find};
use crate::api::admin::grants::{Reference, user_existed};
use crate::api::api_keys::{ApiKeyBody, CreateApiKey, NewApiKey, make};
use crate::api::configs::{Config, ConfigStatus};
use crate::api::connections::{Connection, Status};
use crate::api::error::ErrorBody;
use crate::api::logins::{Logins, PastLogin, history, idle_since};
use crate::api::{Answer, ApiError, Creating, Data, Filter, IdempotencyKey, List, Page, Path};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::Request;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::login::{self, EndReason, Login};
use gatekey_aggregates::user::{Command, User};
use gatekey_aggregates::values::{ApiKeyId, GatewayId, LoginId, MeshHubId, UserId, from_micros};
use gatekey_projections::{api_keys, certificates, connections, logins};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What auditors read.
pub fn read() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_api_keys))
        .routes(routes!(show_api_key))
        .routes(routes!(list_sessions))
        .routes(routes!(list_logins))
        .routes(routes!(list_configs))
        .routes(routes!(list_connections))
}

/// What admins change.
pub fn change() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create_api_key))
        .routes(routes!(revoke_api_key))
        .routes(routes!(end_session))
}

#[derive(Deserialize, IntoParams)]
struct ApiKeys {}

impl Filter for ApiKeys {
    const SORT: &'static [&'static str] = api_keys::SORT;
    const SEARCH: bool = true;
}

/// List a user's API keys
///
/// Those that were not revoked, the newest first. `q` looks at name and prefix.
#[utoipa::path(
    get, path = "/admin/users/{id}/api-keys", tag = "Users", operation_id = "listUserApiKeys",
    params(("id" = UserId, Path, description = "The user's id"), List<ApiKeys>),
    responses((status = 200, description = "A page of them", body = Page<ApiKeyBody>))
)]
async fn list_api_keys(
    _: Auditor,
    Path(id): Path<UserId>,
    list: List<ApiKeys>,
    State(services): State<Arc<Services>>,
) -> Result<Page<ApiKeyBody>, ApiError> {
    find(&services, &id).await?;
    let listed = api_keys::list(&services.db, id.as_str(), &list.wanted()?).await?;
    let page = Page::listed(listed, list.paging);
    let data = page.data.into_iter().map(ApiKeyBody::try_from).collect::<Result<_, _>>()?;
    Ok(Page { data, meta: page.meta })
}

/// Get a user's API key
#[utoipa::path(
    get, path = "/admin/users/{id}/api-keys/{key_id}", tag = "Users", operation_id = "getUserApiKey",
    params(
        ("id" = UserId, Path, description = "The user's id"),
        ("key_id" = ApiKeyId, Path, description = "The key's id"),
    ),
    responses((
        status = 200, description = "The key; also after it was revoked", body = Data<ApiKeyBody>
    ))
)]
async fn show_api_key(
    _: Auditor,
    Path((id, key_id)): Path<(UserId, ApiKeyId)>,
    State(services): State<Arc<Services>>,
) -> Result<Data<ApiKeyBody>, ApiError> {
    let key = api_keys::find(&services.db, key_id.as_str()).await?;
    let theirs = key.filter(|it| it.row.user_id == id.as_str());
    Ok(Data { data: theirs.ok_or_else(ApiError::not_found)?.try_into()? })
}

/// Make an API key for a user
///
/// It acts as them, as far as its scopes go. The answer holds the key, this once: hand it over in
/// confidence. A key that is made with an API key may no more than that, lasts no longer, and is of
/// use from nowhere else; when that one is revoked, so is this.
#[utoipa::path(
    post, path = "/admin/users/{id}/api-keys", tag = "Users", operation_id = "createUserApiKey",
    params(("id" = UserId, Path, description = "The user's id"), IdempotencyKey),
    request_body = CreateApiKey,
    responses(
        (
            status = 201, description = "Made", body = Data<NewApiKey>,
            headers(("Location" = String, description = "Where it is found"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`too_many_api_keys`, or `user_disabled`"
        ),
    )
)]
async fn create_api_key(
    admin: Admin,
    Path(id): Path<UserId>,
    State(services): State<Arc<Services>>,
    given: Creating<CreateApiKey>,
) -> Result<Answer, ApiError> {
    make(&services, &admin, &id, &format!("/api/v1/admin/users/{id}/api-keys"), given).await
}

/// Revoke a user's API key
///
/// It is refused from now on, and so is every key that was made with it.
#[utoipa::path(
    delete, path = "/admin/users/{id}/api-keys/{key_id}", tag = "Users",
    operation_id = "revokeUserApiKey",
    params(
        ("id" = UserId, Path, description = "The user's id"),
        ("key_id" = ApiKeyId, Path, description = "The key's id"),
    ),
    responses((status = 200, description = "It is revoked", body = Data<Reference>))
)]
async fn revoke_api_key(
    admin: Admin,
    Path((id, key_id)): Path<(UserId, ApiKeyId)>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    let command = Command::RevokeApiKey(key_id.clone());
    execute(&services, Request::new::<User>(&id, command, admin.metadata(None))).await?;
    Ok(Reference::to(key_id))
}

/// A web login of a user.
#[derive(Serialize, ToSchema)]
struct UserSession {
    /// Its id.
    #[schema(example = "ses-01k9x3")]
    id: String,
    /// How they signed in: `local`, `oidc` or `saml`.
    #[schema(example = "local")]
    method: String,
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
}

impl From<logins::Login> for UserSession {
    fn from(it: logins::Login) -> Self {
        let logins::Login { row, last_used, last_ip } = it;
        Self {
            id: row.id,
            method: row.method,
            client_ip: row.client_ip,
            user_agent: row.user_agent,
            created_at: from_micros(row.began_at),
            expires_at: from_micros(row.expires_at),
            last_used_at: last_used.map(from_micros),
            last_used_ip: last_ip,
        }
    }
}

#[derive(Deserialize, IntoParams)]
struct Sessions {}

impl Filter for Sessions {
    const SORT: &'static [&'static str] = logins::SORT;
}

/// List a user's web logins
///
/// Those that have neither ended nor been idle for too long, the newest first.
#[utoipa::path(
    get, path = "/admin/users/{id}/sessions", tag = "Users", operation_id = "listUserSessions",
    params(("id" = UserId, Path, description = "The user's id"), List<Sessions>),
    responses((status = 200, description = "A page of them", body = Page<UserSession>))
)]
async fn list_sessions(
    _: Auditor,
    Path(id): Path<UserId>,
    list: List<Sessions>,
    State(services): State<Arc<Services>>,
) -> Result<Page<UserSession>, ApiError> {
    find(&services, &id).await?;
    let now = services.clock.now();
    // What was used in the last two seconds is not in the tables yet.
    services.telemetry.flush().await?;
    let idle_since = idle_since(&services, now);
    let wanted = list.wanted()?;
    let listed = logins::list(&services.db, id.as_str(), now, idle_since, &wanted).await?;
    Ok(Page::listed(listed.map(UserSession::from), list.paging))
}

/// List when a user signed in
///
/// Also when it failed, as far as it is known that they were meant; the newest first, also of a
/// user who was deleted. A failure is known a moment after it happened.
#[utoipa::path(
    get, path = "/admin/users/{id}/logins", tag = "Users", operation_id = "listUserLogins",
    params(("id" = UserId, Path, description = "The user's id"), List<Logins>),
    responses((status = 200, description = "A page of them", body = Page<PastLogin>))
)]
async fn list_logins(
    _: Auditor,
    Path(id): Path<UserId>,
    list: List<Logins>,
    State(services): State<Arc<Services>>,
) -> Result<Page<PastLogin>, ApiError> {
    user_existed(&services, &id).await?;
    history(&services, &id, list).await
}

/// End a user's web login
#[utoipa::path(
    delete, path = "/admin/users/{id}/sessions/{session_id}", tag = "Users",
    operation_id = "endUserSession",
    params(
        ("id" = UserId, Path, description = "The user's id"),
        ("session_id" = LoginId, Path, description = "The login's id"),
    ),
    responses((status = 200, description = "It is over", body = Data<Reference>))
)]
async fn end_session(
    admin: Admin,
    Path((id, session_id)): Path<(UserId, LoginId)>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    let login = logins::find(&services.db, session_id.as_str()).await?;
    login.filter(|it| it.row.user_id == id.as_str()).ok_or_else(ApiError::not_found)?;
    let command = login::Command::End(EndReason::Revoked);
    let request = Request::new::<Login>(&session_id, command, admin.metadata(None));
    services.bus.execute::<Login>(request).await?;
    Ok(Reference::to(session_id))
}

/// Which of a user's configs are listed.
#[derive(Deserialize, IntoParams)]
struct Configs {
    /// Those that stand so.
    status: Option<ConfigStatus>,
    /// Those for this gateway.
    gateway: Option<GatewayId>,
    /// Those for this mesh hub.
    hub: Option<MeshHubId>,
}

impl Filter for Configs {
    const SORT: &'static [&'static str] = certificates::SORT;
    const SEARCH: bool = true;
    const CURSOR: bool = true;
}

/// List a user's VPN configs
///
/// The newest first; also of a user who was deleted.
#[utoipa::path(
    get, path = "/admin/users/{id}/configs", tag = "Users", operation_id = "listUserConfigs",
    params(("id" = UserId, Path, description = "The user's id"), List<Configs>),
    responses((status = 200, description = "A page of them", body = Page<Config>))
)]
async fn list_configs(
    _: Auditor,
    Path(id): Path<UserId>,
    list: List<Configs>,
    State(services): State<Arc<Services>>,
) -> Result<Page<Config>, ApiError> {
    user_existed(&services, &id).await?;
    let now = services.clock.now();
    let filter = certificates::Filter {
        user_id: Some(id.to_string()),
        gateway_id: list.filter.gateway.as_ref().map(ToString::to_string),
        hub_id: list.filter.hub.as_ref().map(ToString::to_string),
        status: list.filter.status.map(|status| (status.into(), now)),
        ..certificates::Filter::default()
    };
    let listed = certificates::configs(&services.db, &list.wanted()?, &filter).await?;
    let shown = listed.map(|it| Config::of(it, now).without_download());
    Ok(Page::listed(shown, list.paging))
}

/// Which of a user's connections are listed.
#[derive(Deserialize, IntoParams)]
struct Connections {
    /// Those that are open, or those that are over.
    status: Option<Status>,
    /// Those at this gateway.
    gateway: Option<GatewayId>,
}

impl Filter for Connections {
    const SORT: &'static [&'static str] = connections::SORT;
    const SEARCH: bool = true;
    const CURSOR: bool = true;
}

/// List a user's VPN connections
///
/// The newest first; also of a user who was deleted.
#[utoipa::path(
    get, path = "/admin/users/{id}/connections", tag = "Users",
    operation_id = "listUserConnections",
    params(("id" = UserId, Path, description = "The user's id"), List<Connections>),
    responses((status = 200, description = "A page of them", body = Page<Connection>))
)]
async fn list_connections(
    _: Auditor,
    Path(id): Path<UserId>,
    list: List<Connections>,
    State(services): State<Arc<Services>>,
) -> Result<Page<Connection>, ApiError> {
    user_existed(&services, &id).await?;
    let filter = connections::Filter {
        status: list.filter.status.map(Into::into),
        user_id: Some(id.to_string()),
        gateway_id: list.filter.gateway.as_ref().map(ToString::to_string),
        ..connections::Filter::default()
    };
    let listed = connections::list(&services.db, &list.wanted()?, &filter).await?;
    Ok(Page::listed(listed.map(Connection::from), list.paging))
}
