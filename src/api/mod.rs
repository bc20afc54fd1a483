//! The REST API: one file per resource, and the parts that all of them share.
//!
//! A handler takes what it needs from the request by extractors (each refuses in the one error
//! envelope) and answers with the types of [`envelope`].

pub mod admin;
mod agent;
pub mod api_keys;
pub mod auth;
#[cfg(test)]
pub(crate) mod client;
pub mod client_ip;
mod command;
pub mod configs;
pub mod connections;
pub mod edge;
pub mod envelope;
pub mod error;
pub mod etag;
pub mod gateway;
pub mod gateways;
pub mod health;
pub mod idempotency;
pub mod json;
mod listed;
pub mod logins;
pub mod mesh;
pub mod openapi;
pub mod page;
mod patch;
pub mod path;
pub mod pki;
pub mod profiles;
pub mod request_id;
mod server_certificate;
mod shape;
pub mod users_me;

pub use client_ip::ClientIp;
pub use envelope::{Data, Page};
pub use error::{ApiError, FieldError};
pub use etag::{ETag, IfMatch};
pub use idempotency::{Answer, Creating, IdempotencyKey};
pub use json::{AgentJson, Json};
pub use page::{Filter, List, NoFilter, Paging, Query, Sort};
pub(crate) use patch::fields_of;
pub use patch::{MergePatch, unless_overtaken};
pub use path::Path;
pub use request_id::RequestId;

use crate::app::AppState;
use openapi::{Access, callable_by};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// Every route, and what is said of it in the OpenAPI document.
pub fn routes() -> OpenApiRouter<AppState> {
    let anyone = OpenApiRouter::new().routes(routes!(openapi::openapi));
    OpenApiRouter::with_openapi(openapi::base())
        .merge(health::routes())
        .nest("/api/v1", callable_by(Access::Anyone, anyone))
        .nest("/api/v1", callable_by(Access::Anyone, pki::public_routes()))
        .nest("/api/v1", callable_by(Access::Member, configs::member_routes()))
        .nest("/api/v1", callable_by(Access::Auditor, configs::auditor_routes()))
        .nest("/api/v1", callable_by(Access::Admin, configs::admin_routes()))
        .nest("/api/v1", callable_by(Access::Admin, pki::admin_routes()))
        .nest("/api/v1", auth::routes())
        .nest("/api/v1", logins::routes())
        .nest("/api/v1", users_me::routes())
        .nest("/api/v1", api_keys::routes())
        .nest("/api/v1", callable_by(Access::Gateway, gateway::router()))
        .nest("/api/v1", gateways::routes())
        .nest("/api/v1", mesh::routes())
        .nest("/api/v1", admin::routes())
}
