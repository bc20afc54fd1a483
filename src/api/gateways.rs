//! `/gateways`: those that the caller may use, as the seed shows them; and how any gateway's state is
//! told.

use super::openapi::{Access, callable_by};
use super::{ApiError, Filter, List, Page};
use crate::app::AppState;
use crate::auth::Member;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::{GatewayId, from_micros};
use gatekey_projections::gateways;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The route.
pub fn routes() -> OpenApiRouter<AppState> {
    callable_by(Access::Member, OpenApiRouter::new().routes(routes!(list)))
}

/// Whether a gateway is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum GatewayStatus {
    /// Its agent was heard of lately.
    Online,
    /// It was not, or never.
    Offline,
}

/// What is known of a gateway's agent: the newer of what it told this node and what it told any.
pub struct Agent {
    /// Whether it was heard of lately.
    pub status: GatewayStatus,
    /// When it last sent a heartbeat.
    pub last_heartbeat: Option<DateTime<Utc>>,
    /// How many clients it counts.
    pub active_clients: Option<i64>,
    /// Whether it sees OpenVPN run.
    pub openvpn_running: Option<bool>,
    /// Which configuration it has.
    pub config_version: Option<String>,
}

impl Agent {
    /// Of a gateway, as it stands now.
    pub fn of(gateway: &gateways::Gateway, services: &Services) -> Self {
        let told = gateway.row.id.parse::<GatewayId>().ok();
        let told = told.and_then(|id| services.telemetry.gateway(&id)).unwrap_or_default();
        let last_heard = gateway.last_heard.map(from_micros).max(Some(told.last_heard));
        let online = last_heard >= Some(heard_since(services));
        Self {
            status: if online { GatewayStatus::Online } else { GatewayStatus::Offline },
            last_heartbeat: gateway.last_heartbeat.map(from_micros).max(told.last_heartbeat),
            active_clients: told.active_clients.or(gateway.active_clients),
            openvpn_running: told.openvpn_running.or(gateway.openvpn_running),
            config_version: told.config_version.or_else(|| gateway.config_version.clone()),
        }
    }
}

/// A gateway is online that was heard of since then.
pub fn heard_since(services: &Services) -> DateTime<Utc> {
    let patience = services.index.read().settings.gateway_offline_seconds;
    services.clock.now() - TimeDelta::seconds(patience.into())
}

/// A gateway that the caller may use.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AvailableGateway {
    /// Its id.
    #[schema(example = "gw-001")]
    id: String,
    /// Its name.
    #[schema(example = "us-east-1")]
    name: String,
    /// Free text.
    #[schema(example = "US East Coast Gateway")]
    description: String,
    /// Where clients find it.
    #[schema(example = "vpn-us-east.example.com")]
    hostname: String,
    /// Its port.
    #[schema(example = 1194)]
    port: i64,
    /// `udp` or `tcp`.
    #[schema(example = "udp")]
    protocol: String,
    /// Whether it is there.
    status: GatewayStatus,
    /// When its agent last sent a heartbeat; null before the first.
    #[schema(required)]
    last_heartbeat: Option<DateTime<Utc>>,
}

impl AvailableGateway {
    fn of(gateway: gateways::Gateway, services: &Services) -> Self {
        let agent = Agent::of(&gateway, services);
        let row = gateway.row;
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            hostname: row.hostname,
            port: row.port,
            protocol: row.protocol,
            status: agent.status,
            last_heartbeat: agent.last_heartbeat,
        }
    }
}

/// What gateways can be sorted by.
pub const SORT: &[&str] = &["name", "hostname", "created_at", "last_heartbeat"];

#[derive(Deserialize, IntoParams)]
struct Available {}

impl Filter for Available {
    const SORT: &'static [&'static str] = SORT;
    const SEARCH: bool = true;
}

/// List available gateways
///
/// Those that you may use, by yourself or as a member of a group, and that let people in. `q` looks
/// at name, description and host name.
#[utoipa::path(
    get, path = "/gateways", tag = "Gateways", operation_id = "listAvailableGateways",
    params(List<Available>),
    responses((status = 200, description = "A page of them", body = Page<AvailableGateway>))
)]
async fn list(
    caller: Member,
    list: List<Available>,
    State(services): State<Arc<Services>>,
) -> Result<Page<AvailableGateway>, ApiError> {
    let filter = gateways::Filter {
        active: Some(true),
        granted_to: Some(caller.user_id.to_string()),
        ..gateways::Filter::default()
    };
    let listed = gateways::list(&services.db, &list.wanted()?, &filter).await?;
    Ok(Page::listed(listed.map(|it| AvailableGateway::of(it, &services)), list.paging))
}
