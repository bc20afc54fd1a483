//! `/admin/access-rules`: destinations that people may reach.

mod grants;

use super::grants::{Reference, network};
use crate::api::error::ErrorBody;
use crate::api::idempotency::row;
use crate::api::openapi::{Access, callable_by};
use crate::api::{
    Answer, ApiError, Creating, Data, ETag, FieldError, Filter, IdempotencyKey, IfMatch, Json,
    List, MergePatch, Page, Path, unless_overtaken,
};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::Request;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::Recorded;
use gatekey_aggregates::access_rule::{
    AccessRule as Aggregate, Command, Definition, RuleProtocol, Target, TargetType,
};
use gatekey_aggregates::values::{
    AccessRuleId, Cidr, Description, GroupName, NetworkId, PortRange, ResourceName, UserId,
    from_micros,
};
use gatekey_projections::access_rules::{self, AccessRuleRow};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let read = OpenApiRouter::new().routes(routes!(list)).routes(routes!(show));
    let change =
        OpenApiRouter::new().routes(routes!(create)).routes(routes!(update, patch, remove));
    callable_by(Access::Auditor, read.merge(grants::read()))
        .merge(callable_by(Access::Admin, change.merge(grants::change())))
}

/// What an admin writes of an access rule.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRuleRequest {
    /// Unique among access rules, whatever the case of its letters.
    name: ResourceName,
    /// Free text.
    #[serde(default)]
    description: Description,
    /// What `value` is.
    r#type: TargetType,
    /// The destination: an address, a network in CIDR notation, a host name, or `*.` and a host
    /// name. An address or a network lies within `network_id`, where that is given.
    #[schema(example = "10.77.0.10")]
    value: String,
    /// One port or a range of them; without: all. With ports and no protocol, TCP and UDP are meant.
    port_range: Option<PortRange>,
    /// Without: any.
    protocol: Option<RuleProtocol>,
    /// The network that the destination lies in. A rule for a host name must name one; a rule for
    /// addresses that names none counts in every network that they lie in.
    network_id: Option<NetworkId>,
    /// An inactive rule lets nobody through.
    #[serde(default = "yes")]
    #[schema(default = true)]
    active: bool,
}

fn yes() -> bool {
    true
}

impl AccessRuleRequest {
    /// What is to be written, and what its network is called.
    async fn definition(
        self,
        services: &Services,
    ) -> Result<(Definition, Option<String>), ApiError> {
        let definition = self.parsed()?;
        let Some(id) = &definition.network_id else { return Ok((definition, None)) };
        let row = network(services, id).await?.row;
        within(&definition.target, &row.cidr.parse().map_err(ApiError::internal)?)?;
        Ok((definition, Some(row.name)))
    }

    /// With the destination read as what its type says.
    pub fn parsed(self) -> Result<Definition, FieldError> {
        let target =
            Target::parse(self.r#type, &self.value).map_err(|it| of_value(it.to_string()))?;
        Ok(Definition {
            name: self.name,
            description: self.description,
            target,
            port_range: self.port_range,
            protocol: self.protocol,
            network_id: self.network_id,
            active: self.active,
        })
    }
}

/// Whether the destination, if it is one of addresses, lies in its network.
pub(crate) fn within(target: &Target, network: &Cidr) -> Result<(), FieldError> {
    let within = match target {
        Target::Ip(ip) => network.contains(*ip),
        Target::Cidr(cidr) => network.covers(cidr),
        Target::Hostname(_) | Target::HostnameWildcard(_) => true,
    };
    if within { Ok(()) } else { Err(of_value(format!("must lie within the network, {network}"))) }
}

fn of_value(message: String) -> FieldError {
    FieldError { field: "value".to_owned(), message }
}

type AccessRulePatch = MergePatch<AccessRuleRequest>;

/// An access rule.
#[derive(Serialize, ToSchema)]
pub struct AccessRule {
    /// Its id.
    #[schema(example = "rule-01k9x3")]
    id: String,
    /// Its name.
    #[schema(example = "wiki")]
    name: String,
    /// Free text.
    #[schema(example = "The wiki of the whole company")]
    description: String,
    /// What `value` is: `ip`, `cidr`, `hostname` or `hostname_wildcard`.
    #[schema(example = "ip")]
    r#type: String,
    /// The destination.
    #[schema(example = "10.77.0.10")]
    value: String,
    /// Which ports; null: all.
    #[schema(required, example = "443")]
    port_range: Option<String>,
    /// `tcp`, `udp` or `icmp`; null: any.
    #[schema(required, example = "tcp")]
    protocol: Option<String>,
    /// The network that the destination lies in; null: any.
    #[schema(required, example = "net-01k9x3")]
    network_id: Option<String>,
    /// What that network is called.
    #[schema(required, example = "office")]
    network_name: Option<String>,
    /// Whether it lets anybody through.
    active: bool,
    /// When it was made known.
    created_at: DateTime<Utc>,
    /// When an admin last changed it.
    updated_at: DateTime<Utc>,
}

impl From<access_rules::AccessRule> for AccessRule {
    fn from(it: access_rules::AccessRule) -> Self {
        let access_rules::AccessRule { row, network_name } = it;
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            r#type: row.target_type,
            value: row.value,
            port_range: row.port_range,
            protocol: row.protocol,
            network_id: row.network_id,
            network_name,
            active: row.active,
            created_at: from_micros(row.created_at),
            updated_at: from_micros(row.updated_at),
        }
    }
}

type Shown = (ETag, Data<AccessRule>);

async fn find(
    services: &Services,
    id: &AccessRuleId,
) -> Result<access_rules::AccessRule, ApiError> {
    access_rules::find(&services.db, id.as_str()).await?.ok_or_else(ApiError::not_found)
}

async fn answer(services: &Services, id: &AccessRuleId) -> Result<Shown, ApiError> {
    let rule = find(services, id).await?;
    Ok((ETag(rule.row.etag), Data { data: rule.into() }))
}

/// Which access rules are listed.
#[derive(Deserialize, IntoParams)]
struct AccessRules {
    /// Those of this type.
    r#type: Option<TargetType>,
    /// Those for this protocol.
    protocol: Option<RuleProtocol>,
    /// Those that name this network.
    network: Option<NetworkId>,
    /// Those that let people through, or those that do not.
    active: Option<bool>,
    /// Those that were assigned to this user, by themselves or as a member of a group.
    user: Option<UserId>,
    /// Those that were assigned to this group.
    group: Option<GroupName>,
}

impl Filter for AccessRules {
    const SORT: &'static [&'static str] = access_rules::SORT;
    const SEARCH: bool = true;
}

/// List access rules
///
/// `q` looks at name, description and value.
#[utoipa::path(
    get, path = "/admin/access-rules", tag = "Access rules", operation_id = "listAccessRules",
    params(List<AccessRules>),
    responses((status = 200, description = "A page of them", body = Page<AccessRule>))
)]
async fn list(
    _: Auditor,
    list: List<AccessRules>,
    State(services): State<Arc<Services>>,
) -> Result<Page<AccessRule>, ApiError> {
    let wanted = list.wanted()?;
    let AccessRules { r#type, protocol, network, active, user, group } = list.filter;
    let filter = access_rules::Filter {
        target_type: r#type.map(|it| it.as_str().to_owned()),
        protocol: protocol.map(|it| it.as_str().to_owned()),
        network_id: network.map(|it| it.to_string()),
        active,
        user_id: user.map(|it| it.to_string()),
        group: group.map(|it| it.to_string()),
    };
    let listed = access_rules::list(&services.db, &wanted, &filter).await?;
    Ok(Page::listed(listed.map(AccessRule::from), list.paging))
}

/// Get an access rule
#[utoipa::path(
    get, path = "/admin/access-rules/{id}", tag = "Access rules", operation_id = "getAccessRule",
    params(("id" = AccessRuleId, Path, description = "The rule's id")),
    responses((
        status = 200, description = "The rule", body = Data<AccessRule>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn show(
    _: Auditor,
    Path(id): Path<AccessRuleId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    answer(&services, &id).await
}

/// Create an access rule
///
/// It lets nobody through before it is assigned.
#[utoipa::path(
    post, path = "/admin/access-rules", tag = "Access rules", operation_id = "createAccessRule",
    params(IdempotencyKey),
    request_body = AccessRuleRequest,
    responses(
        (
            status = 201, description = "Created", body = Data<AccessRule>,
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
    Creating { body, creation }: Creating<AccessRuleRequest>,
) -> Result<Answer, ApiError> {
    let (definition, network_name) = body.definition(&services).await?;
    let id: AccessRuleId = services.entropy.id()?;
    let command = Command::Create(definition);
    let request = Request::new::<Aggregate>(&id, command, admin.metadata(None)).fresh();
    let location = format!("/api/v1/admin/access-rules/{id}");
    let make = move |events: &[Recorded]| {
        let row: AccessRuleRow = row(&access_rules::AccessRules, events)?;
        let etag = row.etag;
        let rule = access_rules::AccessRule { row, network_name: network_name.clone() };
        Ok(Answer::created(location.clone(), &AccessRule::from(rule))?.etag(etag))
    };
    Ok(creation.create::<Aggregate>(request, make).await?)
}

/// Change an access rule
///
/// Replaces it: what is left out gets its default. Whom it is assigned to stays.
#[utoipa::path(
    put, path = "/admin/access-rules/{id}", tag = "Access rules", operation_id = "updateAccessRule",
    params(("id" = AccessRuleId, Path, description = "The rule's id"), IfMatch),
    request_body = AccessRuleRequest,
    responses(
        (
            status = 200, description = "Changed", body = Data<AccessRule>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (status = 409, description = "`already_taken`: another rule has the name", body = ErrorBody),
    )
)]
async fn update(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<AccessRuleId>,
    State(services): State<Arc<Services>>,
    Json(body): Json<AccessRuleRequest>,
) -> Result<Shown, ApiError> {
    let row = find(&services, &id).await?.row;
    change(&services, &admin, &id, body, if_match.revision(row.etag, row.revision)?).await
}

/// Patch an access rule
///
/// Changes the fields that are named, as a JSON merge patch (RFC 7396): null gives a field its
/// default, and the rest stays as it is.
#[utoipa::path(
    patch, path = "/admin/access-rules/{id}", tag = "Access rules", operation_id = "patchAccessRule",
    params(("id" = AccessRuleId, Path, description = "The rule's id"), IfMatch),
    request_body(content(
        (AccessRulePatch = "application/json"), (AccessRulePatch = "application/merge-patch+json")
    )),
    responses(
        (
            status = 200, description = "Changed", body = Data<AccessRule>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (status = 409, description = "`already_taken`: another rule has the name", body = ErrorBody),
    )
)]
async fn patch(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<AccessRuleId>,
    State(services): State<Arc<Services>>,
    patch: AccessRulePatch,
) -> Result<Shown, ApiError> {
    unless_overtaken(&if_match, || async {
        let rule = find(&services, &id).await?;
        if_match.check(rule.row.etag)?;
        let revision = Some(rule.row.revision);
        let body = patch.onto(&AccessRule::from(rule))?;
        change(&services, &admin, &id, body, revision).await
    })
    .await
}

async fn change(
    services: &Services,
    admin: &Admin,
    id: &AccessRuleId,
    body: AccessRuleRequest,
    revision: Option<i64>,
) -> Result<Shown, ApiError> {
    let (definition, _) = body.definition(services).await?;
    let command = Command::Update(definition);
    let request =
        Request::new::<Aggregate>(id, command, admin.metadata(None)).if_revision(revision);
    services.bus.execute::<Aggregate>(request).await?;
    answer(services, id).await
}

/// Delete an access rule
#[utoipa::path(
    delete, path = "/admin/access-rules/{id}", tag = "Access rules",
    operation_id = "deleteAccessRule",
    params(("id" = AccessRuleId, Path, description = "The rule's id"), IfMatch),
    responses((status = 200, description = "It is gone", body = Data<Reference>))
)]
async fn remove(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<AccessRuleId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    let found = access_rules::find_any(&services.db, id.as_str()).await?;
    let row = found.ok_or_else(ApiError::not_found)?.row;
    if row.deleted_at.is_none() {
        let request = Request::new::<Aggregate>(&id, Command::Delete, admin.metadata(None))
            .if_revision(if_match.revision(row.etag, row.revision)?);
        services.bus.execute::<Aggregate>(request).await?;
    }
    Ok(Reference::to(id))
}
