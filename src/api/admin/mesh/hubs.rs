//! `/admin/mesh/hubs`: hubs are created, configured and removed.

use crate::api::admin::gateways::{free_subnet, lost_the_subnet, no_free_subnet};
use crate::api::admin::grants::Reference;
use crate::api::error::ErrorBody;
use crate::api::idempotency::row;
use crate::api::mesh::HubStatus;
use crate::api::{
    Answer, ApiError, Creating, Data, ETag, Filter, IdempotencyKey, IfMatch, Json, List,
    MergePatch, Page, Path, unless_overtaken,
};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::{CommandError, Request};
use crate::openvpn::TlsAuthKey;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::Recorded;
use gatekey_aggregates::mesh_hub::{Command, Configuration, MeshHub as Aggregate};
use gatekey_aggregates::values::{
    Cidr, CryptoProfile, Description, GroupName, Host, MeshHubId, NetworkId, ResourceName,
    SecretId, Transport, UserId, VpnSubnet, from_micros, micros,
};
use gatekey_projections::mesh_hubs::{self, MeshHubRow};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What auditors read.
pub fn read() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// What admins change.
pub fn change() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(create)).routes(routes!(update, patch, remove))
}

/// What an admin writes of a mesh hub.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MeshHubRequest {
    /// Unique among hubs, whatever the case of its letters.
    name: ResourceName,
    /// Free text.
    #[serde(default)]
    description: Description,
    /// Where spokes and clients find it: a host name or an address.
    public_endpoint: Host,
    /// OpenVPN's `port`, from 1.
    #[serde(default = "default_port")]
    #[schema(default = 1194, minimum = 1)]
    port: u16,
    /// OpenVPN's `proto`.
    #[serde(default)]
    protocol: Transport,
    /// What spokes and clients are given addresses from: an IPv4 network from /16 to /29 that
    /// overlaps no gateway's and no other hub's. A new hub that names none gets the first free /24
    /// from 172.31.255.0/24 downwards; one that is changed keeps the one it has.
    vpn_subnet: Option<VpnSubnet>,
    /// Ciphers and digests.
    #[serde(default)]
    crypto_profile: CryptoProfile,
    /// Whether the control channel is authenticated with a shared key.
    #[serde(default = "yes")]
    #[schema(default = true)]
    tls_auth: bool,
    /// The networks at the hub's own site, IPv4 or IPv6: at most 64, none of which overlaps another,
    /// a spoke's or the `vpn_subnet`.
    #[serde(default)]
    local_networks: Vec<Cidr>,
}

fn default_port() -> u16 {
    1194
}

fn yes() -> bool {
    true
}

impl MeshHubRequest {
    fn configuration(&self, vpn_subnet: VpnSubnet) -> Configuration {
        Configuration {
            name: self.name.clone(),
            description: self.description.clone(),
            public_endpoint: self.public_endpoint.clone(),
            port: self.port,
            protocol: self.protocol,
            vpn_subnet,
            crypto_profile: self.crypto_profile,
            tls_auth: self.tls_auth,
            local_networks: self.local_networks.clone(),
        }
    }
}

type MeshHubPatch = MergePatch<MeshHubRequest>;

/// A mesh hub.
#[derive(Serialize, ToSchema)]
struct MeshHub {
    /// Its id.
    #[schema(example = "hub-01k9x3")]
    id: String,
    /// Its name.
    #[schema(example = "europe")]
    name: String,
    /// Free text.
    #[schema(example = "The hub in Frankfurt")]
    description: String,
    /// Where spokes and clients find it.
    #[schema(example = "hub.example.com")]
    public_endpoint: String,
    /// OpenVPN's `port`.
    #[schema(example = 1194)]
    port: i64,
    /// `udp` or `tcp`.
    #[schema(example = "udp")]
    protocol: String,
    /// What spokes and clients are given addresses from.
    #[schema(example = "172.31.255.0/24")]
    vpn_subnet: String,
    /// `modern`, `fips` or `compatible`.
    #[schema(example = "modern")]
    crypto_profile: String,
    /// Whether the control channel is authenticated with a shared key.
    tls_auth: bool,
    /// The networks at its own site.
    #[schema(example = json!(["10.1.0.0/16"]))]
    local_networks: Vec<String>,
    /// Whether it has a good server certificate.
    status: HubStatus,
    /// Until when that is good; null without one.
    #[schema(required)]
    certificate_expires_at: Option<DateTime<Utc>>,
    /// How many spokes are joined to it.
    spokes: i64,
    /// When it was created.
    created_at: DateTime<Utc>,
    /// When an admin last changed it.
    updated_at: DateTime<Utc>,
}

impl MeshHub {
    /// As it stands `now`.
    fn of(hub: mesh_hubs::MeshHub, now: DateTime<Utc>) -> Self {
        let status = HubStatus::of(&hub, now);
        let mesh_hubs::MeshHub { row, spokes, certificate_expires_at } = hub;
        Self {
            id: row.id,
            name: row.name,
            description: row.description,
            public_endpoint: row.public_endpoint,
            port: row.port,
            protocol: row.protocol,
            vpn_subnet: row.vpn_subnet,
            crypto_profile: row.crypto_profile,
            tls_auth: row.tls_auth,
            local_networks: row.local_networks.0,
            status,
            certificate_expires_at: certificate_expires_at.map(from_micros),
            spokes,
            created_at: from_micros(row.created_at),
            updated_at: from_micros(row.updated_at),
        }
    }
}

type Shown = (ETag, Data<MeshHub>);

async fn find(services: &Services, id: &MeshHubId) -> Result<mesh_hubs::MeshHub, ApiError> {
    mesh_hubs::find(&services.db, id.as_str()).await?.ok_or_else(ApiError::not_found)
}

async fn answer(services: &Services, id: &MeshHubId) -> Result<Shown, ApiError> {
    let hub = find(services, id).await?;
    Ok((ETag(hub.row.etag), Data { data: MeshHub::of(hub, services.clock.now()) }))
}

fn refused(services: &Services, error: CommandError) -> ApiError {
    ApiError::of_command(error, &services.index.read())
}

/// Which hubs are listed.
#[derive(Deserialize, IntoParams)]
struct MeshHubs {
    /// Those that have a good server certificate, or those that have none.
    status: Option<HubStatus>,
    /// Those that this user may use, by themselves or as a member of a group.
    user: Option<UserId>,
    /// Those that were granted to this group.
    group: Option<GroupName>,
    /// Those to which this network is attached.
    network: Option<NetworkId>,
}

impl Filter for MeshHubs {
    const SORT: &'static [&'static str] = mesh_hubs::SORT;
    const SEARCH: bool = true;
}

/// List mesh hubs
///
/// `q` looks at name, description and public endpoint.
#[utoipa::path(
    get, path = "/admin/mesh/hubs", tag = "Mesh", operation_id = "listMeshHubs",
    params(List<MeshHubs>),
    responses((status = 200, description = "A page of them", body = Page<MeshHub>))
)]
async fn list(
    _: Auditor,
    list: List<MeshHubs>,
    State(services): State<Arc<Services>>,
) -> Result<Page<MeshHub>, ApiError> {
    let wanted = list.wanted()?;
    let now = services.clock.now();
    let MeshHubs { status, user, group, network } = list.filter;
    let filter = mesh_hubs::Filter {
        granted_to: user.map(|it| it.to_string()),
        group: group.map(|it| it.to_string()),
        network_id: network.map(|it| it.to_string()),
        provisioned_at: (status == Some(HubStatus::Provisioned)).then(|| micros(now)),
        pending_at: (status == Some(HubStatus::Pending)).then(|| micros(now)),
    };
    let listed = mesh_hubs::list(&services.db, &wanted, &filter).await?;
    Ok(Page::listed(listed.map(|it| MeshHub::of(it, now)), list.paging))
}

/// Get a mesh hub
#[utoipa::path(
    get, path = "/admin/mesh/hubs/{id}", tag = "Mesh", operation_id = "getMeshHub",
    params(("id" = MeshHubId, Path, description = "The hub's id")),
    responses((
        status = 200, description = "The hub", body = Data<MeshHub>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn show(
    _: Auditor,
    Path(id): Path<MeshHubId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    answer(&services, &id).await
}

/// Create a mesh hub
///
/// Nobody may use it before it is granted to them. Its server is set up from what `provision` gives.
#[utoipa::path(
    post, path = "/admin/mesh/hubs", tag = "Mesh", operation_id = "createMeshHub",
    params(IdempotencyKey),
    request_body = MeshHubRequest,
    responses(
        (
            status = 201, description = "Created", body = Data<MeshHub>,
            headers(
                ("Location" = String, description = "Where it is found"),
                ("ETag" = String, description = "For `If-Match`"),
            )
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another hub has the name; `overlaps`: a gateway or hub \
                           has some of the addresses; `no_free_subnet`: name one"
        ),
    )
)]
async fn create(
    admin: Admin,
    State(services): State<Arc<Services>>,
    Creating { body, creation }: Creating<MeshHubRequest>,
) -> Result<Answer, ApiError> {
    let id: MeshHubId = services.entropy.id()?;
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
        let command = Command::Create {
            configuration: body.configuration(vpn_subnet),
            tls_auth_key: key.id.clone(),
        };
        let request = Request::new::<Aggregate>(&id, command, admin.metadata(None))
            .fresh()
            .with_secret(key.clone());
        match (creation.create::<Aggregate>(request, answered(&services, &id)).await, chosen) {
            (Ok(answer), _) => return Ok(answer),
            // Somebody else was faster.
            (Err(error), Some(n)) if lost_the_subnet(&error) => next = n + 1,
            (Err(error), _) => return Err(refused(&services, error)),
        }
    }
}

/// Makes the answer to a creation.
fn answered(
    services: &Services,
    id: &MeshHubId,
) -> impl Fn(&[Recorded]) -> Result<Answer, String> + use<> {
    let (now, location) = (services.clock.now(), format!("/api/v1/admin/mesh/hubs/{id}"));
    move |events: &[Recorded]| {
        let row: MeshHubRow = row(&mesh_hubs::MeshHubs, events)?;
        let etag = row.etag;
        let hub = mesh_hubs::MeshHub { row, spokes: 0, certificate_expires_at: None };
        Ok(Answer::created(location.clone(), &MeshHub::of(hub, now))?.etag(etag))
    }
}

/// Change a mesh hub
///
/// Replaces what an admin writes: what is left out gets its default, but for `vpn_subnet`, which
/// stays. Its server must then be provisioned anew.
#[utoipa::path(
    put, path = "/admin/mesh/hubs/{id}", tag = "Mesh", operation_id = "updateMeshHub",
    params(("id" = MeshHubId, Path, description = "The hub's id"), IfMatch),
    request_body = MeshHubRequest,
    responses(
        (
            status = 200, description = "Changed", body = Data<MeshHub>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another hub has the name; `overlaps`: a gateway, a hub \
                           or one of its spokes has some of the addresses"
        ),
    )
)]
async fn update(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<MeshHubId>,
    State(services): State<Arc<Services>>,
    Json(body): Json<MeshHubRequest>,
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

/// Patch a mesh hub
///
/// Changes the fields that are named, as a JSON merge patch (RFC 7396): null gives a field its
/// default (`vpn_subnet` stays then), and the rest stays as it is. Its server must then be provisioned
/// anew.
#[utoipa::path(
    patch, path = "/admin/mesh/hubs/{id}", tag = "Mesh", operation_id = "patchMeshHub",
    params(("id" = MeshHubId, Path, description = "The hub's id"), IfMatch),
    request_body(content(
        (MeshHubPatch = "application/json"), (MeshHubPatch = "application/merge-patch+json")
    )),
    responses(
        (
            status = 200, description = "Changed", body = Data<MeshHub>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another hub has the name; `overlaps`: a gateway, a hub \
                           or one of its spokes has some of the addresses"
        ),
    )
)]
async fn patch(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<MeshHubId>,
    State(services): State<Arc<Services>>,
    patch: MeshHubPatch,
) -> Result<Shown, ApiError> {
    unless_overtaken(&if_match, || async {
        let hub = find(&services, &id).await?;
        if_match.check(hub.row.etag)?;
        let revision = Some(hub.row.revision);
        let standing = hub.row.vpn_subnet.parse().map_err(ApiError::internal)?;
        let body = patch.onto(&MeshHub::of(hub, services.clock.now()))?;
        let configuration = body.configuration(body.vpn_subnet.unwrap_or(standing));
        configure(&services, &admin, &id, configuration, revision).await
    })
    .await
}

async fn configure(
    services: &Services,
    admin: &Admin,
    id: &MeshHubId,
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

/// Delete a mesh hub
///
/// And its spokes. All its certificates are revoked: its server's, its spokes' and its users'.
#[utoipa::path(
    delete, path = "/admin/mesh/hubs/{id}", tag = "Mesh", operation_id = "deleteMeshHub",
    params(("id" = MeshHubId, Path, description = "The hub's id"), IfMatch),
    responses((status = 200, description = "It is gone", body = Data<Reference>))
)]
async fn remove(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<MeshHubId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    let found = mesh_hubs::find_any(&services.db, id.as_str()).await?;
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
