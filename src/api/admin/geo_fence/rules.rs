//! `/admin/geo-fence/rules`: source addresses that people may connect from.

use crate::api::admin::grants::Reference;
use crate::api::admin::grants::people::{GrantedGroup, GrantedUser, Groups, Users};
use crate::api::error::ErrorBody;
use crate::api::idempotency::row;
use crate::api::{
    Answer, ApiError, Creating, Data, ETag, Filter, IdempotencyKey, IfMatch, Json, List,
    MergePatch, Page, Path, unless_overtaken,
};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::Request;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::Recorded;
use gatekey_aggregates::geo_fence_rule::{Command, Definition, GeoFenceRule as Aggregate};
use gatekey_aggregates::values::{Cidr, Description, GeoFenceRuleId, ResourceName, from_micros};
use gatekey_projections::geo_fence_rules::{self, GRANTING, GeoFenceRuleRow};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What auditors read.
pub fn read() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(list_users))
        .routes(routes!(list_groups))
}

/// What admins change.
pub fn change() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(update, patch, remove))
}

/// What an admin writes of a rule of the geo-fence.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GeoFenceRuleRequest {
    /// Unique among rules of the geo-fence, whatever the case of its letters.
    name: ResourceName,
    /// The source addresses, IPv4 or IPv6. `0.0.0.0/0` lists every IPv4 address, `::/0` every IPv6
    /// address. Countries are not known here: list their networks.
    #[schema(example = "198.51.100.0/24")]
    cidr: Cidr,
    /// Free text.
    #[serde(default)]
    description: Description,
}

impl From<GeoFenceRuleRequest> for Definition {
    fn from(it: GeoFenceRuleRequest) -> Self {
        Self { name: it.name, cidr: it.cidr, description: it.description }
    }
}

type GeoFenceRulePatch = MergePatch<GeoFenceRuleRequest>;

/// A rule of the geo-fence.
#[derive(Serialize, ToSchema)]
struct GeoFenceRule {
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
    /// Whether it counts for everybody who has no rule of their own or of a group.
    global: bool,
    /// How many groups it is attached to.
    groups: i64,
    /// How many users it is attached to by themselves.
    users: i64,
    /// When it was made known.
    created_at: DateTime<Utc>,
    /// When an admin last changed it.
    updated_at: DateTime<Utc>,
}

impl From<geo_fence_rules::GeoFenceRule> for GeoFenceRule {
    fn from(it: geo_fence_rules::GeoFenceRule) -> Self {
        let geo_fence_rules::GeoFenceRule { row, groups, users } = it;
        Self {
            id: row.id,
            name: row.name,
            cidr: row.cidr,
            description: row.description,
            global: row.global_since.is_some(),
            groups,
            users,
            created_at: from_micros(row.created_at),
            updated_at: from_micros(row.updated_at),
        }
    }
}

type Shown = (ETag, Data<GeoFenceRule>);

async fn find(
    services: &Services,
    id: &GeoFenceRuleId,
) -> Result<geo_fence_rules::GeoFenceRule, ApiError> {
    geo_fence_rules::find(&services.db, id.as_str()).await?.ok_or_else(ApiError::not_found)
}

async fn answer(services: &Services, id: &GeoFenceRuleId) -> Result<Shown, ApiError> {
    let rule = find(services, id).await?;
    Ok((ETag(rule.row.etag), Data { data: rule.into() }))
}

#[derive(Deserialize, IntoParams)]
struct GeoFenceRules {}

impl Filter for GeoFenceRules {
    const SORT: &'static [&'static str] = geo_fence_rules::SORT;
    const SEARCH: bool = true;
}

/// List rules of the geo-fence
///
/// Attached or not. `q` looks at name, addresses and description.
#[utoipa::path(
    get, path = "/admin/geo-fence/rules", tag = "Geo-fence", operation_id = "listGeoFenceRules",
    params(List<GeoFenceRules>),
    responses((status = 200, description = "A page of them", body = Page<GeoFenceRule>))
)]
async fn list(
    _: Auditor,
    list: List<GeoFenceRules>,
    State(services): State<Arc<Services>>,
) -> Result<Page<GeoFenceRule>, ApiError> {
    let listed = geo_fence_rules::list(&services.db, &list.wanted()?).await?;
    Ok(Page::listed(listed.map(GeoFenceRule::from), list.paging))
}

/// Get a rule of the geo-fence
#[utoipa::path(
    get, path = "/admin/geo-fence/rules/{id}", tag = "Geo-fence", operation_id = "getGeoFenceRule",
    params(("id" = GeoFenceRuleId, Path, description = "The rule's id")),
    responses((
        status = 200, description = "The rule", body = Data<GeoFenceRule>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn show(
    _: Auditor,
    Path(id): Path<GeoFenceRuleId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    answer(&services, &id).await
}

/// Create a rule of the geo-fence
///
/// It counts for nobody before it is attached: globally, to a group, or to a user.
#[utoipa::path(
    post, path = "/admin/geo-fence/rules", tag = "Geo-fence", operation_id = "createGeoFenceRule",
    params(IdempotencyKey),
    request_body = GeoFenceRuleRequest,
    responses(
        (
            status = 201, description = "Created", body = Data<GeoFenceRule>,
            headers(
                ("Location" = String, description = "Where it is found"),
                ("ETag" = String, description = "For `If-Match`"),
            )
        ),
        (status = 409, description = "`already_taken`: another rule has the name", body = ErrorBody),
    )
)]
async fn create(
    admin: Admin,
    State(services): State<Arc<Services>>,
    Creating { body, creation }: Creating<GeoFenceRuleRequest>,
) -> Result<Answer, ApiError> {
    let id: GeoFenceRuleId = services.entropy.id()?;
    let command = Command::Create(body.into());
    let request = Request::new::<Aggregate>(&id, command, admin.metadata(None)).fresh();
    let location = format!("/api/v1/admin/geo-fence/rules/{id}");
    let make = move |events: &[Recorded]| {
        let row: GeoFenceRuleRow = row(&geo_fence_rules::GeoFenceRules, events)?;
        let etag = row.etag;
        let rule = geo_fence_rules::GeoFenceRule { row, groups: 0, users: 0 };
        Ok(Answer::created(location.clone(), &GeoFenceRule::from(rule))?.etag(etag))
    };
    Ok(creation.create::<Aggregate>(request, make).await?)
}

/// Change a rule of the geo-fence
///
/// Replaces it: what is left out gets its default. It counts at once for whom it is attached to.
#[utoipa::path(
    put, path = "/admin/geo-fence/rules/{id}", tag = "Geo-fence",
    operation_id = "updateGeoFenceRule",
    params(("id" = GeoFenceRuleId, Path, description = "The rule's id"), IfMatch),
    request_body = GeoFenceRuleRequest,
    responses(
        (
            status = 200, description = "Changed", body = Data<GeoFenceRule>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (status = 409, description = "`already_taken`: another rule has the name", body = ErrorBody),
    )
)]
async fn update(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<GeoFenceRuleId>,
    State(services): State<Arc<Services>>,
    Json(body): Json<GeoFenceRuleRequest>,
) -> Result<Shown, ApiError> {
    let row = find(&services, &id).await?.row;
    change_to(&services, &admin, &id, body, if_match.revision(row.etag, row.revision)?).await
}

/// Patch a rule of the geo-fence
///
/// Changes the fields that are named, as a JSON merge patch (RFC 7396): null gives a field its
/// default, and the rest stays as it is.
#[utoipa::path(
    patch, path = "/admin/geo-fence/rules/{id}", tag = "Geo-fence",
    operation_id = "patchGeoFenceRule",
    params(("id" = GeoFenceRuleId, Path, description = "The rule's id"), IfMatch),
    request_body(content(
        (GeoFenceRulePatch = "application/json"),
        (GeoFenceRulePatch = "application/merge-patch+json")
    )),
    responses(
        (
            status = 200, description = "Changed", body = Data<GeoFenceRule>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (status = 409, description = "`already_taken`: another rule has the name", body = ErrorBody),
    )
)]
async fn patch(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<GeoFenceRuleId>,
    State(services): State<Arc<Services>>,
    patch: GeoFenceRulePatch,
) -> Result<Shown, ApiError> {
    unless_overtaken(&if_match, || async {
        let rule = find(&services, &id).await?;
        if_match.check(rule.row.etag)?;
        let revision = Some(rule.row.revision);
        let body = patch.onto(&GeoFenceRule::from(rule))?;
        change_to(&services, &admin, &id, body, revision).await
    })
    .await
}

async fn change_to(
    services: &Services,
    admin: &Admin,
    id: &GeoFenceRuleId,
    body: GeoFenceRuleRequest,
    revision: Option<i64>,
) -> Result<Shown, ApiError> {
    let command = Command::Update(body.into());
    let request =
        Request::new::<Aggregate>(id, command, admin.metadata(None)).if_revision(revision);
    services.bus.execute::<Aggregate>(request).await?;
    answer(services, id).await
}

/// Delete a rule of the geo-fence
///
/// It is detached from everything. The last rule of a level takes the level with it: then the next
/// one is looked at, and where there is none, everybody is outside.
#[utoipa::path(
    delete, path = "/admin/geo-fence/rules/{id}", tag = "Geo-fence",
    operation_id = "deleteGeoFenceRule",
    params(("id" = GeoFenceRuleId, Path, description = "The rule's id"), IfMatch),
    responses((status = 200, description = "It is gone", body = Data<Reference>))
)]
async fn remove(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<GeoFenceRuleId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    let found = geo_fence_rules::find_any(&services.db, id.as_str()).await?;
    let row = found.ok_or_else(ApiError::not_found)?.row;
    if row.deleted_at.is_none() {
        let request = Request::new::<Aggregate>(&id, Command::Delete, admin.metadata(None))
            .if_revision(if_match.revision(row.etag, row.revision)?);
        services.bus.execute::<Aggregate>(request).await?;
    }
    Ok(Reference::to(id))
}

/// List the users of a rule of the geo-fence
///
/// Those whom it is attached to by themselves. `q` looks at user name, e-mail and name.
#[utoipa::path(
    get, path = "/admin/geo-fence/rules/{id}/users", tag = "Geo-fence",
    operation_id = "listGeoFenceRuleUsers",
    params(("id" = GeoFenceRuleId, Path, description = "The rule's id"), List<Users>),
    responses((status = 200, description = "A page of them", body = Page<GrantedUser>))
)]
async fn list_users(
    _: Auditor,
    Path(id): Path<GeoFenceRuleId>,
    list: List<Users>,
    State(services): State<Arc<Services>>,
) -> Result<Page<GrantedUser>, ApiError> {
    find(&services, &id).await?;
    let listed = GRANTING.users(&services.db, id.as_str(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(GrantedUser::from), list.paging))
}

/// List the groups of a rule of the geo-fence
///
/// Those whose members it is attached to. `q` looks at the name.
#[utoipa::path(
    get, path = "/admin/geo-fence/rules/{id}/groups", tag = "Geo-fence",
    operation_id = "listGeoFenceRuleGroups",
    params(("id" = GeoFenceRuleId, Path, description = "The rule's id"), List<Groups>),
    responses((status = 200, description = "A page of them", body = Page<GrantedGroup>))
)]
async fn list_groups(
    _: Auditor,
    Path(id): Path<GeoFenceRuleId>,
    list: List<Groups>,
    State(services): State<Arc<Services>>,
) -> Result<Page<GrantedGroup>, ApiError> {
    find(&services, &id).await?;
    let listed = GRANTING.groups(&services.db, id.as_str(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(GrantedGroup::from), list.paging))
}
