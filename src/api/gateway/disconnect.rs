//! `POST /gateway/disconnect`: a client is gone.
//!
//! Reports come twice, late, without counters, and for connections that were refused. None of that
//! is an error, and none of it ends another's connection.

use super::call::{AgentCall, AgentRequest, absent_if_empty, address};
use super::connect::session_named;
use crate::access::SessionEntry;
use crate::api::{ApiError, Json};
use crate::app::AppState;
use crate::event_log::{CommandError, Request as Command};
use axum::extract::State;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use gatekey_aggregates::RefusalKind;
use gatekey_aggregates::session::{self, Counters, Session};
use gatekey_aggregates::values::{CommonName, GatewayId, SessionId};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use utoipa::ToSchema;

/// How late a report may be and still tell the time itself.
const LATEST: TimeDelta = TimeDelta::days(7);
/// Certificates of a client that an `event_id` is tried with, the newest first.
const MAX_CERTIFICATES: usize = 16;

/// A client that is gone.
#[derive(Deserialize, ToSchema)]
#[schema(as = DisconnectRequest)]
pub struct Request {
    /// The gateway's token, unless it is in `X-Gateway-Token`.
    #[schema(example = "9nRtjr4WzqjbB3Tn0wqWmCqRr4i2zrQ5LZcVgrm9T8Y")]
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
    /// The `event_id` that the connect was reported with: then exactly that connection is meant. An
    /// id that no connect bore says nothing.
    #[serde(default, deserialize_with = "absent_if_empty")]
    #[schema(example = "01k9x3v7m2")]
    event_id: Option<String>,
    /// When it happened, if the report is late.
    #[serde(default, deserialize_with = "absent_if_empty")]
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
    #[schema(value_type = String, example = "gw-001")]
    gateway_id: GatewayId,
    /// Its name.
    #[schema(example = "us-east-1")]
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
    let counters = Counters {
        duration_seconds: body.duration_seconds,
        bytes_received: body.bytes_received,
        bytes_sent: body.bytes_sent,
    };
    let command = session::Command::Disconnect {
        gateway_id: gateway_id.clone(),
        disconnected_at: happened_at(&body, now),
        counters: (counters != Counters::default()).then_some(counters),
    };
    // Whether there is, or was, such a connection.
    let end = async |session_id: &SessionId| {
        let request = Command::new::<Session>(session_id, command.clone(), metadata.clone());
        match app.services.bus.execute::<Session>(request).await {
            Ok(_) => Ok(true),
            Err(CommandError::Refused { kind: RefusalKind::NotFound, .. }) => Ok(false),
            Err(error) => Err(ApiError::from(error)),
        }
    };
    let mut is_done = false;
    for named in by_event(&app, &gateway_id, &body) {
        if end(&named).await? {
            let ip = body.client_ip;
            app.connects.ended(&gateway_id, body.common_name.as_str(), ip, &named);
            is_done = true;
            break;
        }
    }
    if !is_done && let Some(session_id) = meant(&app, &gateway_id, &body, now) {
        end(&session_id).await?;
    }
    Ok(Json(Answer { status: "disconnected", gateway_id, gateway_name: gateway_name.to_string() }))
}

fn happened_at(body: &Request, now: DateTime<Utc>) -> DateTime<Utc> {
    body.occurred_at.map_or(now, |at| at.clamp(now - LATEST, now))
}

/// What the connection can be called whose connect bore the same `event_id`: it goes by the
/// certificate, which a disconnect does not tell. The likeliest first.
fn by_event(app: &AppState, gateway_id: &GatewayId, body: &Request) -> Vec<SessionId> {
    let (None, Some(event_id)) = (&body.session_id, &body.event_id) else { return Vec::new() };
    let state = app.services.index.read();
    let names = state
        .serials_named(gateway_id, &body.common_name)
        .filter_map(|serial| state.certificates.get(serial))
        .map(|it| session_named(&it.id, event_id));
    let mut named: Vec<SessionId> = names.take(MAX_CERTIFICATES).collect();
    // One that is over must be asked of the database; those that are not come first.
    named.sort_by_key(|id| state.sessions.get(id).is_none());
    named
}

/// The connection that is meant: the one that is named, else the newest of that name and address
/// that is open, else the newest that was lost. None that began later than this happened.
fn meant(
    app: &AppState,
    gateway_id: &GatewayId,
    body: &Request,
    now: DateTime<Utc>,
) -> Option<SessionId> {
    if body.session_id.is_some() {
        // If it is another gateway's, it refuses.
        return body.session_id.clone();
    }
    let (name, ip) = (body.common_name.as_str(), body.client_ip);
    if let Some(refused) = app.connects.swallows(gateway_id, name, ip, now) {
        // Its own, which may have begun nevertheless, and no other.
        return refused.session_id;
    }
    let happened_at = happened_at(body, now);
    let state = app.services.index.read();
    if ip.is_some() {
        return ended(state.sessions.of_client(gateway_id, &body.common_name, ip), happened_at);
    }
    let is_named = |it: &&SessionEntry| it.common_name.as_ref() == Some(&body.common_name);
    ended(state.sessions.of_gateway(gateway_id).filter(is_named), happened_at)
}

/// Of connections, the newest first, the one that ended then.
fn ended<'a>(
    newest_first: impl Iterator<Item = &'a SessionEntry>,
    happened_at: DateTime<Utc>,
) -> Option<SessionId> {
    let mut lost = None;
    // Agents tell whole seconds.
    let open =
        newest_first.filter(|it| it.connected_at.trunc_subsecs(0) <= happened_at).find(|it| {
            if it.lost_at.is_some() {
                lost.get_or_insert(it.id.clone());
            }
            it.lost_at.is_none()
        });
    open.map(|it| it.id.clone()).or(lost)
}
