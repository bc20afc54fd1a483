//! A call of a gateway's agent: its body, and the proof of which gateway it is.

use crate::api::client_ip::ClientIp;
use crate::api::edge;
use crate::api::json::{read_body, read_whole};
use crate::api::request_id;
use crate::api::{AgentJson, ApiError};
use crate::entropy::token_hash;
use crate::services::Services;
use axum::body::Body;
use axum::extract::{FromRef, FromRequest, FromRequestParts, Request};
use axum::http::HeaderMap;
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
        let header = token_of(&parts.headers);
        let route = parts.uri.path().to_owned();
        let prove = |token: &str| authenticate(&services, token, client_ip, &route);
        // Who it is comes before what they say. A token in the body counts only without a header.
        let proven = match parts.extensions.remove::<Proven>() {
            Some(proven) => Some(proven),
            None => header.as_deref().map(prove).transpose()?,
        };
        let bytes = read_body(Request::from_parts(parts, body_of)).await?;
        let said = AgentJson::<T>::parse(&bytes);
        let Proven { gateway_id, gateway_name } = match (proven, &said) {
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

/// A gateway that proved which one it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Which.
    pub gateway_id: GatewayId,
    /// Its name.
    pub gateway_name: ResourceName,
}

/// Which gateway makes a request, for what has to know before the handler does; the request as the
/// handler then gets it; and what is wrong with it, if its body can't be read. Everything else that
/// fails is left to the handler to say and to take down.
pub async fn identify(
    services: &Services,
    request: Request,
) -> (Option<Proven>, Request, Option<ApiError>) {
    let (mut parts, body) = request.into_parts();
    let mut token = token_of(&parts.headers);
    let mut whole = body;
    if token.is_none() {
        let reading = read_whole(&parts.headers, whole);
        let bytes = match tokio::time::timeout(edge::TIMEOUT, reading).await {
            Ok(Ok(bytes)) => bytes,
            Ok(Err(error)) => {
                return (None, Request::from_parts(parts, Body::empty()), Some(error));
            }
            Err(_) => {
                let late = ApiError::unavailable("It took too long").code("timeout");
                return (None, Request::from_parts(parts, Body::empty()), Some(late));
            }
        };
        token = Some(token_in(&bytes));
        whole = Body::from(bytes);
    }
    let proven = token.and_then(|token| look_up(services, &token));
    if let Some(proven) = &proven {
        parts.extensions.insert(proven.clone());
    }
    (proven, Request::from_parts(parts, whole), None)
}

/// The token in the header; of one that is unreadable, "".
fn token_of(headers: &HeaderMap) -> Option<String> {
    headers.get(TOKEN_HEADER).map(|value| value.to_str().unwrap_or_default().to_owned())
}

/// The token in a body that is otherwise not what it should be.
fn token_in(bytes: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Shown {
        token: String,
    }
    serde_json::from_slice::<Shown>(bytes).map(|it| it.token).unwrap_or_default()
}

fn look_up(services: &Services, token: &str) -> Option<Proven> {
    if token.is_empty() || token.len() > MAX_TOKEN {
        return None;
    }
    // By its SHA-256: what the time of the look-up tells is of no use to anyone.
    let hash = token_hash(token);
    let state = services.index.read();
    let gateway_id = state.gateways_by_token.get(&hash)?.clone();
    let gateway_name = state.gateways.get(&gateway_id)?.configuration.name.clone();
    Some(Proven { gateway_id, gateway_name })
}

fn authenticate(
    services: &Services,
    token: &str,
    client_ip: Option<IpAddr>,
    route: &str,
) -> Result<Proven, ApiError> {
    if let Some(proven) = look_up(services, token) {
        return Ok(proven);
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

/// What is kept with an event that a gateway caused.
pub fn metadata(
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
