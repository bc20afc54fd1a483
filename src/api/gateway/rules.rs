//! `POST /gateway/client-rules` and `/gateway/all-rules`: what connected clients may reach.
//!
//! client-rules is polled every 10 s for each connected client and runs the whole decision each
//! time: anything but yes is an empty list, which cuts a live tunnel.

use super::call::{AgentCall, AgentRequest, address};
use super::memory::PollMemory;
use super::verify::fresh_enough;
use crate::access::{
    Attempt, State as AccessState, UserEntry, admit, check_user, effective_rules, is_within,
};
use crate::api::{ApiError, Json};
use crate::app::AppState;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::access_rule::Definition;
use gatekey_aggregates::values::{AccessRuleId, GatewayId, GroupName, SessionId, UserId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use utoipa::ToSchema;

/// One connected client.
#[derive(Deserialize, ToSchema)]
#[schema(as = ClientRulesRequest)]
pub struct ClientRequest {
    /// The gateway's token, unless it is in `X-Gateway-Token`.
    #[schema(example = "9nRtjr4WzqjbB3Tn0wqWmCqRr4i2zrQ5LZcVgrm9T8Y")]
    token: Option<String>,
    /// The certificate's common name (agents call it so).
    #[schema(example = "ada@example.com")]
    user_id: String,
    /// The client's address inside the VPN (agents call it so).
    #[serde(default, deserialize_with = "address")]
    #[schema(value_type = Option<String>, example = "172.31.255.2")]
    client_ip: Option<IpAddr>,
}

impl AgentRequest for ClientRequest {
    fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// A destination that may be reached.
#[derive(Serialize, ToSchema)]
pub struct AllowedDestination {
    /// `ip`, `cidr`, `hostname` or `hostname_wildcard`.
    #[serde(rename = "type")]
    #[schema(value_type = String, example = "cidr")]
    kind: &'static str,
    /// The address, network or name.
    #[schema(example = "10.0.0.0/8")]
    value: String,
    /// A port or a range; empty: any.
    #[schema(example = "443")]
    port: String,
    /// `tcp`, `udp` or `icmp`; empty: any.
    #[schema(example = "tcp")]
    protocol: String,
}

/// What one client may reach.
#[derive(Serialize, ToSchema)]
#[schema(as = ClientRulesAnswer)]
pub struct ClientAnswer {
    /// As it was asked.
    #[schema(example = "usr-01k9x3")]
    user_id: String,
    /// As it was asked.
    #[schema(value_type = Option<String>, example = "198.51.100.2")]
    client_ip: Option<IpAddr>,
    /// Everything that is allowed.
    allowed: Vec<AllowedDestination>,
    /// Everything else.
    #[schema(value_type = String, example = "deny")]
    default: &'static str,
}

/// Get client access rules
///
/// What a connected client may reach now; nothing at all if it would not be let in now.
#[utoipa::path(
    post, path = "/gateway/client-rules", tag = "Gateway", operation_id = "getClientRules",
    request_body = ClientRequest,
    responses(
        (status = 200, description = "The client's rules", body = ClientAnswer),
    ),
)]
pub async fn client_rules(
    State(app): State<AppState>,
    call: AgentCall<ClientRequest>,
) -> Result<Json<ClientAnswer>, ApiError> {
    let AgentCall { gateway_id, metadata, body, .. } = call;
    let (allowed, lost) = if fresh_enough(&app).is_ok() {
        let state = app.services.index.read();
        rules_of(&state, &app.polls, &gateway_id, &body, app.services.clock.now())
    } else {
        (Vec::new(), None)
    };
    if let Some(session_id) = lost {
        super::connect::resume_in_background(&app, session_id, metadata);
    }
    Ok(Json(ClientAnswer {
        user_id: body.user_id,
        client_ip: body.client_ip,
        allowed,
        default: "deny",
    }))
}

/// The rules of a client, and its connection if that was thought lost.
fn rules_of(
    state: &AccessState,
    polls: &PollMemory,
    gateway_id: &GatewayId,
    body: &ClientRequest,
    now: DateTime<Utc>,
) -> (Vec<AllowedDestination>, Option<SessionId>) {
    let session = body
        .client_ip
        .and_then(|ip| state.sessions.holder(gateway_id, ip))
        .filter(|it| it.common_name.as_ref().is_some_and(|name| name.as_str() == body.user_id));
    let name = &body.user_id;
    let remembered = match (session, body.client_ip) {
        (Some(session), Some(ip)) => {
            polls.saw(gateway_id, ip, name, (&session.serial, session.client_ip), now);
            None
        }
        // One that has ended here may go on there, with the certificate that it had.
        (None, Some(ip)) => polls.client(gateway_id, ip, name, now),
        (_, None) => None,
    };
    let serial = session
        .map(|it| &it.serial)
        .or(remembered.as_ref().map(|(serial, _)| serial))
        // An agent may ask before its report of the connection has arrived.
        .or_else(|| state.sole_serial(gateway_id, name, now));
    let attempt = Attempt {
        gateway_id,
        serial,
        password: None,
        common_name: &body.user_id,
        username: None,
        client_ip: match session {
            Some(session) => session.client_ip,
            None => remembered.as_ref().and_then(|(_, client_ip)| *client_ip),
        },
        now,
    };
    let Ok(admitted) = admit(state, &attempt) else { return (Vec::new(), None) };
    let rules = effective_rules(state, admitted.gateway, admitted.user_id, admitted.user)
        .map(|(_, rule)| destination(&rule.definition))
        .collect();
    (rules, session.filter(|it| it.lost_at.is_some()).map(|it| it.id.clone()))
}

fn destination(rule: &Definition) -> AllowedDestination {
    AllowedDestination {
        kind: rule.target.kind().as_str(),
        value: rule.target.value(),
        port: rule.port_range.map(|it| it.to_string()).unwrap_or_default(),
        protocol: rule.protocol.map(|it| it.as_str().to_owned()).unwrap_or_default(),
    }
}

/// Every client.
#[derive(Deserialize, ToSchema)]
#[schema(as = AllRulesRequest)]
pub struct AllRequest {
    /// The gateway's token, unless it is in `X-Gateway-Token`.
    #[schema(example = "9nRtjr4WzqjbB3Tn0wqWmCqRr4i2zrQ5LZcVgrm9T8Y")]
    token: Option<String>,
}

impl AgentRequest for AllRequest {
    fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// A rule that can apply at this gateway.
#[derive(Serialize, ToSchema)]
pub struct RuleAtGateway {
    /// Its id.
    #[schema(value_type = String, example = "rule-01k9x3")]
    id: AccessRuleId,
    /// Its name.
    #[schema(example = "wiki")]
    name: String,
    /// What may be reached.
    #[serde(flatten)]
    destination: AllowedDestination,
    /// Always true: inactive rules are left out.
    is_active: bool,
}

/// Every rule that can apply at this gateway, and to whom.
#[derive(Serialize, ToSchema)]
#[schema(as = AllRulesAnswer)]
pub struct AllAnswer {
    /// The rules, in order of id.
    rules: Vec<RuleAtGateway>,
    /// The rules' ids by user.
    #[schema(value_type = BTreeMap<String, Vec<String>>, example = json!({"usr-01k9x3": ["rule-01k9x3"]}))]
    user_rules: BTreeMap<String, Vec<AccessRuleId>>,
    /// The rules' ids by group.
    #[schema(value_type = BTreeMap<String, Vec<String>>, example = json!({"engineering": ["rule-01k9x3"]}))]
    group_rules: BTreeMap<String, Vec<AccessRuleId>>,
    /// Changes exactly when the rules do.
    #[schema(example = "0b5cd4c9b8a1f0d7")]
    hash: String,
    /// When this was asked.
    timestamp: DateTime<Utc>,
}

/// Get all rules for refresh
///
/// Every active rule that can apply at this gateway to somebody who may use it.
#[utoipa::path(
    post, path = "/gateway/all-rules", tag = "Gateway", operation_id = "getAllRules",
    request_body = AllRequest,
    responses(
        (status = 200, description = "The gateway's rules", body = AllAnswer),
    ),
)]
pub async fn all_rules(
    State(app): State<AppState>,
    call: AgentCall<AllRequest>,
) -> Result<Json<AllAnswer>, ApiError> {
    let mut rules = Vec::new();
    let mut user_rules = BTreeMap::<String, Vec<AccessRuleId>>::new();
    let mut group_rules = BTreeMap::<String, Vec<AccessRuleId>>::new();
    if fresh_enough(&app).is_ok() {
        let state = app.services.index.read();
        let gateway = state.gateways.get(&call.gateway_id);
        if let Some(gateway) = gateway.filter(|it| it.configuration.active) {
            let may = |(id, user): &(&UserId, &UserEntry)| check_user(gateway, id, user).is_ok();
            let permitted: HashMap<&UserId, &UserEntry> = state.users.iter().filter(may).collect();
            let groups: HashSet<&GroupName> =
                permitted.values().flat_map(|user| &user.groups).collect();
            let applicable = state
                .rules
                .iter()
                .filter(|(_, rule)| rule.definition.active && is_within(&state, gateway, rule));
            for (id, rule) in applicable {
                let mut is_somebodys = false;
                for user in rule.users.iter().filter(|it| permitted.contains_key(*it)) {
                    user_rules.entry(user.to_string()).or_default().push(id.clone());
                    is_somebodys = true;
                }
                for group in rule.groups.iter().filter(|it| groups.contains(*it)) {
                    group_rules.entry(group.to_string()).or_default().push(id.clone());
                    is_somebodys = true;
                }
                if is_somebodys {
                    rules.push(RuleAtGateway {
                        id: id.clone(),
                        name: rule.definition.name.to_string(),
                        destination: destination(&rule.definition),
                        is_active: true,
                    });
                }
            }
        }
    }
    let content = serde_json::to_string(&(&rules, &user_rules, &group_rules))
        .map_err(crate::api::ApiError::internal)?;
    Ok(Json(AllAnswer {
        rules,
        user_rules,
        group_rules,
        hash: crate::entropy::token_hash(&content).to_string(),
        timestamp: app.services.clock.now(),
    }))
}
