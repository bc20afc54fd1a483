//! `/admin/gateways`: gateways are registered, configured and removed.

mod grants;

use super::grants::Reference;
use crate::access;
use crate::api::error::ErrorBody;
use crate::api::gateways::{Agent, GatewayStatus, SORT, heard_since};
use crate::api::idempotency::row;
use crate::api::openapi::{Access, callable_by};
use crate::api::{
    Answer, ApiError, Creating, Data, ETag, Filter, IdempotencyKey, IfMatch, Json, List,
    MergePatch, Page, Path, unless_overtaken,
};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::entropy::token_hash;
use crate::event_log::{AppendError, CommandError, Request};
use crate::openvpn::TlsAuthKey;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::gateway::{Command, Configuration, Gateway as Aggregate};
use gatekey_aggregates::values::{
    Cidr, CryptoProfile, Description, GatewayId, GroupName, Host, NetworkId, ResourceName,
    SecretId, Transport, UserId, VpnSubnet, canonical_ip, from_micros, micros,
};
use gatekey_aggregates::{ClaimKind, Recorded};
use gatekey_projections::gateways::{self, GatewayRow};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What a gateway's token begins with.
pub(crate) const TOKEN_PREFIX: &str = "gw_";
/// How many subnets there are for gateways that name none: 172.31.255.0/24 and below, as far as
/// 172.16.0.0/12 reaches (RFC 1918).
const SUBNETS: u32 = 4096;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let read = OpenApiRouter::new().routes(routes!(list)).routes(routes!(show));
    let change = OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(update, patch, remove))
        .routes(routes!(rotate_token))
        .routes(routes!(reprovision));
    callable_by(Access::Auditor, read.merge(grants::read()))
        .merge(callable_by(Access::Admin, change.merge(grants::change())))
}

/// What an admin writes of a gateway.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GatewayRequest {
    /// Unique among gateways, whatever the case of its letters.
    name: ResourceName,
    /// Free text.
    #[serde(default)]
    description: Description,
    /// Where clients find it: a host name or an address.
    hostname: Host,
    /// Its address, where it must not be the one that its agent reports.
    #[schema(value_type = Option<String>, example = "203.0.113.10")]
    public_ip: Option<IpAddr>,
    /// OpenVPN's `port`, from 1.
    #[serde(default = "default_port")]
    #[schema(default = 1194, minimum = 1)]
    port: u16,
    /// OpenVPN's `proto`.
    #[serde(default)]
    protocol: Transport,
    /// What clients are given addresses from: an IPv4 network from /16 to /29 that overlaps no
    /// other gateway's and no mesh hub's. A new gateway that names none gets the first free /24 from
    /// 172.31.255.0/24 downwards; one that is changed keeps the one it has.
    pub vpn_subnet: Option<VpnSubnet>,
    /// Ciphers and digests.
    #[serde(default)]
    crypto_profile: CryptoProfile,
    /// Whether the control channel is authenticated with a shared key.
    #[serde(default = "yes")]
    #[schema(default = true)]
    tls_auth: bool,
    /// Whether clients send all their traffic through it.
    #[serde(default)]
    full_tunnel: bool,
    /// Whether clients are told to use `dns_servers`, of which there must then be some.
    #[serde(default)]
    push_dns: bool,
    /// At most 8 addresses.
    #[serde(default)]
    #[schema(value_type = Vec<String>, example = json!(["10.0.0.53"]))]
    dns_servers: Vec<IpAddr>,
    /// An inactive gateway lets nobody in.
    #[serde(default = "yes")]
    #[schema(default = true)]
    active: bool,
}

fn default_port() -> u16 {
    1194
}

fn yes() -> bool {
    true
}

impl GatewayRequest {
    /// The same with a subnet.
    pub fn configuration(&self, vpn_subnet: VpnSubnet) -> Configuration {
        Configuration {
            name: self.name.clone(),
            description: self.description.clone(),
            hostname: self.hostname.clone(),
            public_ip: self.public_ip.map(canonical_ip),
            port: self.port,
            protocol: self.protocol,
            vpn_subnet,
            crypto_profile: self.crypto_profile,
            tls_auth: self.tls_auth,
            full_tunnel: self.full_tunnel,
            push_dns: self.push_dns,
            dns_servers: self.dns_servers.iter().copied().map(canonical_ip).collect(),
            active: self.active,
        }
    }
}

type GatewayPatch = MergePatch<GatewayRequest>;

/// A gateway.
#[derive(Serialize, ToSchema)]
pub struct Gateway {
    /// Its id.
    #[schema(example = "gw-001")]
    id: String,
    /// Its name.
    #[schema(example = "us-east-1")]
    name: String,
    /// Free text.
    #[schema(example = "US East Coast Gateway")]
    description: String,
    /// Where clients find it.
    #[schema(example = "vpn-us-east.example.com")]
    hostname: String,
    /// Its address, where an admin fixed it.
    #[schema(required, example = "203.0.113.10")]
    public_ip: Option<String>,
    /// OpenVPN's `port`.
    #[schema(example = 1194)]
    port: i64,
    /// `udp` or `tcp`.
    #[schema(example = "udp")]
    protocol: String,
    /// What clients are given addresses from.
    #[schema(example = "172.31.255.0/24")]
    vpn_subnet: String,
    /// `modern`, `fips` or `compatible`.
    #[schema(example = "modern")]
    crypto_profile: String,
    /// Whether the control channel is authenticated with a shared key.
    tls_auth: bool,
    /// Whether clients send all their traffic through it.
    full_tunnel: bool,
    /// Whether clients are told to use `dns_servers`.
    push_dns: bool,
    /// Addresses.
    #[schema(example = json!(["10.0.0.53"]))]
    dns_servers: Vec<String>,
    /// Whether it lets anybody in.
    active: bool,
    /// Whether its agent was heard of lately.
    status: GatewayStatus,
    /// When its agent last sent a heartbeat; null before the first.
    #[schema(required)]
    last_heartbeat: Option<DateTime<Utc>>,
    /// The address that its agent reports.
    #[schema(required, example = "203.0.113.10")]
    reported_ip: Option<String>,
    /// How many clients its agent counts.
    #[schema(required)]
    active_clients: Option<i64>,
    /// Whether its agent sees OpenVPN run.
    #[schema(required)]
    openvpn_running: Option<bool>,
    /// The version of the configuration that it should have.
    #[schema(example = "3f2a9c41d07be856")]
    config_version: String,
    /// Whether its agent has, by its last heartbeat, another configuration than it should.
    needs_reprovision: bool,
    /// When it was registered.
    created_at: DateTime<Utc>,
    /// When an admin last changed it.
    updated_at: DateTime<Utc>,
    /// What its agent proves itself with. Told once: when the gateway is registered, and when the
    /// token is rotated.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "gw_q0wYdvEDGUlRbNvX1xyFAUOxzJlL9jqq3oRxLDjdyVI")]
    token: Option<String>,
}

impl Gateway {
    /// As it stands now.
    pub fn of(gateway: gateways::Gateway, services: &Services) -> Self {
        let config_version = gateway.row.id.parse::<GatewayId>().ok().and_then(|id| {
            let state = services.index.read();
            state.gateways.get(&id).map(|entry| entry.config_version.clone())
        });
        Self::new(gateway, services, config_version)
    }

    fn new(
        gateway: gateways::Gateway,
        services: &Services,
        config_version: Option<String>,
    ) -> Self {
        let agent = Agent::of(&gateway, services);
        let row = gateway.row;
        let needs_reprovision = agent.config_version.is_some_and(|it| Some(it) != config_version);
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            hostname: row.hostname,
            public_ip: row.public_ip,
            port: row.port,
            protocol: row.protocol,
            vpn_subnet: row.vpn_subnet,
            crypto_profile: row.crypto_profile,
            tls_auth: row.tls_auth,
            full_tunnel: row.full_tunnel,
            push_dns: row.push_dns,
            dns_servers: row.dns_servers.0,
            active: row.active,
            status: agent.status,
            last_heartbeat: agent.last_heartbeat,
            reported_ip: row.reported_ip,
            active_clients: agent.active_clients,
            openvpn_running: agent.openvpn_running,
            config_version: config_version.unwrap_or_default(),
            needs_reprovision,
            created_at: from_micros(row.created_at),
            updated_at: from_micros(row.updated_at),
            token: None,
        }
    }
}

type Shown = (ETag, Data<Gateway>);

async fn find(services: &Services, id: &GatewayId) -> Result<gateways::Gateway, ApiError> {
    gateways::find(&services.db, id.as_str()).await?.ok_or_else(ApiError::not_found)
}

async fn answer(services: &Services, id: &GatewayId) -> Result<Shown, ApiError> {
    let gateway = find(services, id).await?;
    Ok((ETag(gateway.row.etag), Data { data: Gateway::of(gateway, services) }))
}

fn refused(services: &Services, error: CommandError) -> ApiError {
    ApiError::of_command(error, &services.index.read())
}

/// Which gateways are listed.
#[derive(Deserialize, IntoParams)]
struct Gateways {
    /// Those whose agent was heard of lately, or those whose was not.
    status: Option<GatewayStatus>,
    /// Those that let people in, or those that do not.
    active: Option<bool>,
    /// Those that this user may use, by themselves or as a member of a group.
    user: Option<UserId>,
    /// Those that were granted to this group.
    group: Option<GroupName>,
    /// Those through which this network can be reached.
    network: Option<NetworkId>,
}

impl Filter for Gateways {
    const SORT: &'static [&'static str] = SORT;
    const SEARCH: bool = true;
}

/// List gateways
///
/// `q` looks at name, description and host name.
#[utoipa::path(
    get, path = "/admin/gateways", tag = "Gateways", operation_id = "listGateways",
    params(List<Gateways>),
    responses((status = 200, description = "A page of them", body = Page<Gateway>))
)]
async fn list(
    _: Auditor,
    list: List<Gateways>,
    State(services): State<Arc<Services>>,
) -> Result<Page<Gateway>, ApiError> {
    let wanted = list.wanted()?;
    let Gateways { status, active, user, group, network } = list.filter;
    if status.is_some() {
        // What agents said in the last two seconds is not in the tables yet.
        services.telemetry.flush().await?;
    }
    let since = micros(heard_since(&services));
    let filter = gateways::Filter {
        active,
        heard_since: (status == Some(GatewayStatus::Online)).then_some(since),
        silent_since: (status == Some(GatewayStatus::Offline)).then_some(since),
        granted_to: user.map(|it| it.to_string()),
        group: group.map(|it| it.to_string()),
        network_id: network.map(|it| it.to_string()),
    };
    let listed = gateways::list(&services.db, &wanted, &filter).await?;
    Ok(Page::listed(listed.map(|it| Gateway::of(it, &services)), list.paging))
}

/// Get a gateway
#[utoipa::path(
    get, path = "/admin/gateways/{id}", tag = "Gateways", operation_id = "getGateway",
    params(("id" = GatewayId, Path, description = "The gateway's id")),
    responses((
        status = 200, description = "The gateway", body = Data<Gateway>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn show(
    _: Auditor,
    Path(id): Path<GatewayId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    answer(&services, &id).await
}

/// Register a gateway
///
/// The answer holds the token of its agent, this once. Nobody may use the gateway before it is
/// granted to them, and nothing can be reached through it before a network is attached.
#[utoipa::path(
    post, path = "/admin/gateways", tag = "Gateways", operation_id = "createGateway",
    params(IdempotencyKey),
    request_body = GatewayRequest,
    responses(
        (
            status = 201, description = "Registered", body = Data<Gateway>,
            headers(
                ("Location" = String, description = "Where it is found"),
                ("ETag" = String, description = "For `If-Match`"),
            )
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another gateway has the name; `overlaps`: its addresses; \
                           `no_free_subnet`: name one"
        ),
    )
)]
async fn create(
    admin: Admin,
    State(services): State<Arc<Services>>,
    Creating { body, creation }: Creating<GatewayRequest>,
) -> Result<Answer, ApiError> {
    let id: GatewayId = services.entropy.id()?;
    let token = services.entropy.token(TOKEN_PREFIX)?;
    let key = TlsAuthKey::generate(&services.entropy)?;
    let key = services.vault.seal(key.as_str().as_bytes(), None)?;
    let mut next = 0;
    loop {
        let (vpn_subnet, chosen) = if let Some(subnet) = body.vpn_subnet {
            (subnet, None)
        } else {
            let (subnet, n) = free_subnet(&services, next).ok_or_else(no_free_subnet)?;
            (subnet, Some(n))
        };
        let command = Command::Register {
            configuration: body.configuration(vpn_subnet),
            token_hash: token_hash(&token),
            tls_auth_key: key.id.clone(),
        };
        let request = Request::new::<Aggregate>(&id, command, admin.metadata(None))
            .fresh()
            .with_secret(key.clone());
        let made = creation.create::<Aggregate>(request, answered(&services, &id, &token)).await;
        match (made, chosen) {
            (Ok(answer), _) => return Ok(answer),
            // Somebody else was faster.
            (Err(error), Some(n)) if lost_the_subnet(&error) => next = n + 1,
            (Err(error), _) => return Err(refused(&services, error)),
        }
    }
}

/// Makes the answer to a registration.
fn answered(
    services: &Arc<Services>,
    id: &GatewayId,
    token: &str,
) -> impl Fn(&[Recorded]) -> Result<Answer, String> + use<> {
    let (services, id, token) = (services.clone(), id.clone(), token.to_owned());
    move |events: &[Recorded]| {
        let row: GatewayRow = row(&gateways::Gateways, events)?;
        let etag = row.etag;
        // Its configuration's version follows from it and the authority alone.
        let authority = services.index.read().authority.clone();
        let mut state = access::State { authority, ..access::State::default() };
        for event in events {
            state.apply(event);
        }
        let config_version = state.gateways.remove(&id).map(|it| it.config_version);
        let gateway = gateways::Gateway::silent(row);
        let gateway = Gateway {
            token: Some(token.clone()),
            ..Gateway::new(gateway, &services, config_version)
        };
        let location = format!("/api/v1/admin/gateways/{id}");
        Ok(Answer::created(location, &gateway)?.etag(etag))
    }
}

/// The first of the subnets for those who name none that no gateway or hub has, from the `from`th on;
/// and which it is.
pub(super) fn free_subnet(services: &Services, from: u32) -> Option<(VpnSubnet, u32)> {
    let state = services.index.read();
    let of_gateways = state.gateways.values().map(|it| it.configuration.vpn_subnet);
    let of_hubs = state.hubs.iter().map(|(_, it)| it.configuration.vpn_subnet);
    let taken: Vec<_> = of_gateways.chain(of_hubs).map(|it| it.cidr()).collect();
    first_free(&taken, from)
}

/// The first of them that shares no address with those that are `taken`.
pub(crate) fn first_free(taken: &[Cidr], from: u32) -> Option<(VpnSubnet, u32)> {
    (from..SUBNETS).find_map(|n| {
        let subnet = VpnSubnet::DEFAULT.below(n)?;
        let free = !taken.iter().any(|it| it.overlaps(&subnet.cidr()));
        free.then_some((subnet, n))
    })
}

pub(super) fn lost_the_subnet(error: &CommandError) -> bool {
    let CommandError::Append(AppendError::Overlaps { kind, .. }) = error else { return false };
    *kind == ClaimKind::VpnSubnet
}

pub(super) fn no_free_subnet() -> ApiError {
    ApiError::conflict("no_free_subnet", "No subnet is left to choose from: name one")
        .detail("vpn_subnet", "must be named: none is left to choose from")
}

/// Change a gateway
///
/// Replaces what an admin writes: what is left out gets its default, but for `vpn_subnet`, which
/// stays. The agent hears of it at its next heartbeat.
#[utoipa::path(
    put, path = "/admin/gateways/{id}", tag = "Gateways", operation_id = "updateGateway",
    params(("id" = GatewayId, Path, description = "The gateway's id"), IfMatch),
    request_body = GatewayRequest,
    responses(
        (
            status = 200, description = "Changed", body = Data<Gateway>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another gateway has the name; `overlaps`: its addresses"
        ),
    )
)]
async fn update(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<GatewayId>,
    State(services): State<Arc<Services>>,
    Json(body): Json<GatewayRequest>,
) -> Result<Shown, ApiError> {
    unless_overtaken(&if_match, || async {
        let row = find(&services, &id).await?.row;
        let demanded = if_match.revision(row.etag, row.revision)?;
        // The subnet that stays must be the one that it has when the change is made.
        let (vpn_subnet, revision) = match body.vpn_subnet {
            Some(subnet) => (subnet, demanded),
            None => (row.vpn_subnet.parse().map_err(ApiError::internal)?, Some(row.revision)),
        };
        configure(&services, &admin, &id, body.configuration(vpn_subnet), revision).await
    })
    .await
}

/// Patch a gateway
///
/// Changes the fields that are named, as a JSON merge patch (RFC 7396): null gives a field its
/// default (`vpn_subnet` stays then), and the rest stays as it is. The agent hears of it at its next
/// heartbeat.
#[utoipa::path(
    patch, path = "/admin/gateways/{id}", tag = "Gateways", operation_id = "patchGateway",
    params(("id" = GatewayId, Path, description = "The gateway's id"), IfMatch),
    request_body(content(
        (GatewayPatch = "application/json"), (GatewayPatch = "application/merge-patch+json")
    )),
    responses(
        (
            status = 200, description = "Changed", body = Data<Gateway>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another gateway has the name; `overlaps`: its addresses"
        ),
    )
)]
async fn patch(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<GatewayId>,
    State(services): State<Arc<Services>>,
    patch: GatewayPatch,
) -> Result<Shown, ApiError> {
    unless_overtaken(&if_match, || async {
        let gateway = find(&services, &id).await?;
        if_match.check(gateway.row.etag)?;
        let revision = Some(gateway.row.revision);
        let standing = gateway.row.vpn_subnet.parse().map_err(ApiError::internal)?;
        let body = patch.onto(&Gateway::of(gateway, &services))?;
        let configuration = body.configuration(body.vpn_subnet.unwrap_or(standing));
        configure(&services, &admin, &id, configuration, revision).await
    })
    .await
}

async fn configure(
    services: &Services,
    admin: &Admin,
    id: &GatewayId,
    configuration: Configuration,
    revision: Option<i64>,
) -> Result<Shown, ApiError> {
    let command = Command::Configure(configuration);
    let request =
        Request::new::<Aggregate>(id, command, admin.metadata(None)).if_revision(revision);
    let done = services.bus.execute::<Aggregate>(request).await;
    done.map_err(|error| refused(services, error))?;
    answer(services, id).await
}

/// Delete a gateway
///
/// Its token is refused from now on, its certificates are revoked and its connections end.
#[utoipa::path(
    delete, path = "/admin/gateways/{id}", tag = "Gateways", operation_id = "deleteGateway",
    params(("id" = GatewayId, Path, description = "The gateway's id"), IfMatch),
    responses((status = 200, description = "It is gone", body = Data<Reference>))
)]
async fn remove(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<GatewayId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    let found = gateways::find_any(&services.db, id.as_str()).await?;
    let row = found.ok_or_else(ApiError::not_found)?.row;
    if row.deleted_at.is_none() {
        let key: SecretId = row.tls_auth_key.parse().map_err(ApiError::internal)?;
        let request = Request::new::<Aggregate>(&id, Command::Delete, admin.metadata(None))
            .if_revision(if_match.revision(row.etag, row.revision)?)
            .forget(key);
        services.bus.execute::<Aggregate>(request).await?;
    }
    Ok(Reference::to(id))
}

/// Rotate a gateway's token
///
/// The answer holds the new token, this once. The old one is refused from now on. The server's
/// certificate and key stay: when they may have been stolen with the token, as from a lost host,
/// rotate the token first and then have the gateway provision anew.
#[utoipa::path(
    post, path = "/admin/gateways/{id}/rotate-token", tag = "Gateways",
    operation_id = "rotateGatewayToken",
    params(("id" = GatewayId, Path, description = "The gateway's id")),
    responses((
        status = 200, description = "Rotated", body = Data<Gateway>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn rotate_token(
    admin: Admin,
    Path(id): Path<GatewayId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    let token = services.entropy.token(TOKEN_PREFIX)?;
    let command = Command::RotateToken(token_hash(&token));
    let request = Request::new::<Aggregate>(&id, command, admin.metadata(None));
    services.bus.execute::<Aggregate>(request).await?;
    let (etag, mut answer) = answer(&services, &id).await?;
    answer.data.token = Some(token);
    Ok((etag, answer))
}

/// Have a gateway provision anew
///
/// At its next heartbeat its agent is told to fetch certificates and settings again. It gets another
/// server certificate with another key, and the one it had is revoked as `superseded`. The agent's
/// token stays: who may have stolen that too would fetch the new key, so rotate it first.
#[utoipa::path(
    post, path = "/admin/gateways/{id}/reprovision", tag = "Gateways",
    operation_id = "reprovisionGateway",
    params(("id" = GatewayId, Path, description = "The gateway's id")),
    responses((
        status = 200, description = "Asked", body = Data<Gateway>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn reprovision(
    admin: Admin,
    Path(id): Path<GatewayId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    let request = Request::new::<Aggregate>(&id, Command::RequestReprovision, admin.metadata(None));
    services.bus.execute::<Aggregate>(request).await?;
    answer(&services, &id).await
}
