//! `POST /gateway/disconnect`: a client is gone.
//!
//! Reports come twice, late, without counters, and for connections that were refused. None of that
//! is an error, and none of it ends another's connection.

use super::call::{AgentCall, AgentRequest, absent_if_empty, address};
use crate::api::{ApiError, Json};
use crate::app::AppState;
use crate::event_log::{CommandError, Request as Command};
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::RefusalKind;
use gatekey_aggregates::session::{self, Counters, EndReason, Session};
use gatekey_aggregates::values::{CommonName, GatewayId, SessionId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// How late a report may be and still tell the time itself.
const LATEST: TimeDelta = TimeDelta::days(7);

/// A client that is gone.
#[derive(Deserialize, ToSchema)]
#[schema(as = DisconnectRequest)]
pub struct Request {
    /// The gateway's token, unless it is in `X-Gateway-Token`.
    token: Option<String>,
    /// The certificate's common name.
    #[schema(value_type = String, example = "ada@example.com")]
    common_name: CommonName,
    /// OpenVPN's `trusted_ip`.
    #[serde(default, deserialize_with = "address")]
    #[schema(value_type = Option<String>, example = "192.0.2.7")]
    client_ip: Option<IpAddr>,
    /// OpenVPN's `time_duration`.
    duration_seconds: Option<u64>,
    /// OpenVPN's `bytes_sent`: to the client.
    bytes_sent: Option<u64>,
    /// OpenVPN's `bytes_received`: from the client.
    bytes_received: Option<u64>,
    /// The connection, where the agent knows its id.
    #[serde(default, deserialize_with = "absent_if_empty")]
    #[schema(value_type = Option<String>, example = "con-01k9x3")]
    session_id: Option<SessionId>,
    /// When it happened, if the report is late.
    occurred_at: Option<DateTime<Utc>>,
}

impl AgentRequest for Request {
    fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// Taken down.
#[derive(Serialize, ToSchema)]
#[schema(as = DisconnectAnswer)]
pub struct Answer {
    /// Always `disconnected`.
    #[schema(value_type = String, example = "disconnected")]
    status: &'static str,
    /// The gateway that reported.
    #[schema(value_type = String)]
    gateway_id: GatewayId,
    /// Its name.
    gateway_name: String,
}

/// Report a disconnection
///
/// Ends the connection that is meant, if there is one. Durable when it is answered.
#[utoipa::path(
    post, path = "/gateway/disconnect", tag = "Gateway", operation_id = "reportDisconnection",
    request_body = Request,
    responses(
        (status = 200, description = "Taken down", body = Answer),
    ),
)]
pub async fn disconnect(
    State(app): State<AppState>,
    call: AgentCall<Request>,
) -> Result<Json<Answer>, ApiError> {
    let AgentCall { gateway_id, gateway_name, metadata, body } = call;
    let now = app.services.clock.now();
    if let Some(session_id) = meant(&app, &gateway_id, &body, now).await? {
        let counters = Counters {
            duration_seconds: body.duration_seconds,
            bytes_received: body.bytes_received,
            bytes_sent: body.bytes_sent,
        };
        let command = session::Command::End {
            reason: EndReason::Disconnected,
            disconnected_at: body.occurred_at.map_or(now, |at| at.clamp(now - LATEST, now)),
            counters: (counters != Counters::default()).then_some(counters),
        };
        let request = Command::new::<Session>(&session_id, command, metadata);
        match app.services.bus.execute::<Session>(request).await {
            Ok(_) | Err(CommandError::Refused { kind: RefusalKind::NotFound, .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Json(Answer { status: "disconnected", gateway_id, gateway_name: gateway_name.to_string() }))
}

/// The connection that is meant: the one that is named, else the newest of that name and address.
async fn meant(
    app: &AppState,
    gateway_id: &GatewayId,
    body: &Request,
    now: DateTime<Utc>,
) -> Result<Option<SessionId>, CommandError> {
    if let Some(id) = &body.session_id {
        let of = app.services.index.read().sessions.get(id).map(|it| it.gateway_id.clone());
        let of = match of {
            Some(of) => Some(of),
            // One that is not in memory has ended; its counters may still come.
            None => app.services.bus.load::<Session>(id).await?.state.began.map(|it| it.gateway_id),
        };
        return Ok(of.filter(|of| of == gateway_id).map(|_| id.clone()));
    }
    if app.connects.swallows(gateway_id, body.common_name.as_str(), body.client_ip, now) {
        return Ok(None);
    }
    let state = app.services.index.read();
    let candidates = || {
        state
            .sessions_of(gateway_id)
            .filter(|it| it.common_name.as_ref().is_some_and(|name| *name == body.common_name))
            .filter(|it| body.client_ip.is_none() || it.client_ip == body.client_ip)
    };
    // One that was lost only if none is open.
    let meant = candidates().find(|it| it.lost_at.is_none()).or_else(|| candidates().next());
    Ok(meant.map(|it| it.id.clone()))
}
