//! `POST /gateway/heartbeat`: an agent lives, and asks whether it is up to date.
//!
//! Answered from memory. What follows from it (came online, another address, connections that the
//! gateway has and we have not) is done in the background.

use super::call::{
    AgentCall, AgentRequest, absent_if_empty, absent_if_unreadable, address_if_readable,
};
use super::connect::{self, Found};
use crate::access::SessionEntry;
use crate::api::server_certificate::renewal_due;
use crate::api::{ApiError, Json};
use crate::app::AppState;
use crate::event_log::{CommandError, Request as Command};
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::Metadata;
use gatekey_aggregates::gateway::{self, Gateway};
use gatekey_aggregates::session::{self, EndReason, Session};
use gatekey_aggregates::values::{GatewayId, SessionId};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use utoipa::ToSchema;

/// A connection younger than this may not be on a heartbeat's list yet.
const YOUNG: TimeDelta = TimeDelta::minutes(1);
/// Connected clients that are looked at. A longer list is passed over whole: whoever was left out
/// would seem gone.
const MAX_CLIENTS: usize = 10_000;

/// Longest configuration version that is kept; none of ours is as long.
const MAX_CONFIG_VERSION: usize = 128;

/// A sign of life. Most of it is optional, and what can't be read does not make it less of one.
#[derive(Deserialize, ToSchema)]
#[schema(as = HeartbeatRequest)]
pub struct Request {
    /// The gateway's token, unless it is in `X-Gateway-Token`.
    #[schema(example = "9nRtjr4WzqjbB3Tn0wqWmCqRr4i2zrQ5LZcVgrm9T8Y")]
    token: Option<String>,
    /// The address under which the gateway is reached.
    #[serde(default, deserialize_with = "address_if_readable")]
    #[schema(value_type = Option<String>, example = "203.0.113.10")]
    public_ip: Option<IpAddr>,
    /// How many clients are connected.
    active_clients: Option<i64>,
    /// Whether OpenVPN runs.
    openvpn_running: Option<bool>,
    /// The configuration that the agent has.
    #[serde(default, deserialize_with = "absent_if_empty")]
    #[schema(example = "3f2a9c41d07be856")]
    config_version: Option<String>,
    /// Every client that is connected: reconciles the connections known here.
    connected_clients: Option<Vec<ConnectedClient>>,
    /// When the list was made, if the heartbeat is late.
    #[serde(default, deserialize_with = "absent_if_empty")]
    occurred_at: Option<DateTime<Utc>>,
}

/// A client that is connected.
#[derive(Deserialize, ToSchema)]
pub struct ConnectedClient {
    /// The connection, where the agent knows its id.
    #[serde(default, deserialize_with = "absent_if_unreadable")]
    #[schema(value_type = Option<String>, example = "con-01k9x3")]
    session_id: Option<SessionId>,
    /// The certificate's common name.
    #[schema(example = "ada@example.com")]
    common_name: String,
    /// From where.
    #[serde(default, deserialize_with = "address_if_readable")]
    #[schema(value_type = Option<String>, example = "198.51.100.2")]
    client_ip: Option<IpAddr>,
    /// Its address inside the VPN.
    #[serde(default, deserialize_with = "address_if_readable")]
    #[schema(value_type = Option<String>, example = "172.31.255.2")]
    vpn_ipv4: Option<IpAddr>,
    /// Since when.
    #[serde(default, deserialize_with = "absent_if_empty")]
    connected_at: Option<DateTime<Utc>>,
}

impl AgentRequest for Request {
    fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// What the agent needs to know.
#[derive(Serialize, ToSchema)]
#[schema(as = HeartbeatAnswer)]
pub struct Answer {
    /// Always `ok`.
    #[schema(value_type = String, example = "ok")]
    status: &'static str,
    /// Which gateway it is.
    #[schema(value_type = String, example = "gw-001")]
    gateway_id: GatewayId,
    /// Its name.
    #[schema(example = "us-east-1")]
    gateway_name: String,
    /// The configuration that it should have.
    #[schema(example = "3f2a9c41d07be856")]
    config_version: String,
    /// Whether to provision anew.
    needs_reprovision: bool,
    /// SHA-256 of the authority's certificate, in hex.
    #[schema(example = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c")]
    ca_fingerprint: String,
}

/// Send a heartbeat
///
/// Keeps the gateway `online`, and tells the agent whether its configuration is up to date.
#[utoipa::path(
    post, path = "/gateway/heartbeat", tag = "Gateway", operation_id = "sendHeartbeat",
    request_body = Request,
    responses(
        (status = 200, description = "Heard", body = Answer),
    ),
)]
pub async fn heartbeat(
    State(app): State<AppState>,
    call: AgentCall<Request>,
) -> Result<Json<Answer>, ApiError> {
    let AgentCall { gateway_id, gateway_name, metadata, body } = call;
    let has_version = body.config_version.filter(|it| it.chars().count() <= MAX_CONFIG_VERSION);
    app.services.telemetry.heartbeat(
        &gateway_id,
        body.active_clients,
        body.openvpn_running,
        has_version.clone(),
    );
    let now = app.services.clock.now();
    let (config_version, renewal_due, news) = {
        let state = app.services.index.read();
        match state.gateways.get(&gateway_id) {
            Some(entry) => {
                let certificate =
                    entry.server_certificate.as_ref().and_then(|id| state.certificate(id));
                let due = certificate.is_none_or(|it| renewal_due(it, now));
                let moved = body.public_ip.is_some() && body.public_ip != entry.reported_ip;
                let news = !entry.online || moved || body.connected_clients.is_some();
                (entry.config_version.clone(), due, news)
            }
            None => (String::new(), true, false),
        }
    };
    if news {
        // One at a time for each gateway: a slow database must not pile them up.
        if let Some(turn) = app.heartbeats.begin(&gateway_id) {
            let (app, gateway_id) = (app.clone(), gateway_id.clone());
            let (clients, public_ip) = (body.connected_clients, body.public_ip);
            let seen_at = body.occurred_at.map_or(now, |at| at.min(now));
            tokio::spawn(async move {
                let _turn = turn;
                let done = take_in(&app, &gateway_id, public_ip, clients, metadata, seen_at).await;
                if let Err(error) = done {
                    tracing::warn!(%error, gateway = %gateway_id, "a heartbeat's news are late");
                }
            });
        }
    }
    let up_to_date = has_version.as_deref() == Some(config_version.as_str());
    Ok(Json(Answer {
        status: "ok",
        gateway_id,
        gateway_name: gateway_name.to_string(),
        config_version,
        needs_reprovision: !up_to_date || renewal_due,
        ca_fingerprint: app.services.issuer.fingerprint().to_owned(),
    }))
}

async fn take_in(
    app: &AppState,
    gateway_id: &GatewayId,
    public_ip: Option<IpAddr>,
    clients: Option<Vec<ConnectedClient>>,
    metadata: Metadata,
    seen_at: DateTime<Utc>,
) -> Result<(), CommandError> {
    let run = |command| {
        let request = Command::new::<Gateway>(gateway_id, command, metadata.clone());
        app.services.bus.execute::<Gateway>(request)
    };
    run(gateway::Command::ComeOnline).await?;
    if let Some(ip) = public_ip {
        run(gateway::Command::ReportAddress(ip)).await?;
    }
    let Some(clients) = clients else { return Ok(()) };
    if clients.len() > MAX_CLIENTS {
        tracing::warn!(gateway = %gateway_id, "a heartbeat lists too many clients to go by it");
        return Ok(());
    }
    let Reconciled { ended, resumed, found } = reconcile(app, gateway_id, &clients, seen_at);
    for id in ended {
        let command = session::Command::End {
            reason: EndReason::Disconnected,
            disconnected_at: seen_at,
            counters: None,
        };
        let request = Command::new::<Session>(&id, command, metadata.clone());
        app.services.bus.execute::<Session>(request).await?;
    }
    for id in resumed {
        connect::resume(app, &id, metadata.clone()).await?;
    }
    for client in found {
        connect::begin_found(app, gateway_id, client, metadata.clone()).await?;
    }
    Ok(())
}

/// What a list of clients says of the connections that are known.
#[derive(Default)]
struct Reconciled {
    /// Those that the gateway no longer has.
    ended: Vec<SessionId>,
    /// Lost ones that it still has.
    resumed: Vec<SessionId>,
    /// Clients of whom none is known.
    found: Vec<Found>,
}

/// Connections that the gateway no longer has, lost ones that it still has, and those of which it
/// never told. A connection that began just before the list was made may not be on it yet, or its
/// report may be on its way; one that was lost after that is not found again by it, and neither is one
/// whose client has another that is open or was lost later.
fn reconcile(
    app: &AppState,
    gateway_id: &GatewayId,
    clients: &[ConnectedClient],
    seen_at: DateTime<Utc>,
) -> Reconciled {
    let mut by_name: HashMap<&str, Vec<usize>> = HashMap::new();
    for (n, client) in clients.iter().enumerate() {
        by_name.entry(&client.common_name).or_default().push(n);
    }
    let is_meant = |session: &SessionEntry, client: &ConnectedClient| match &client.session_id {
        Some(id) => *id == session.id,
        None => {
            (client.client_ip.is_none() || client.client_ip == session.client_ip)
                && (client.vpn_ipv4.is_none() || client.vpn_ipv4 == session.vpn_ip)
        }
    };
    let clients_of = |session: &SessionEntry| -> Vec<usize> {
        let name = session.common_name.as_ref();
        let named = name.and_then(|it| by_name.get(it.as_str())).into_iter().flatten().copied();
        named.filter(|n| is_meant(session, &clients[*n])).collect()
    };
    let state = app.services.index.read();
    let (mut reconciled, mut known) = (Reconciled::default(), HashSet::new());
    for session in state.sessions.of_gateway(gateway_id).filter(|it| it.lost_at.is_none()) {
        let its = clients_of(session);
        if its.is_empty() && seen_at - session.connected_at > YOUNG {
            reconciled.ended.push(session.id.clone());
        }
        known.extend(its);
    }
    for session in state.sessions.of_gateway(gateway_id) {
        if session.lost_at.is_none_or(|at| seen_at < at) {
            continue;
        }
        if let Some(client) = clients_of(session).into_iter().find(|it| !known.contains(it)) {
            known.insert(client);
            reconciled.resumed.push(session.id.clone());
        }
    }
    // A list from before may name many who have gone since.
    if app.services.clock.now() - seen_at <= YOUNG {
        let unknown = clients.iter().enumerate().filter(|(n, _)| !known.contains(n));
        reconciled.found = unknown.filter_map(|(_, client)| found(client, seen_at)).collect();
    }
    reconciled
}

/// A client whose connect was never reported, if all is said that a connection needs. One whose
/// connection has an id was reported: that it is not known any more is its end.
fn found(client: &ConnectedClient, seen_at: DateTime<Utc>) -> Option<Found> {
    let IpAddr::V4(vpn_ipv4) = client.vpn_ipv4? else { return None };
    let connected_at = client.connected_at.filter(|at| seen_at - *at > YOUNG)?;
    let common_name = client.common_name.parse().ok()?;
    let client_ip = client.client_ip?;
    let is_reported = client.session_id.is_some();
    (!is_reported).then_some(Found { common_name, client_ip, vpn_ipv4, connected_at })
}
