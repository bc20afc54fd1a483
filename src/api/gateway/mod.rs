//! What gateway agents call: `/gateway/*`.
//!
//! Agents in the field must work unchanged, so these routes differ from the rest: the token may come
//! in the body, answers are flat, unknown fields are ignored, and a refusal is told in the way that
//! each agent understands, whatever the status.

mod call;
mod connect;
mod disconnect;
mod heartbeat;
mod memory;
mod provision;
mod rules;
#[cfg(test)]
mod tests;
mod verify;

use crate::app::AppState;
pub use call::{Proven, identify, metadata};
pub use memory::{ConnectMemory, PollMemory, Turn, Turns};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes below `/api/v1`.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(heartbeat::heartbeat))
        .routes(routes!(provision::provision))
        .routes(routes!(verify::verify))
        .routes(routes!(connect::connect))
        .routes(routes!(disconnect::disconnect))
        .routes(routes!(rules::client_rules))
        .routes(routes!(rules::all_rules))
}
