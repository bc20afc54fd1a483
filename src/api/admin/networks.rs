//! `/admin/networks`: addresses behind gateways, under a name.

use super::access_rules::AccessRule;
use super::gateways::Gateway;
use super::grants::Reference;
use crate::api::error::ErrorBody;
use crate::api::idempotency::row;
use crate::api::openapi::{Access, callable_by};
use crate::api::{
    Answer, ApiError, Creating, Data, ETag, Filter, IdempotencyKey, IfMatch, Json, List,
    MergePatch, Page, Path, unless_overtaken,
};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::{CommandError, Request};
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::Recorded;
use gatekey_aggregates::network::{Command, Definition, Network as Aggregate};
use gatekey_aggregates::values::{
    Cidr, Description, GatewayId, NetworkId, ResourceName, from_micros,
};
use gatekey_projections::networks::NetworkRow;
use gatekey_projections::{access_rules, gateways, networks};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let read = OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(show))
        .routes(routes!(list_gateways))
        .routes(routes!(list_access_rules));
    let change =
        OpenApiRouter::new().routes(routes!(create)).routes(routes!(update, patch, remove));
    callable_by(Access::Auditor, read).merge(callable_by(Access::Admin, change))
}

/// What an admin writes of a network.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NetworkRequest {
    /// Unique among networks, whatever the case of its letters.
    name: ResourceName,
    /// Its addresses, IPv4 or IPv6; they overlap no other network's.
    cidr: Cidr,
    /// Free text.
    #[serde(default)]
    description: Description,
}

impl From<NetworkRequest> for Definition {
    fn from(it: NetworkRequest) -> Self {
        Self { name: it.name, cidr: it.cidr, description: it.description }
    }
}

type NetworkPatch = MergePatch<NetworkRequest>;

/// A network.
#[derive(Serialize, ToSchema)]
struct Network {
    /// Its id.
    #[schema(example = "net-01k9x3")]
    id: String,
    /// Its name.
    #[schema(example = "office")]
    name: String,
    /// Its addresses.
    #[schema(example = "10.77.0.0/24")]
    cidr: String,
    /// Free text.
    #[schema(example = "Everything in Cambridge")]
    description: String,
    /// Through how many gateways it can be reached.
    gateways: i64,
    /// Through how many mesh hubs it can be reached.
    mesh_hubs: i64,
    /// How many access rules name it.
    access_rules: i64,
    /// When it was made known.
    created_at: DateTime<Utc>,
    /// When an admin last changed it.
    updated_at: DateTime<Utc>,
}

impl From<networks::Network> for Network {
    fn from(it: networks::Network) -> Self {
        let networks::Network { row, gateways, access_rules, mesh_hubs } = it;
        Self {
            id: row.id,
            name: row.name,
            cidr: row.cidr,
            description: row.description,
            gateways,
            mesh_hubs,
            access_rules,
            created_at: from_micros(row.created_at),
            updated_at: from_micros(row.updated_at),
        }
    }
}

type Shown = (ETag, Data<Network>);

async fn find(services: &Services, id: &NetworkId) -> Result<networks::Network, ApiError> {
    networks::find(&services.db, id.as_str()).await?.ok_or_else(ApiError::not_found)
}

async fn answer(services: &Services, id: &NetworkId) -> Result<Shown, ApiError> {
    let network = find(services, id).await?;
    Ok((ETag(network.row.etag), Data { data: network.into() }))
}

fn refused(services: &Services, error: CommandError) -> ApiError {
    ApiError::of_command(error, &services.index.read())
}

/// Which networks are listed.
#[derive(Deserialize, IntoParams)]
struct Networks {
    /// Those that can be reached through this gateway.
    gateway: Option<GatewayId>,
}

impl Filter for Networks {
    const SORT: &'static [&'static str] = networks::SORT;
    const SEARCH: bool = true;
}

/// List networks
///
/// `q` looks at name, addresses and description.
#[utoipa::path(
    get, path = "/admin/networks", tag = "Networks", operation_id = "listNetworks",
    params(List<Networks>),
    responses((status = 200, description = "A page of them", body = Page<Network>))
)]
async fn list(
    _: Auditor,
    list: List<Networks>,
    State(services): State<Arc<Services>>,
) -> Result<Page<Network>, ApiError> {
    let gateway_id = list.filter.gateway.as_ref().map(ToString::to_string);
    let filter = networks::Filter { gateway_id };
    let listed = networks::list(&services.db, &list.wanted()?, &filter).await?;
    Ok(Page::listed(listed.map(Network::from), list.paging))
}

/// Get a network
#[utoipa::path(
    get, path = "/admin/networks/{id}", tag = "Networks", operation_id = "getNetwork",
    params(("id" = NetworkId, Path, description = "The network's id")),
    responses((
        status = 200, description = "The network", body = Data<Network>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn show(
    _: Auditor,
    Path(id): Path<NetworkId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    answer(&services, &id).await
}

/// Create a network
///
/// It can be reached by nobody before it is attached to a gateway and an access rule leads into it.
#[utoipa::path(
    post, path = "/admin/networks", tag = "Networks", operation_id = "createNetwork",
    params(IdempotencyKey),
    request_body = NetworkRequest,
    responses(
        (
            status = 201, description = "Created", body = Data<Network>,
            headers(
                ("Location" = String, description = "Where it is found"),
                ("ETag" = String, description = "For `If-Match`"),
            )
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another network has the name; `overlaps`: its addresses"
        ),
    )
)]
async fn create(
    admin: Admin,
    State(services): State<Arc<Services>>,
    Creating { body, creation }: Creating<NetworkRequest>,
) -> Result<Answer, ApiError> {
    let id: NetworkId = services.entropy.id()?;
    let command = Command::Create(body.into());
    let request = Request::new::<Aggregate>(&id, command, admin.metadata(None)).fresh();
    let location = format!("/api/v1/admin/networks/{id}");
    let make = move |events: &[Recorded]| {
        let row: NetworkRow = row(&networks::Networks, events)?;
        let etag = row.etag;
        let network = networks::Network { row, gateways: 0, access_rules: 0, mesh_hubs: 0 };
        Ok(Answer::created(location.clone(), &Network::from(network))?.etag(etag))
    };
    let made = creation.create::<Aggregate>(request, make).await;
    made.map_err(|error| refused(&services, error))
}

/// Change a network
///
/// Replaces it: what is left out gets its default. A rule that then leads to an address outside of
/// it leads nowhere.
#[utoipa::path(
    put, path = "/admin/networks/{id}", tag = "Networks", operation_id = "updateNetwork",
    params(("id" = NetworkId, Path, description = "The network's id"), IfMatch),
    request_body = NetworkRequest,
    responses(
        (
            status = 200, description = "Changed", body = Data<Network>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another network has the name; `overlaps`: its addresses"
        ),
    )
)]
async fn update(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<NetworkId>,
    State(services): State<Arc<Services>>,
    Json(body): Json<NetworkRequest>,
) -> Result<Shown, ApiError> {
    let row = find(&services, &id).await?.row;
    change(&services, &admin, &id, body, if_match.revision(row.etag, row.revision)?).await
}

/// Patch a network
///
/// Changes the fields that are named, as a JSON merge patch (RFC 7396): null gives a field its
/// default, and the rest stays as it is.
#[utoipa::path(
    patch, path = "/admin/networks/{id}", tag = "Networks", operation_id = "patchNetwork",
    params(("id" = NetworkId, Path, description = "The network's id"), IfMatch),
    request_body(content(
        (NetworkPatch = "application/json"), (NetworkPatch = "application/merge-patch+json")
    )),
    responses(
        (
            status = 200, description = "Changed", body = Data<Network>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another network has the name; `overlaps`: its addresses"
        ),
    )
)]
async fn patch(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<NetworkId>,
    State(services): State<Arc<Services>>,
    patch: NetworkPatch,
) -> Result<Shown, ApiError> {
    unless_overtaken(&if_match, || async {
        let network = find(&services, &id).await?;
        if_match.check(network.row.etag)?;
        let revision = Some(network.row.revision);
        let body = patch.onto(&Network::from(network))?;
        change(&services, &admin, &id, body, revision).await
    })
    .await
}

async fn change(
    services: &Services,
    admin: &Admin,
    id: &NetworkId,
    body: NetworkRequest,
    revision: Option<i64>,
) -> Result<Shown, ApiError> {
    let request = Request::new::<Aggregate>(id, Command::Update(body.into()), admin.metadata(None))
        .if_revision(revision);
    let done = services.bus.execute::<Aggregate>(request).await;
    done.map_err(|error| refused(services, error))?;
    answer(services, id).await
}

/// Delete a network
///
/// It is detached from its gateways. Rules that name it lead nowhere from now on.
#[utoipa::path(
    delete, path = "/admin/networks/{id}", tag = "Networks", operation_id = "deleteNetwork",
    params(("id" = NetworkId, Path, description = "The network's id"), IfMatch),
    responses((status = 200, description = "It is gone", body = Data<Reference>))
)]
async fn remove(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<NetworkId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    let found = networks::find_any(&services.db, id.as_str()).await?;
    let row = found.ok_or_else(ApiError::not_found)?.row;
    if row.deleted_at.is_none() {
        let request = Request::new::<Aggregate>(&id, Command::Delete, admin.metadata(None))
            .if_revision(if_match.revision(row.etag, row.revision)?);
        services.bus.execute::<Aggregate>(request).await?;
    }
    Ok(Reference::to(id))
}

#[derive(Deserialize, IntoParams)]
struct ItsGateways {}

impl Filter for ItsGateways {
    const SORT: &'static [&'static str] = crate::api::gateways::SORT;
    const SEARCH: bool = true;
}

/// List a network's gateways
///
/// Those through which it can be reached. `q` looks at name, description and host name.
#[utoipa::path(
    get, path = "/admin/networks/{id}/gateways", tag = "Networks",
    operation_id = "listNetworkGateways",
    params(("id" = NetworkId, Path, description = "The network's id"), List<ItsGateways>),
    responses((status = 200, description = "A page of them", body = Page<Gateway>))
)]
async fn list_gateways(
    _: Auditor,
    Path(id): Path<NetworkId>,
    list: List<ItsGateways>,
    State(services): State<Arc<Services>>,
) -> Result<Page<Gateway>, ApiError> {
    find(&services, &id).await?;
    let filter =
        gateways::Filter { network_id: Some(id.to_string()), ..gateways::Filter::default() };
    let listed = gateways::list(&services.db, &list.wanted()?, &filter).await?;
    Ok(Page::listed(listed.map(|it| Gateway::of(it, &services)), list.paging))
}

#[derive(Deserialize, IntoParams)]
struct ItsAccessRules {}

impl Filter for ItsAccessRules {
    const SORT: &'static [&'static str] = access_rules::SORT;
    const SEARCH: bool = true;
}

/// List a network's access rules
///
/// Those that name it. `q` looks at name, description and value.
#[utoipa::path(
    get, path = "/admin/networks/{id}/access-rules", tag = "Networks",
    operation_id = "listNetworkAccessRules",
    params(("id" = NetworkId, Path, description = "The network's id"), List<ItsAccessRules>),
    responses((status = 200, description = "A page of them", body = Page<AccessRule>))
)]
async fn list_access_rules(
    _: Auditor,
    Path(id): Path<NetworkId>,
    list: List<ItsAccessRules>,
    State(services): State<Arc<Services>>,
) -> Result<Page<AccessRule>, ApiError> {
    find(&services, &id).await?;
    let filter = access_rules::Filter {
        network_id: Some(id.to_string()),
        ..access_rules::Filter::default()
    };
    let listed = access_rules::list(&services.db, &list.wanted()?, &filter).await?;
    Ok(Page::listed(listed.map(AccessRule::from), list.paging))
}
