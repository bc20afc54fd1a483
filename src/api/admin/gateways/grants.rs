//! `/admin/gateways/{id}/{users,groups,networks}`: who may use a gateway, and what can be reached
//! through it.

use crate::api::admin::grants::{self, Attachable, Grantable, Kind};
use crate::app::AppState;
use gatekey_aggregates::gateway::{Command, Gateway};
use gatekey_aggregates::values::{GatewayId, GroupName, NetworkId, UserId};
use gatekey_projections::{Granting, gateways};
use utoipa_axum::router::OpenApiRouter;

impl Kind for Gateway {
    type Id = GatewayId;
    const PATH: &'static str = "/admin/gateways";
    const GRANTING: Granting = gateways::GRANTING;
}

impl Grantable for Gateway {
    const TO_USER: fn(UserId) -> Command = Command::GrantUser;
    const FROM_USER: fn(UserId) -> Command = Command::RevokeUser;
    const TO_GROUP: fn(GroupName) -> Command = Command::GrantGroup;
    const FROM_GROUP: fn(GroupName) -> Command = Command::RevokeGroup;
}

impl Attachable for Gateway {
    const ATTACH: fn(NetworkId) -> Command = Command::AttachNetwork;
    const DETACH: fn(NetworkId) -> Command = Command::DetachNetwork;
}

grants::people::people! {
    Gateway (GatewayId) at "/admin/gateways/{id}", tag "Gateways",
    called "a gateway", operations "grant" "revoke" "Gateway"
}

grants::networks::networks! {
    Gateway (GatewayId) at "/admin/gateways/{id}", tag "Gateways",
    called "a gateway", operations "Gateway"
}

/// What auditors read.
pub fn read() -> OpenApiRouter<AppState> {
    people::read().merge(networks::read())
}

/// What admins change.
pub fn change() -> OpenApiRouter<AppState> {
    people::change().merge(networks::change())
}
