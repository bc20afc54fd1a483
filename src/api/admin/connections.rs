//! `/admin/connections`: VPN connections, active and past.

use crate::api::connections::{Connection, Status};
use crate::api::openapi::{Access, callable_by};
use crate::api::{ApiError, Data, Filter, List, Page, Path};
use crate::app::AppState;
use crate::auth::Auditor;
use crate::services::Services;
use axum::extract::State;
use gatekey_aggregates::values::{CertificateId, GatewayId, SessionId, UserId};
use gatekey_projections::connections;
use serde::Deserialize;
use std::sync::Arc;
use utoipa::IntoParams;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let read = OpenApiRouter::new().routes(routes!(list)).routes(routes!(show));
    callable_by(Access::Auditor, read)
}

/// Which connections are listed.
#[derive(Deserialize, IntoParams)]
struct Connections {
    /// Those that are open, or those that are over.
    status: Option<Status>,
    /// Those of this user.
    user: Option<UserId>,
    /// Those at this gateway.
    gateway: Option<GatewayId>,
    /// Those with this config.
    config: Option<CertificateId>,
}

impl Filter for Connections {
    const SORT: &'static [&'static str] = connections::SORT;
    const SEARCH: bool = true;
    const CURSOR: bool = true;
}

/// List VPN connections
///
/// The newest first. `q` looks at the user's name and e-mail, the gateway's name and the addresses.
#[utoipa::path(
    get, path = "/admin/connections", tag = "Connections", operation_id = "listConnections",
    params(List<Connections>),
    responses((status = 200, description = "A page of them", body = Page<Connection>))
)]
async fn list(
    _: Auditor,
    list: List<Connections>,
    State(services): State<Arc<Services>>,
) -> Result<Page<Connection>, ApiError> {
    let wanted = list.wanted()?;
    let Connections { status, user, gateway, config } = list.filter;
    let filter = connections::Filter {
        status: status.map(Into::into),
        user_id: user.map(|it| it.to_string()),
        gateway_id: gateway.map(|it| it.to_string()),
        certificate_id: config.map(|it| it.to_string()),
    };
    let listed = connections::list(&services.db, &wanted, &filter).await?;
    Ok(Page::listed(listed.map(Connection::from), list.paging))
}

/// Get a VPN connection
#[utoipa::path(
    get, path = "/admin/connections/{id}", tag = "Connections", operation_id = "getConnection",
    params(("id" = SessionId, Path, description = "The connection's id")),
    responses((status = 200, description = "The connection", body = Data<Connection>))
)]
async fn show(
    _: Auditor,
    Path(id): Path<SessionId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Connection>, ApiError> {
    let found = connections::find(&services.db, id.as_str()).await?;
    Ok(Data { data: found.ok_or_else(ApiError::not_found)?.into() })
}
