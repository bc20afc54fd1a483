//! `/admin/mesh/hubs/{id}/{users,groups,networks}`: who may use a hub, and what can be reached through
//! it beside what its spokes bring.

use crate::api::admin::grants::{self, Attachable, Grantable, Kind};
use crate::app::AppState;
use gatekey_aggregates::mesh_hub::{Command, MeshHub};
use gatekey_aggregates::values::{GroupName, MeshHubId, NetworkId, UserId};
use gatekey_projections::{Granting, mesh_hubs};
use utoipa_axum::router::OpenApiRouter;

impl Kind for MeshHub {
    type Id = MeshHubId;
    const PATH: &'static str = "/admin/mesh/hubs";
    const GRANTING: Granting = mesh_hubs::GRANTING;
}

impl Grantable for MeshHub {
    const TO_USER: fn(UserId) -> Command = Command::GrantUser;
    const FROM_USER: fn(UserId) -> Command = Command::RevokeUser;
    const TO_GROUP: fn(GroupName) -> Command = Command::GrantGroup;
    const FROM_GROUP: fn(GroupName) -> Command = Command::RevokeGroup;
}

impl Attachable for MeshHub {
    const ATTACH: fn(NetworkId) -> Command = Command::AttachNetwork;
    const DETACH: fn(NetworkId) -> Command = Command::DetachNetwork;
}

grants::people::people! {
    MeshHub (MeshHubId) at "/admin/mesh/hubs/{id}", tag "Mesh",
    called "a mesh hub", operations "grant" "revoke" "MeshHub"
}

grants::networks::networks! {
    MeshHub (MeshHubId) at "/admin/mesh/hubs/{id}", tag "Mesh",
    called "a mesh hub", operations "MeshHub"
}

/// What auditors read.
pub fn read() -> OpenApiRouter<AppState> {
    people::read().merge(networks::read())
}

/// What admins change.
pub fn change() -> OpenApiRouter<AppState> {
    people::change().merge(networks::change())
}
