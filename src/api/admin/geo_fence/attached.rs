//! `/admin/geo-fence/{global,groups/{name},users/{id}}`: for whom a rule of the geo-fence counts.

use crate::api::admin::grants::{self, Given, Reference, segment};
use crate::api::{ApiError, Creating, Data, Filter, IdempotencyKey, List, Page, Path};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::Request;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::geo_fence_rule::{Command, GeoFenceRule};
use gatekey_aggregates::values::{GeoFenceRuleId, GroupName, UserId, from_micros};
use gatekey_projections::geo_fence_rules::{self, GRANTING, To};
use gatekey_projections::users;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What auditors read.
pub fn read() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_global))
        .routes(routes!(list_of_group))
        .routes(routes!(list_of_user))
}

/// What admins change.
pub fn change() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(attach_globally))
        .routes(routes!(detach_globally))
        .routes(routes!(attach_to_group))
        .routes(routes!(detach_from_group))
        .routes(routes!(attach_to_user))
        .routes(routes!(detach_from_user))
}

/// Which rule to attach.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AttachGeoFenceRule {
    /// The rule's id.
    rule_id: GeoFenceRuleId,
}

/// A rule of the geo-fence, as it is attached to something.
#[derive(Serialize, ToSchema)]
struct AttachedGeoFenceRule {
    /// Its id.
    #[schema(example = "fence-01k9x3")]
    id: String,
    /// Its name.
    #[schema(example = "office")]
    name: String,
    /// The source addresses.
    #[schema(example = "198.51.100.0/24")]
    cidr: String,
    /// Free text.
    #[schema(example = "The office in Cambridge")]
    description: String,
    /// Since when.
    attached_at: DateTime<Utc>,
}

impl From<geo_fence_rules::AttachedRule> for AttachedGeoFenceRule {
    fn from(it: geo_fence_rules::AttachedRule) -> Self {
        Self {
            id: it.id,
            name: it.name,
            cidr: it.cidr,
            description: it.description,
            attached_at: from_micros(it.attached_at),
        }
    }
}

#[derive(Deserialize, IntoParams)]
struct Attached {}

impl Filter for Attached {
    const SORT: &'static [&'static str] = geo_fence_rules::ATTACHED_SORT;
    const SEARCH: bool = true;
}

async fn list(
    services: &Services,
    to: To<'_>,
    list: List<Attached>,
) -> Result<Page<AttachedGeoFenceRule>, ApiError> {
    let listed = geo_fence_rules::attached(&services.db, to, &list.wanted()?).await?;
    Ok(Page::listed(listed.map(AttachedGeoFenceRule::from), list.paging))
}

/// Attaches a rule to what is listed at `list`.
async fn attach(
    services: &Services,
    admin: &Admin,
    Creating { body: AttachGeoFenceRule { rule_id }, creation }: Creating<AttachGeoFenceRule>,
    command: Command,
    list: &str,
) -> Result<Given, ApiError> {
    if !GRANTING.exists(&services.db, rule_id.as_str()).await? {
        return Err(grants::no_such("rule_id", "rule of the geo-fence"));
    }
    let request = Request::new::<GeoFenceRule>(&rule_id, command, admin.metadata(None));
    Ok(Given::by::<GeoFenceRule>(&creation, request, list, rule_id).await?)
}

async fn detach(
    services: &Services,
    admin: &Admin,
    rule_id: GeoFenceRuleId,
    command: Command,
) -> Result<Data<Reference>, ApiError> {
    let request = Request::new::<GeoFenceRule>(&rule_id, command, admin.metadata(None));
    services.bus.execute::<GeoFenceRule>(request).await?;
    Ok(Reference::to(rule_id))
}

/// List global rules of the geo-fence
///
/// Those that count for everybody who has no rule of their own or of a group. `q` looks at name,
/// addresses and description.
#[utoipa::path(
    get, path = "/admin/geo-fence/global", tag = "Geo-fence",
    operation_id = "listGlobalGeoFenceRules",
    params(List<Attached>),
    responses((status = 200, description = "A page of them", body = Page<AttachedGeoFenceRule>))
)]
async fn list_global(
    _: Auditor,
    query: List<Attached>,
    State(services): State<Arc<Services>>,
) -> Result<Page<AttachedGeoFenceRule>, ApiError> {
    list(&services, To::All, query).await
}

/// Attach a rule of the geo-fence globally
#[utoipa::path(
    post, path = "/admin/geo-fence/global", tag = "Geo-fence",
    operation_id = "attachGeoFenceRuleGlobally",
    params(IdempotencyKey),
    request_body = AttachGeoFenceRule,
    responses(
        (
            status = 201, description = "Attached", body = Data<Reference>,
            headers(("Location" = String, description = "What detaches it by DELETE"))
        ),
        (status = 200, description = "It was attached already", body = Data<Reference>),
    )
)]
async fn attach_globally(
    admin: Admin,
    State(services): State<Arc<Services>>,
    creating: Creating<AttachGeoFenceRule>,
) -> Result<Given, ApiError> {
    attach(&services, &admin, creating, Command::AttachGlobally, "/admin/geo-fence/global").await
}

/// Detach a global rule of the geo-fence
///
/// After the last one, whoever has no rule of their own or of a group is outside. What was detached
/// before, or is gone, is answered alike; what was never attached is 404.
#[utoipa::path(
    delete, path = "/admin/geo-fence/global/{rule_id}", tag = "Geo-fence",
    operation_id = "detachGeoFenceRuleGlobally",
    params(("rule_id" = GeoFenceRuleId, Path, description = "The rule's id")),
    responses((status = 200, description = "It is not attached", body = Data<Reference>))
)]
async fn detach_globally(
    admin: Admin,
    Path(rule_id): Path<GeoFenceRuleId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    detach(&services, &admin, rule_id, Command::DetachGlobally).await
}

/// List a group's rules of the geo-fence
///
/// They count for its members, unless these have rules of their own, together with the rules of
/// their other groups. `q` looks at name, addresses and description.
#[utoipa::path(
    get, path = "/admin/geo-fence/groups/{name}", tag = "Geo-fence",
    operation_id = "listGroupGeoFenceRules",
    params(("name" = GroupName, Path, description = "The group's name"), List<Attached>),
    responses((status = 200, description = "A page of them", body = Page<AttachedGeoFenceRule>))
)]
async fn list_of_group(
    _: Auditor,
    Path(name): Path<GroupName>,
    query: List<Attached>,
    State(services): State<Arc<Services>>,
) -> Result<Page<AttachedGeoFenceRule>, ApiError> {
    list(&services, To::Group(name.as_str()), query).await
}

/// Attach a rule of the geo-fence to a group
///
/// Nobody needs to be in the group yet. From then on its members are measured by the rules of their
/// groups, and no longer by the global ones.
#[utoipa::path(
    post, path = "/admin/geo-fence/groups/{name}", tag = "Geo-fence",
    operation_id = "attachGeoFenceRuleToGroup",
    params(("name" = GroupName, Path, description = "The group's name"), IdempotencyKey),
    request_body = AttachGeoFenceRule,
    responses(
        (
            status = 201, description = "Attached", body = Data<Reference>,
            headers(("Location" = String, description = "What detaches it by DELETE"))
        ),
        (status = 200, description = "It was attached already", body = Data<Reference>),
    )
)]
async fn attach_to_group(
    admin: Admin,
    Path(name): Path<GroupName>,
    State(services): State<Arc<Services>>,
    creating: Creating<AttachGeoFenceRule>,
) -> Result<Given, ApiError> {
    let path = format!("/admin/geo-fence/groups/{}", segment(name.as_str()));
    attach(&services, &admin, creating, Command::AttachGroup(name), &path).await
}

/// Detach a rule of the geo-fence from a group
///
/// What was detached before, or is gone, is answered alike; what was never attached is 404.
#[utoipa::path(
    delete, path = "/admin/geo-fence/groups/{name}/{rule_id}", tag = "Geo-fence",
    operation_id = "detachGeoFenceRuleFromGroup",
    params(
        ("name" = GroupName, Path, description = "The group's name"),
        ("rule_id" = GeoFenceRuleId, Path, description = "The rule's id"),
    ),
    responses((status = 200, description = "It is not attached", body = Data<Reference>))
)]
async fn detach_from_group(
    admin: Admin,
    Path((name, rule_id)): Path<(GroupName, GeoFenceRuleId)>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    detach(&services, &admin, rule_id, Command::DetachGroup(name)).await
}

/// List a user's own rules of the geo-fence
///
/// If there is any, no other rule counts for them. `q` looks at name, addresses and description.
#[utoipa::path(
    get, path = "/admin/geo-fence/users/{id}", tag = "Geo-fence",
    operation_id = "listUserGeoFenceRules",
    params(("id" = UserId, Path, description = "The user's id"), List<Attached>),
    responses((status = 200, description = "A page of them", body = Page<AttachedGeoFenceRule>))
)]
async fn list_of_user(
    _: Auditor,
    Path(id): Path<UserId>,
    query: List<Attached>,
    State(services): State<Arc<Services>>,
) -> Result<Page<AttachedGeoFenceRule>, ApiError> {
    is_user(&services, &id).await?;
    list(&services, To::User(id.as_str()), query).await
}

/// Attach a rule of the geo-fence to a user
///
/// From then on they are measured by their own rules, and no longer by those of groups or the global
/// ones.
#[utoipa::path(
    post, path = "/admin/geo-fence/users/{id}", tag = "Geo-fence",
    operation_id = "attachGeoFenceRuleToUser",
    params(("id" = UserId, Path, description = "The user's id"), IdempotencyKey),
    request_body = AttachGeoFenceRule,
    responses(
        (
            status = 201, description = "Attached", body = Data<Reference>,
            headers(("Location" = String, description = "What detaches it by DELETE"))
        ),
        (status = 200, description = "It was attached already", body = Data<Reference>),
    )
)]
async fn attach_to_user(
    admin: Admin,
    Path(id): Path<UserId>,
    State(services): State<Arc<Services>>,
    creating: Creating<AttachGeoFenceRule>,
) -> Result<Given, ApiError> {
    is_user(&services, &id).await?;
    let path = format!("/admin/geo-fence/users/{id}");
    attach(&services, &admin, creating, Command::AttachUser(id), &path).await
}

/// Detach a rule of the geo-fence from a user
///
/// What was detached before, or is gone, is answered alike; what was never attached is 404.
#[utoipa::path(
    delete, path = "/admin/geo-fence/users/{id}/{rule_id}", tag = "Geo-fence",
    operation_id = "detachGeoFenceRuleFromUser",
    params(
        ("id" = UserId, Path, description = "The user's id"),
        ("rule_id" = GeoFenceRuleId, Path, description = "The rule's id"),
    ),
    responses((status = 200, description = "It is not attached", body = Data<Reference>))
)]
async fn detach_from_user(
    admin: Admin,
    Path((id, rule_id)): Path<(UserId, GeoFenceRuleId)>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    detach(&services, &admin, rule_id, Command::DetachUser(id)).await
}

/// 404 unless there is such a user now.
async fn is_user(services: &Services, id: &UserId) -> Result<(), ApiError> {
    let found = users::find(&services.db, id.as_str()).await?;
    found.map(|_| ()).ok_or_else(ApiError::not_found)
}
