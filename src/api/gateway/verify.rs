//! `POST /gateway/verify`: OpenVPN asks whether to let a client in, at each handshake.
//!
//! Answered from memory alone: while it runs, every client of that gateway stands still. It is asked
//! again at each renegotiation, so it starts nothing.

use super::call::{AgentCall, AgentRequest, absent_if_empty, address};
use crate::access::{Attempt, Denied, Reason, admit};
use crate::api::{ApiError, Json};
use crate::app::AppState;
use crate::entropy::token_hash;
use crate::services::Services;
use axum::extract::State;
use gatekey_aggregates::attempt::{Denial, Event};
use gatekey_aggregates::values::{CommonName, GatewayId, Serial};
use gatekey_aggregates::{Metadata, Personal};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// Somebody at the door.
#[derive(Deserialize, ToSchema)]
#[schema(as = VerifyRequest)]
pub struct Request {
    /// The gateway's token, unless it is in `X-Gateway-Token`.
    #[schema(example = "9nRtjr4WzqjbB3Tn0wqWmCqRr4i2zrQ5LZcVgrm9T8Y")]
    token: Option<String>,
    /// The certificate's common name.
    #[schema(value_type = String, example = "ada@example.com")]
    common_name: CommonName,
    /// OpenVPN's user name; if given, the common name again.
    #[serde(default, deserialize_with = "absent_if_empty")]
    #[schema(example = "ada@example.com")]
    username: Option<String>,
    /// OpenVPN's password: the config's own token.
    #[serde(default, deserialize_with = "absent_if_empty")]
    #[schema(example = "hT4k0cWq5o7rYpXv1sZ2aBcDeFgHiJkL")]
    password: Option<String>,
    /// OpenVPN's `tls_serial_hex_0`.
    #[serde(default, deserialize_with = "absent_if_empty")]
    #[schema(example = "5a:0f:3c")]
    serial_number: Option<Serial>,
    /// OpenVPN's `untrusted_ip`.
    #[serde(default, deserialize_with = "address")]
    #[schema(value_type = Option<String>, example = "192.0.2.7")]
    client_ip: Option<IpAddr>,
}

impl AgentRequest for Request {
    fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// Yes, or no and why.
#[derive(Serialize, ToSchema)]
#[schema(as = VerifyAnswer)]
pub struct Answer {
    /// Whether to let them in.
    allowed: bool,
    /// Stable code of the first check that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "certificate_revoked")]
    code: Option<&'static str>,
    /// Why not, for the person.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, example = "This config was revoked; generate a new one.")]
    reason: Option<&'static str>,
    /// The gateway that asked.
    #[schema(value_type = String, example = "gw-001")]
    gateway_id: GatewayId,
    /// Its name.
    #[schema(example = "us-east-1")]
    gateway_name: String,
    /// Who it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "usr-01k9x3")]
    user_id: Option<String>,
    /// Their e-mail address.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "ada@example.com")]
    user_email: Option<String>,
}

/// Verify a client
///
/// May the owner of this certificate use this gateway now? A refusal is a 200 with `allowed: false`.
#[utoipa::path(
    post, path = "/gateway/verify", tag = "Gateway", operation_id = "verifyClient",
    request_body = Request,
    responses(
        (status = 200, description = "Decided", body = Answer),
    ),
)]
pub async fn verify(
    State(app): State<AppState>,
    call: AgentCall<Request>,
) -> Result<Json<Answer>, ApiError> {
    let AgentCall { gateway_id, gateway_name, metadata, body } = call;
    let password = body.password.as_deref().map(token_hash);
    let attempt = Attempt {
        gateway_id: &gateway_id,
        serial: body.serial_number.as_ref(),
        password: password.as_ref(),
        common_name: body.common_name.as_str(),
        username: body.username.as_deref(),
        client_ip: body.client_ip,
        now: app.services.clock.now(),
    };
    let decided = decide(&app, &attempt);
    match &decided {
        Ok(Verified { would_be_denied: Some(denied), .. }) => {
            take_down(&app.services, Event::FenceWouldDeny, denied, &attempt, metadata);
        }
        Ok(_) => {}
        Err(denied) => take_down(&app.services, Event::VerifyDenied, denied, &attempt, metadata),
    }
    let (allowed, reason, user) = match decided {
        Ok(user) => (true, None, Some(user)),
        Err(denied) => (false, Some(denied.reason), None),
    };
    let (user_id, user_email) = user.map(|it| (it.user_id, it.user_email)).unzip();
    Ok(Json(Answer {
        allowed,
        code: reason.map(Reason::code),
        reason: reason.map(Reason::message),
        gateway_id,
        gateway_name: gateway_name.to_string(),
        user_id,
        user_email: user_email.flatten(),
    }))
}

/// Who was let in.
struct Verified {
    user_id: String,
    user_email: Option<String>,
    /// By a geo-fence that is only audited.
    would_be_denied: Option<Denied>,
}

/// The decision.
fn decide(app: &AppState, attempt: &Attempt<'_>) -> Result<Verified, Denied> {
    fresh_enough(app)?;
    let state = app.services.index.read();
    let admitted = admit(&state, attempt)?;
    Ok(Verified {
        user_id: admitted.user_id.to_string(),
        user_email: admitted.user.profile.email.open().map(ToString::to_string),
        would_be_denied: admitted.would_be_denied(),
    })
}

/// Nobody is let in on knowledge that is too old.
pub fn fresh_enough(app: &AppState) -> Result<(), Denied> {
    if app.services.index.staleness() <= app.config.max_staleness {
        return Ok(());
    }
    Err(Denied { reason: Reason::Stale, certificate_id: None, user_id: None })
}

/// Writes a refusal down.
pub fn take_down(
    services: &Services,
    event: fn(Denial) -> Event,
    denied: &Denied,
    attempt: &Attempt<'_>,
    metadata: Metadata,
) {
    let person = match &denied.user_id {
        Some(user_id) => gatekey_aggregates::PersonId::user(user_id),
        None => metadata.person.clone(),
    };
    let denial = Denial {
        gateway_id: Some(attempt.gateway_id.clone()),
        user_id: denied.user_id.clone(),
        certificate_id: denied.certificate_id.clone(),
        common_name: Some(Personal::new(person.clone(), attempt.common_name.to_owned())),
        client_ip: attempt.client_ip.map(|ip| Personal::new(person, ip)),
        ..Denial::new(denied.reason.code())
    };
    services.attempts.record(event, denial, metadata);
}
