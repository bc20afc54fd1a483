//! `/admin/…`: what admins manage. Auditors may read all of it.

mod access;
pub(crate) mod access_rules;
mod audit;
mod connections;
pub(crate) mod gateways;
pub(crate) mod geo_fence;
mod grants;
mod groups;
mod mesh;
pub(crate) mod networks;
mod server;
mod settings;
mod users;

use crate::app::AppState;
use utoipa_axum::router::OpenApiRouter;

/// Every route, each with its mark of who may call it.
pub fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(gateways::routes())
        .merge(networks::routes())
        .merge(mesh::routes())
        .merge(access_rules::routes())
        .merge(users::routes())
        .merge(groups::routes())
        .merge(geo_fence::routes())
        .merge(access::routes())
        .merge(connections::routes())
        .merge(audit::routes())
        .merge(settings::routes())
        .merge(server::routes())
}
