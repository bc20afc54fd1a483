//! A call of a gateway's agent: its body, and the proof of which gateway it is.

use crate::api::client_ip::ClientIp;
use crate::api::json::read_body;
use crate::api::request_id;
use crate::api::{AgentJson, ApiError};
use crate::entropy::token_hash;
use crate::services::Services;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use gatekey_aggregates::attempt::{Denial, Event};
use gatekey_aggregates::values::{GatewayId, ResourceName, canonical_ip};
use gatekey_aggregates::{Actor, ActorKind, Credential, CredentialKind, Metadata, Personal};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

/// Where agents that know it put their token.
pub const TOKEN_HEADER: &str = "x-gateway-token";
/// Longest token that is looked at.
const MAX_TOKEN: usize = 256;

/// The body of an agent's call.
pub trait AgentRequest: DeserializeOwned + Send {
    /// The token, where the agent puts it into the body.
    fn token(&self) -> Option<&str>;
}

/// A call of a gateway that proved itself.
pub struct AgentCall<T> {
    /// Which gateway.
    pub gateway_id: GatewayId,
    /// Its name.
    pub gateway_name: ResourceName,
    /// For the events of this call.
    pub metadata: Metadata,
    /// What it says.
    pub body: T,
}

impl<T, S> FromRequest<S> for AgentCall<T>
where
    T: AgentRequest,
    S: Send + Sync,
    Arc<Services>: FromRef<S>,
{
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let services = Arc::<Services>::from_ref(state);
        let (mut parts, body_of) = request.into_parts();
        let client_ip = ClientIp::from_request_parts(&mut parts, state).await.ok().map(|it| it.0);
        let header = parts
            .headers
            .get(TOKEN_HEADER)
            .map(|value| value.to_str().unwrap_or_default().to_owned());
        let route = parts.uri.path().to_owned();
        let prove = |token: &str| authenticate(&services, token, client_ip, &route);
        // Who it is comes before what they say. A token in the body counts only without a header.
        let by_header = header.as_deref().map(prove).transpose()?;
        let bytes = read_body(Request::from_parts(parts, body_of)).await?;
        let said = AgentJson::<T>::parse(&bytes);
        let (gateway_id, gateway_name) = match (by_header, &said) {
            (Some(proven), _) => proven,
            (None, Ok(AgentJson(body))) => prove(body.token().unwrap_or_default())?,
            (None, Err(_)) => prove(&token_in(&bytes))?,
        };
        let AgentJson(body) = said?;
        services.telemetry.heard(&gateway_id);
        let metadata = metadata(&services, &gateway_id, &gateway_name, client_ip);
        Ok(Self { gateway_id, gateway_name, metadata, body })
    }
}

/// The token in a body that is otherwise not what it should be.
fn token_in(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Shown {
        token: String,
    }
    serde_json::from_slice::<Shown>(bytes).map(|it| it.token).unwrap_or_default()
}

fn authenticate(
    services: &Services,
    token: &str,
    client_ip: Option<IpAddr>,
    route: &str,
) -> Result<(GatewayId, ResourceName), ApiError> {
    if !token.is_empty() && token.len() <= MAX_TOKEN {
        // By its SHA-256: what the time of the look-up tells is of no use to anyone.
        let hash = token_hash(token);
        let state = services.index.read();
        if let Some(id) = state.gateways_by_token.get(&hash)
            && let Some(entry) = state.gateways.get(id)
        {
            return Ok((id.clone(), entry.configuration.name.clone()));
        }
    }
    let person = services.keyring.unknown_person();
    let denial = Denial {
        client_ip: client_ip.map(|ip| Personal::new(person.clone(), ip)),
        target: Some(format!("POST {route}")),
        ..Denial::new("invalid_gateway_token")
    };
    let mut metadata = Metadata::system("", person);
    metadata.actor.kind = ActorKind::Anonymous;
    metadata.source_ip = client_ip.map(|ip| ip.to_string());
    services.attempts.record(Event::GatewayTokenRejected, denial, metadata);
    Err(ApiError::unauthorized_as("invalid_gateway_token", "Unknown gateway token"))
}

fn metadata(
    services: &Services,
    id: &GatewayId,
    name: &ResourceName,
    client_ip: Option<IpAddr>,
) -> Metadata {
    Metadata {
        actor: Actor { kind: ActorKind::Gateway, id: id.to_string(), label: name.to_string() },
        credential: Credential { kind: CredentialKind::GatewayToken, id: id.to_string() },
        person: services.keyring.unknown_person(),
        source_ip: client_ip.map(|ip| ip.to_string()),
        user_agent: None,
        request_id: request_id::current().map(|it| it.as_str().to_owned()),
        correlation_id: None,
        causation_id: None,
        reason: None,
    }
}

/// Reads an optional value that agents may send as an empty string when they have none.
pub fn absent_if_empty<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: std::fmt::Display>,
{
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

/// Reads an optional value; a text that is none is as if it were not there.
pub fn absent_if_unreadable<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
{
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| text.parse().ok()))
}

/// Reads an optional address; a text that is none is as if it were not there.
pub fn address_if_readable<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<IpAddr>, D::Error> {
    Ok(absent_if_unreadable(deserializer)?.map(canonical_ip))
}

/// Reads an optional address; IPv4 mapped into IPv6 is IPv4.
pub fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(deserializer)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => {
            text.parse().map(|ip| Some(canonical_ip(ip))).map_err(serde::de::Error::custom)
        }
    }
}
