//! `/admin/mesh`: hubs that join sites, and the sites, their spokes.

mod grants;
mod hubs;
mod provision;
mod spokes;

use crate::api::openapi::{Access, callable_by};
use crate::app::AppState;
use utoipa_axum::router::OpenApiRouter;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let read = hubs::read().merge(grants::read()).merge(spokes::read());
    let change =
        hubs::change().merge(grants::change()).merge(spokes::change()).merge(provision::change());
    callable_by(Access::Auditor, read).merge(callable_by(Access::Admin, change))
}
