//! `/admin/settings`: what admins can change while the server runs.

use crate::api::openapi::{Access, callable_by};
use crate::api::{ApiError, Data, ETag, IfMatch, Json};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::Request;
use crate::services::Services;
use axum::extract::State;
use gatekey_aggregates::settings::{Command, ID, Settings, Values};
use gatekey_projections::settings;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    callable_by(Access::Auditor, OpenApiRouter::new().routes(routes!(show)))
        .merge(callable_by(Access::Admin, OpenApiRouter::new().routes(routes!(update))))
}

async fn answer(services: &Services) -> Result<(ETag, Data<Values>), ApiError> {
    let current = settings::current(&services.db).await?;
    Ok((ETag(current.etag), Data { data: current.values }))
}

/// Get the settings
///
/// Those that admins can change while the server runs. Before the first change, the defaults.
#[utoipa::path(
    get, path = "/admin/settings", tag = "Settings", operation_id = "getSettings",
    responses((
        status = 200, description = "The settings", body = Data<Values>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn show(
    _: Auditor,
    State(services): State<Arc<Services>>,
) -> Result<(ETag, Data<Values>), ApiError> {
    answer(&services).await
}

/// Change the settings
///
/// Replaces them: what is left out gets its default. They are in force at once.
#[utoipa::path(
    put, path = "/admin/settings", tag = "Settings", operation_id = "updateSettings",
    params(IfMatch),
    request_body = Values,
    responses((
        status = 200, description = "Changed", body = Data<Values>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn update(
    admin: Admin,
    if_match: IfMatch,
    State(services): State<Arc<Services>>,
    Json(values): Json<Values>,
) -> Result<(ETag, Data<Values>), ApiError> {
    let current = settings::current(&services.db).await?;
    let request = Request::new::<Settings>(ID, Command::Change(values), admin.metadata(None))
        .if_revision(if_match.revision(current.etag, current.revision)?);
    services.bus.execute::<Settings>(request).await?;
    answer(&services).await
}
