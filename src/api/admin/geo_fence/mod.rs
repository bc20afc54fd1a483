//! `/admin/geo-fence`: from which source addresses people may connect.

mod attached;
pub(crate) mod rules;

use super::access::find_user;
use crate::access::{Fences, Level, Reason, judge, said};
use crate::api::error::ErrorBody;
use crate::api::openapi::{Access, callable_by};
use crate::api::{ApiError, Data, ETag, IfMatch, Json, MergePatch, unless_overtaken};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::Request;
use crate::services::Services;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use gatekey_aggregates::geo_fence::{Command, GeoFence, ID, Mode, Values};
use gatekey_projections::geo_fence;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let read = OpenApiRouter::new().routes(routes!(show));
    let change = OpenApiRouter::new().routes(routes!(update, patch)).routes(routes!(check));
    let read = read.merge(rules::read()).merge(attached::read());
    let change = change.merge(rules::change()).merge(attached::change());
    callable_by(Access::Auditor, read).merge(callable_by(Access::Admin, change))
}

type GeoFenceSettingsPatch = MergePatch<Values>;

/// The settings, and what an admin should know of them.
#[derive(Serialize, ToSchema)]
struct Fence {
    /// The settings.
    data: Values,
    /// What else there is to say.
    meta: FenceMeta,
}

impl IntoResponse for Fence {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}

/// What an admin should know of the geo-fence.
#[derive(Serialize, ToSchema)]
struct FenceMeta {
    /// Whom the fence shuts out because there are no rules. Empty while it is off.
    warnings: Vec<FenceWarning>,
}

/// Something that an admin may not have meant.
#[derive(Debug, PartialEq, Serialize, ToSchema)]
struct FenceWarning {
    /// `no_rules`: no rule is attached to anything; `no_global_rule`: none is attached globally.
    #[schema(value_type = String, example = "no_rules")]
    code: &'static str,
    /// The same in words.
    #[schema(
        value_type = String,
        example = "No rule is attached to anything: everybody is shut out."
    )]
    message: &'static str,
}

/// What an admin should know of a fence that is on.
fn warnings(values: Values, fences: &Fences) -> Vec<FenceWarning> {
    let (code, message) = if !values.enabled || !fences.global().is_empty() {
        return Vec::new();
    } else if fences.is_empty() {
        match values.mode {
            Mode::Enforce => {
                ("no_rules", "No rule is attached to anything: everybody is shut out.")
            }
            Mode::Audit => (
                "no_rules",
                "No rule is attached to anything: everybody would be shut out, were it enforced.",
            ),
        }
    } else {
        match values.mode {
            Mode::Enforce => (
                "no_global_rule",
                "No rule is attached globally: whoever has no rule of their own or of a group is \
                 shut out.",
            ),
            Mode::Audit => (
                "no_global_rule",
                "No rule is attached globally: whoever has no rule of their own or of a group \
                 would be shut out, were it enforced.",
            ),
        }
    };
    vec![FenceWarning { code, message }]
}

async fn answer(services: &Services) -> Result<(ETag, Fence), ApiError> {
    let current = geo_fence::current(&services.db).await?;
    let warnings = warnings(current.values, &services.index.read().fences);
    Ok((ETag(current.etag), Fence { data: current.values, meta: FenceMeta { warnings } }))
}

/// Get the geo-fence's settings
///
/// Before the first change it is off. `meta.warnings` says whom a fence that is on shuts out because
/// there are no rules.
#[utoipa::path(
    get, path = "/admin/geo-fence/settings", tag = "Geo-fence",
    operation_id = "getGeoFenceSettings",
    responses((
        status = 200, description = "The settings", body = Fence,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn show(
    _: Auditor,
    State(services): State<Arc<Services>>,
) -> Result<(ETag, Fence), ApiError> {
    answer(&services).await
}

/// Change the geo-fence's settings
///
/// Replaces both. They are in force at once: whom an enforced fence shuts out gets in no more, and
/// their open connections reach nothing from the next poll of their rules on, within ten seconds.
#[utoipa::path(
    put, path = "/admin/geo-fence/settings", tag = "Geo-fence",
    operation_id = "updateGeoFenceSettings",
    params(IfMatch),
    request_body = Values,
    responses((
        status = 200, description = "Changed", body = Fence,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn update(
    admin: Admin,
    if_match: IfMatch,
    State(services): State<Arc<Services>>,
    Json(values): Json<Values>,
) -> Result<(ETag, Fence), ApiError> {
    let current = geo_fence::current(&services.db).await?;
    change(&services, &admin, values, if_match.revision(current.etag, current.revision)?).await
}

/// Patch the geo-fence's settings
///
/// Changes what is named, as a JSON merge patch (RFC 7396); the other stays as it is.
#[utoipa::path(
    patch, path = "/admin/geo-fence/settings", tag = "Geo-fence",
    operation_id = "patchGeoFenceSettings",
    params(IfMatch),
    request_body(content(
        (GeoFenceSettingsPatch = "application/json"),
        (GeoFenceSettingsPatch = "application/merge-patch+json")
    )),
    responses((
        status = 200, description = "Changed", body = Fence,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn patch(
    admin: Admin,
    if_match: IfMatch,
    State(services): State<Arc<Services>>,
    patch: GeoFenceSettingsPatch,
) -> Result<(ETag, Fence), ApiError> {
    unless_overtaken(&if_match, || async {
        let current = geo_fence::current(&services.db).await?;
        if_match.check(current.etag)?;
        let values = patch.onto(&current.values)?;
        change(&services, &admin, values, Some(current.revision)).await
    })
    .await
}

async fn change(
    services: &Services,
    admin: &Admin,
    values: Values,
    revision: Option<i64>,
) -> Result<(ETag, Fence), ApiError> {
    let request = Request::new::<GeoFence>(ID, Command::Change(values), admin.metadata(None))
        .if_revision(revision);
    services.bus.execute::<GeoFence>(request).await?;
    answer(services).await
}

/// Who comes from where.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct FenceCheckRequest {
    /// The source address.
    #[schema(value_type = String, example = "198.51.100.2")]
    ip: IpAddr,
    /// The user's id, user name or e-mail address.
    #[schema(example = "ada@example.com")]
    user: String,
}

/// What the geo-fence says of somebody.
#[derive(Serialize, ToSchema)]
struct FenceCheck {
    /// Whether the fence has nothing against them: they are inside, or it is off. In `audit` those
    /// outside are let in nevertheless.
    allowed: bool,
    /// Whether the fence is on.
    enabled: bool,
    /// What becomes of those outside.
    mode: Mode,
    /// Whose rules were looked at. The others do not count.
    level: Level,
    /// The rule that lists the address.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<MatchingRule>,
    /// Why: `inside_geo_fence`, `outside_geo_fence`, `no_client_ip` (the address stands for none),
    /// or `geo_fence_disabled`: then `level` and `rule` say how it would be, were it on.
    #[schema(value_type = String, example = "inside_geo_fence")]
    reason: &'static str,
    /// What the rules say, in words.
    #[schema(example = "198.51.100.2 is in `office` (198.51.100.0/24)")]
    message: String,
}

/// A rule of the geo-fence that lists an address.
#[derive(Serialize, ToSchema)]
#[schema(as = GeoFenceMatch)]
pub struct MatchingRule {
    /// Its id.
    #[schema(example = "fence-01k9x3")]
    id: String,
    /// Its name.
    #[schema(example = "office")]
    name: String,
    /// The source addresses.
    #[schema(example = "198.51.100.0/24")]
    cidr: String,
}

impl MatchingRule {
    /// Of what the rules said.
    pub fn of(verdict: &crate::access::Verdict<'_>) -> Option<Self> {
        verdict.rule.map(|(id, entry)| Self {
            id: id.to_string(),
            name: entry.definition.name.to_string(),
            cidr: entry.definition.cidr.to_string(),
        })
    }
}

/// Check the geo-fence
///
/// A dry run: what would it say of that user from that address? Nothing is changed or written down.
#[utoipa::path(
    post, path = "/admin/geo-fence/check", tag = "Geo-fence", operation_id = "checkGeoFence",
    request_body = FenceCheckRequest,
    responses(
        (status = 200, description = "What it says", body = Data<FenceCheck>),
        (status = 404, description = "There is no such user", body = ErrorBody),
    )
)]
async fn check(
    _: Admin,
    State(services): State<Arc<Services>>,
    Json(body): Json<FenceCheckRequest>,
) -> Result<Data<FenceCheck>, ApiError> {
    let user_id = find_user(&services, &body.user).await?;
    let state = services.index.read();
    let user = state.users.get(&user_id).ok_or_else(ApiError::not_found)?;
    let Values { enabled, mode } = state.fences.settings;
    let verdict = judge(&state.fences, &user_id, &user.groups, Some(body.ip));
    let reason = if enabled {
        verdict.reason.map_or("inside_geo_fence", Reason::code)
    } else {
        "geo_fence_disabled"
    };
    let data = FenceCheck {
        allowed: !enabled || verdict.reason.is_none(),
        enabled,
        mode,
        level: verdict.level,
        rule: MatchingRule::of(&verdict),
        reason,
        message: said(&verdict),
    };
    Ok(Data { data })
}
