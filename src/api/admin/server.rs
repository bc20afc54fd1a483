//! `/admin/server`: what runs here, on what, and how far it is.

use crate::api::openapi::{Access, callable_by};
use crate::api::{ApiError, Data};
use crate::app::AppState;
use crate::auth::Auditor;
use crate::event_log::EPOCH;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_projections::Dialect;
use serde::Serialize;
use std::sync::Arc;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    callable_by(Access::Auditor, OpenApiRouter::new().routes(routes!(show)))
}

/// This node of the control plane.
#[derive(Serialize, ToSchema)]
struct Server {
    /// The version of the program.
    #[schema(value_type = String, example = "0.2.0")]
    version: &'static str,
    /// This node's name, and what no other process has.
    #[schema(example = "vpn-1/5f0c8b0e-9a55-4b39-8f0a-0c5c3f6f2f11")]
    node: String,
    /// When it was started.
    started_at: DateTime<Utc>,
    /// For how long it has been running.
    uptime_seconds: i64,
    /// What it stands on.
    database: ServerDatabase,
    /// What it decides by.
    index: ServerIndex,
    /// How many there are of each thing, as far as the index knows.
    counts: ServerCounts,
}

/// The database, and the log in it.
#[derive(Serialize, ToSchema)]
struct ServerDatabase {
    /// `sqlite` or `postgres`.
    #[schema(value_type = String, example = "sqlite")]
    kind: &'static str,
    /// The last event's position in the log.
    position: i64,
    /// Nodes of another epoch do not write to this log.
    epoch: i64,
}

/// The access index.
#[derive(Serialize, ToSchema)]
struct ServerIndex {
    /// Up to where it holds the log.
    position: i64,
    /// How many events it lacks.
    lag: i64,
    /// For how long nobody has known whether it lacks any.
    staleness_seconds: f64,
}

/// How many there are.
#[derive(Serialize, ToSchema)]
struct ServerCounts {
    /// Users who were not deleted.
    users: usize,
    /// Gateways.
    gateways: usize,
    /// Gateways whose agent was heard of lately.
    gateways_online: usize,
    /// Networks.
    networks: usize,
    /// Access rules.
    access_rules: usize,
    /// Open VPN connections.
    connections_open: usize,
}

/// Get what runs here
///
/// Of the node that answers.
#[utoipa::path(
    get, path = "/admin/server", tag = "Server", operation_id = "getServer",
    responses((status = 200, description = "The node", body = Data<Server>))
)]
async fn show(_: Auditor, State(services): State<Arc<Services>>) -> Result<Data<Server>, ApiError> {
    let head = services.reader.head().await?;
    let now = services.clock.now();
    let kind = match services.db.dialect() {
        Dialect::Postgres => "postgres",
        Dialect::Sqlite => "sqlite",
    };
    let staleness_seconds = services.index.staleness().as_secs_f64();
    let state = services.index.read();
    // A batch may have been folded in since the head was read.
    let position = head.max(state.position);
    let data = Server {
        version: env!("CARGO_PKG_VERSION"),
        node: services.node_instance.clone(),
        started_at: services.started_at,
        uptime_seconds: (now - services.started_at).num_seconds().max(0),
        database: ServerDatabase { kind, position, epoch: EPOCH },
        index: ServerIndex {
            position: state.position,
            lag: position - state.position,
            staleness_seconds,
        },
        counts: ServerCounts {
            users: state.users.len(),
            gateways: state.gateways.len(),
            gateways_online: state.gateways.values().filter(|it| it.online).count(),
            networks: state.networks.len(),
            access_rules: state.rules.len(),
            connections_open: state.sessions.all().filter(|it| it.lost_at.is_none()).count(),
        },
    };
    Ok(Data { data })
}
