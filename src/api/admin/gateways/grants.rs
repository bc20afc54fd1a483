//! `/admin/gateways/{id}/{users,groups,networks}`: who may use a gateway, and what can be reached
//! through it.

use super::find;
use crate::api::admin::grants::{
    self, Given, GrantGroup, GrantUser, GrantedGroup, GrantedUser, Reference,
};
use crate::api::{ApiError, Data, Filter, Json, List, Page, Path};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::{CommandError, Outcome, Request};
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::gateway::{Command, Gateway};
use gatekey_aggregates::values::{GatewayId, GroupName, NetworkId, UserId, from_micros};
use gatekey_projections::gateways;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What auditors read.
pub fn read() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_users))
        .routes(routes!(list_groups))
        .routes(routes!(list_networks))
}

/// What admins change.
pub fn change() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(grant_user))
        .routes(routes!(revoke_user))
        .routes(routes!(grant_group))
        .routes(routes!(revoke_group))
        .routes(routes!(attach_network))
        .routes(routes!(detach_network))
}

async fn ask(
    services: &Services,
    admin: &Admin,
    id: &GatewayId,
    command: Command,
) -> Result<Outcome<Gateway>, CommandError> {
    let request = Request::new::<Gateway>(id, command, admin.metadata(None));
    services.bus.execute::<Gateway>(request).await
}

/// List a gateway's users
///
/// Those who were granted it by themselves. `q` looks at user name, e-mail and name.
#[utoipa::path(
    get, path = "/admin/gateways/{id}/users", tag = "Gateways", operation_id = "listGatewayUsers",
    params(("id" = GatewayId, Path, description = "The gateway's id"), List<grants::Users>),
    responses((status = 200, description = "A page of them", body = Page<GrantedUser>))
)]
async fn list_users(
    _: Auditor,
    Path(id): Path<GatewayId>,
    list: List<grants::Users>,
    State(services): State<Arc<Services>>,
) -> Result<Page<GrantedUser>, ApiError> {
    find(&services, &id).await?;
    let listed = gateways::users(&services.db, id.as_str(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(GrantedUser::from), list.paging))
}

/// Grant a gateway to a user
#[utoipa::path(
    post, path = "/admin/gateways/{id}/users", tag = "Gateways", operation_id = "grantGatewayToUser",
    params(("id" = GatewayId, Path, description = "The gateway's id")),
    request_body = GrantUser,
    responses(
        (
            status = 201, description = "Granted", body = Data<Reference>,
            headers(("Location" = String, description = "What takes it away by DELETE"))
        ),
        (status = 200, description = "They had it already", body = Data<Reference>),
    )
)]
async fn grant_user(
    admin: Admin,
    Path(id): Path<GatewayId>,
    State(services): State<Arc<Services>>,
    Json(GrantUser { user_id }): Json<GrantUser>,
) -> Result<Given, ApiError> {
    find(&services, &id).await?;
    grants::user_exists(&services, &user_id).await?;
    let outcome = ask(&services, &admin, &id, Command::GrantUser(user_id.clone())).await?;
    Ok(Given::of(&outcome, &format!("/admin/gateways/{id}/users"), user_id))
}

/// Take a gateway from a user
///
/// They may still have it as a member of a group.
#[utoipa::path(
    delete, path = "/admin/gateways/{id}/users/{user_id}", tag = "Gateways",
    operation_id = "revokeGatewayFromUser",
    params(
        ("id" = GatewayId, Path, description = "The gateway's id"),
        ("user_id" = UserId, Path, description = "The user's id"),
    ),
    responses((status = 200, description = "They do not have it", body = Data<Reference>))
)]
async fn revoke_user(
    admin: Admin,
    Path((id, user_id)): Path<(GatewayId, UserId)>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    grants::user_existed(&services, &user_id).await?;
    ask(&services, &admin, &id, Command::RevokeUser(user_id.clone())).await?;
    Ok(Reference::to(user_id))
}

/// List a gateway's groups
///
/// Those whose members were granted it. `q` looks at the name.
#[utoipa::path(
    get, path = "/admin/gateways/{id}/groups", tag = "Gateways", operation_id = "listGatewayGroups",
    params(("id" = GatewayId, Path, description = "The gateway's id"), List<grants::Groups>),
    responses((status = 200, description = "A page of them", body = Page<GrantedGroup>))
)]
async fn list_groups(
    _: Auditor,
    Path(id): Path<GatewayId>,
    list: List<grants::Groups>,
    State(services): State<Arc<Services>>,
) -> Result<Page<GrantedGroup>, ApiError> {
    find(&services, &id).await?;
    let listed = gateways::groups(&services.db, id.as_str(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(GrantedGroup::from), list.paging))
}

/// Grant a gateway to a group
#[utoipa::path(
    post, path = "/admin/gateways/{id}/groups", tag = "Gateways",
    operation_id = "grantGatewayToGroup",
    params(("id" = GatewayId, Path, description = "The gateway's id")),
    request_body = GrantGroup,
    responses(
        (
            status = 201, description = "Granted", body = Data<Reference>,
            headers(("Location" = String, description = "What takes it away by DELETE"))
        ),
        (status = 200, description = "It had it already", body = Data<Reference>),
    )
)]
async fn grant_group(
    admin: Admin,
    Path(id): Path<GatewayId>,
    State(services): State<Arc<Services>>,
    Json(GrantGroup { group }): Json<GrantGroup>,
) -> Result<Given, ApiError> {
    let outcome = ask(&services, &admin, &id, Command::GrantGroup(group.clone())).await?;
    Ok(Given::of(&outcome, &format!("/admin/gateways/{id}/groups"), group))
}

/// Take a gateway from a group
#[utoipa::path(
    delete, path = "/admin/gateways/{id}/groups/{group}", tag = "Gateways",
    operation_id = "revokeGatewayFromGroup",
    params(
        ("id" = GatewayId, Path, description = "The gateway's id"),
        ("group" = GroupName, Path, description = "The group's name"),
    ),
    responses((status = 200, description = "It does not have it", body = Data<Reference>))
)]
async fn revoke_group(
    admin: Admin,
    Path((id, group)): Path<(GatewayId, GroupName)>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    ask(&services, &admin, &id, Command::RevokeGroup(group.clone())).await?;
    Ok(Reference::to(group))
}

/// A network that can be reached through a gateway.
#[derive(Serialize, ToSchema)]
struct AttachedNetwork {
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
    description: String,
    /// Since when.
    attached_at: DateTime<Utc>,
}

impl From<gateways::AttachedNetwork> for AttachedNetwork {
    fn from(it: gateways::AttachedNetwork) -> Self {
        Self {
            id: it.id,
            name: it.name,
            cidr: it.cidr,
            description: it.description,
            attached_at: from_micros(it.granted_at),
        }
    }
}

#[derive(Deserialize, IntoParams)]
struct Networks {}

impl Filter for Networks {
    const SORT: &'static [&'static str] = gateways::NETWORK_SORT;
    const SEARCH: bool = true;
}

/// List a gateway's networks
///
/// Those that can be reached through it. `q` looks at name, addresses and description.
#[utoipa::path(
    get, path = "/admin/gateways/{id}/networks", tag = "Gateways",
    operation_id = "listGatewayNetworks",
    params(("id" = GatewayId, Path, description = "The gateway's id"), List<Networks>),
    responses((status = 200, description = "A page of them", body = Page<AttachedNetwork>))
)]
async fn list_networks(
    _: Auditor,
    Path(id): Path<GatewayId>,
    list: List<Networks>,
    State(services): State<Arc<Services>>,
) -> Result<Page<AttachedNetwork>, ApiError> {
    find(&services, &id).await?;
    let listed = gateways::networks(&services.db, id.as_str(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(AttachedNetwork::from), list.paging))
}

/// Which network to attach.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct AttachNetwork {
    /// The network's id.
    network_id: NetworkId,
}

/// Attach a network to a gateway
#[utoipa::path(
    post, path = "/admin/gateways/{id}/networks", tag = "Gateways",
    operation_id = "attachNetworkToGateway",
    params(("id" = GatewayId, Path, description = "The gateway's id")),
    request_body = AttachNetwork,
    responses(
        (
            status = 201, description = "Attached", body = Data<Reference>,
            headers(("Location" = String, description = "What detaches it by DELETE"))
        ),
        (status = 200, description = "It was attached already", body = Data<Reference>),
    )
)]
async fn attach_network(
    admin: Admin,
    Path(id): Path<GatewayId>,
    State(services): State<Arc<Services>>,
    Json(AttachNetwork { network_id }): Json<AttachNetwork>,
) -> Result<Given, ApiError> {
    find(&services, &id).await?;
    grants::network(&services, &network_id).await?;
    let outcome = ask(&services, &admin, &id, Command::AttachNetwork(network_id.clone())).await?;
    Ok(Given::of(&outcome, &format!("/admin/gateways/{id}/networks"), network_id))
}

/// Detach a network from a gateway
#[utoipa::path(
    delete, path = "/admin/gateways/{id}/networks/{network_id}", tag = "Gateways",
    operation_id = "detachNetworkFromGateway",
    params(
        ("id" = GatewayId, Path, description = "The gateway's id"),
        ("network_id" = NetworkId, Path, description = "The network's id"),
    ),
    responses((status = 200, description = "It is not attached", body = Data<Reference>))
)]
async fn detach_network(
    admin: Admin,
    Path((id, network_id)): Path<(GatewayId, NetworkId)>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    grants::network_existed(&services, &network_id).await?;
    ask(&services, &admin, &id, Command::DetachNetwork(network_id.clone())).await?;
    Ok(Reference::to(network_id))
}
