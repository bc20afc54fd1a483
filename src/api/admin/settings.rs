//! `/admin/settings`: what admins can change while the server runs.

use crate::api::openapi::{Access, callable_by};
use crate::api::{ApiError, Data, ETag, IfMatch, Json, MergePatch, unless_overtaken};
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
        .merge(callable_by(Access::Admin, OpenApiRouter::new().routes(routes!(update, patch))))
}

type SettingsPatch = MergePatch<Values>;

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
    change(&services, &admin, values, if_match.revision(current.etag, current.revision)?).await
}

/// Patch the settings
///
/// Changes the fields that are named, as a JSON merge patch (RFC 7396): null gives a field its
/// default, and the rest stays as it is. They are in force at once.
#[utoipa::path(
    patch, path = "/admin/settings", tag = "Settings", operation_id = "patchSettings",
    params(IfMatch),
    request_body(content(
        (SettingsPatch = "application/json"), (SettingsPatch = "application/merge-patch+json")
    )),
    responses((
        status = 200, description = "Changed", body = Data<Values>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn patch(
    admin: Admin,
    if_match: IfMatch,
    State(services): State<Arc<Services>>,
    patch: SettingsPatch,
) -> Result<(ETag, Data<Values>), ApiError> {
    unless_overtaken(&if_match, || async {
        let current = settings::current(&services.db).await?;
        if_match.check(current.etag)?;
        let values = patch.onto(&current.values)?;
        change(&services, &admin, values, Some(current.revision)).await
    })
    .await
}

async fn change(
    services: &Services,
    admin: &Admin,
    values: Values,
    revision: Option<i64>,
) -> Result<(ETag, Data<Values>), ApiError> {
    let request = Request::new::<Settings>(ID, Command::Change(values), admin.metadata(None))
        .if_revision(revision);
    services.bus.execute::<Settings>(request).await?;
    answer(services).await
}
