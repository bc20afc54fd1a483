//! Agents in the field do not look at the status of every answer: whatever goes wrong, an answer to
//! verify or connect must itself say no.

use axum::body::Body;
use axum::http::header;
use axum::response::Response;
use serde::Serialize;

use super::ApiError;
use super::error::ErrorBody;

/// The error answer of verify.
#[derive(Serialize)]
struct NotVerified {
    allowed: bool,
    /// Reaches the person at the client: no code, but words.
    reason: String,
    #[serde(flatten)]
    error: ErrorBody,
}

/// The error answer of connect. `disable` is the line of OpenVPN's per-client configuration that
/// refuses a client.
#[derive(Serialize)]
struct NotConnected {
    allow: bool,
    message: String,
    client_config: [&'static str; 1],
    #[serde(flatten)]
    error: ErrorBody,
}

/// Makes an error answer on the routes of verify and connect a refusal; lets others pass.
pub(super) fn refuse(route: &str, response: Response) -> Response {
    let Some(error) = response.extensions().get::<ApiError>() else { return response };
    let body = match route {
        "/api/v1/gateway/verify" => serde_json::to_vec(&NotVerified {
            allowed: false,
            reason: error.message.to_string(),
            error: error.body(),
        }),
        "/api/v1/gateway/connect" => serde_json::to_vec(&NotConnected {
            allow: false,
            message: error.message.to_string(),
            client_config: ["disable"],
            error: error.body(),
        }),
        _ => return response,
    };
    match body {
        Ok(body) => {
            let mut parts = response.into_parts().0;
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, Body::from(body))
        }
        Err(_) => response,
    }
}
