//! `/auth/logins`: when one signed in, and when somebody tried to.

use super::openapi::{Access, callable_by};
use super::{ApiError, Filter, List, Page};
use crate::app::AppState;
use crate::auth::Member;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::{UserId, from_micros};
use gatekey_projections::logins::{self, Ending, Past};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    callable_by(Access::Member, OpenApiRouter::new().routes(routes!(list_own)))
}

/// Whoever has not used a login since then can't use it any more.
pub fn idle_since(services: &Services, now: DateTime<Utc>) -> DateTime<Utc> {
    now - TimeDelta::minutes(services.index.read().settings.login_idle_minutes.into())
}

/// What came of signing in.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginResult {
    /// A session began.
    Succeeded,
    /// None did.
    Failed,
}

/// Which logins are listed.
#[derive(Deserialize, IntoParams)]
pub struct Logins {
    /// Those of which a session came, or those that failed.
    #[param(inline)]
    result: Option<LoginResult>,
}

impl Filter for Logins {
    const CURSOR: bool = true;
}

/// Somebody signed in, or tried to.
#[derive(Serialize, ToSchema)]
pub struct PastLogin {
    /// `succeeded` or `failed`.
    #[schema(example = "succeeded")]
    result: String,
    /// Why it failed.
    #[schema(required, example = "wrong_password")]
    reason: Option<String>,
    /// How often: failures that are alike and come within a minute are counted together.
    #[schema(example = 1)]
    count: i64,
    /// When; the last time, of several.
    at: DateTime<Utc>,
    /// From where.
    #[schema(required, example = "203.0.113.10")]
    client_ip: Option<String>,
    /// With what.
    #[schema(required, example = "curl/8.5.0")]
    user_agent: Option<String>,
    /// How they signed in: `local`, `oidc` or `saml`.
    #[schema(required, example = "local")]
    method: Option<String>,
    /// The session that began.
    #[schema(required, example = "ses-01k9x3")]
    session_id: Option<String>,
    /// When the session ends at the latest.
    #[schema(required)]
    expires_at: Option<DateTime<Utc>>,
    /// When the session was ended, where it did not end by itself.
    #[schema(required)]
    ended_at: Option<DateTime<Utc>>,
    /// Why the session was ended.
    #[schema(required, example = "logout")]
    end_reason: Option<String>,
}

impl From<Past> for PastLogin {
    fn from(it: Past) -> Self {
        Self {
            session_id: it.method.is_some().then_some(it.id),
            result: it.result,
            reason: it.reason,
            count: it.count,
            at: from_micros(it.at),
            client_ip: it.client_ip,
            user_agent: it.user_agent,
            method: it.method,
            expires_at: it.expires_at.map(from_micros),
            ended_at: it.ended_at.map(from_micros),
            end_reason: it.end_reason,
        }
    }
}

/// A user's logins.
pub async fn history(
    services: &Services,
    user_id: &UserId,
    list: List<Logins>,
) -> Result<Page<PastLogin>, ApiError> {
    let ending = list.filter.result.map(|it| match it {
        LoginResult::Succeeded => Ending::Succeeded,
        LoginResult::Failed => Ending::Failed,
    });
    let listed = logins::history(&services.db, user_id.as_str(), &list.wanted()?, ending).await?;
    Ok(Page::listed(listed.map(PastLogin::from), list.paging))
}

/// The own logins
///
/// Those of which a session came, and those that failed; the newest first. A failure is known a
/// moment after it happened.
#[utoipa::path(
    get, path = "/auth/logins", tag = "Auth", operation_id = "listOwnLogins",
    params(List<Logins>),
    responses((status = 200, description = "A page of them.", body = Page<PastLogin>))
)]
async fn list_own(
    caller: Member,
    list: List<Logins>,
    State(services): State<Arc<Services>>,
) -> Result<Page<PastLogin>, ApiError> {
    history(&services, &caller.user_id, list).await
}
