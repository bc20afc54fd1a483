//! `/admin/mesh/hubs/{id}/spokes` and `/admin/mesh/spokes`: the sites that a hub joins, and their
//! routers' profiles.

use crate::access::State as Index;
use crate::api::admin::grants::Reference;
use crate::api::error::ErrorBody;
use crate::api::idempotency::row;
use crate::api::mesh::hub_name;
use crate::api::{
    Answer, ApiError, Creating, Data, ETag, Filter, IdempotencyKey, IfMatch, Json, List,
    MergePatch, Page, Path, profiles, unless_overtaken,
};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::{CommandError, Request};
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::Recorded;
use gatekey_aggregates::certificate::{self, Certificate, Subject};
use gatekey_aggregates::mesh_hub::{Command, Configuration, MeshHub, SpokeDefinition};
use gatekey_aggregates::values::{
    CertificateId, Cidr, Description, MeshHubId, ResourceName, RevocationReason, SecretId, SpokeId,
    VpnServerId, from_micros,
};
use gatekey_projections::mesh_hubs::{self, MeshSpokeRow};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long the certificate of a spoke's router lasts.
const LIFETIME: TimeDelta = TimeDelta::days(365);
/// The code of a refusal that is a 412.
const CHANGED_MEANWHILE: &str = "changed_meanwhile";

/// What auditors read.
pub fn read() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(show))
}

/// What admins change.
pub fn change() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(update, patch, remove))
        .routes(routes!(generate))
}

/// What an admin writes of a spoke.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MeshSpokeRequest {
    /// Unique among its hub's spokes, whatever the case of its letters.
    name: ResourceName,
    /// Free text.
    #[serde(default)]
    description: Description,
    /// The networks behind it, IPv4 or IPv6: at most 64, none of which overlaps another, another
    /// spoke's, or the hub's own.
    #[serde(default)]
    local_networks: Vec<Cidr>,
}

impl From<MeshSpokeRequest> for SpokeDefinition {
    fn from(it: MeshSpokeRequest) -> Self {
        Self { name: it.name, description: it.description, local_networks: it.local_networks }
    }
}

type MeshSpokePatch = MergePatch<MeshSpokeRequest>;

/// A spoke.
#[derive(Serialize, ToSchema)]
struct MeshSpoke {
    /// Its id.
    #[schema(example = "spoke-01k9x3")]
    id: String,
    /// The hub that it is joined to.
    #[schema(example = "hub-01k9x3")]
    hub_id: String,
    /// Its name.
    #[schema(example = "berlin")]
    name: String,
    /// Free text.
    #[schema(example = "The office in Berlin")]
    description: String,
    /// The networks behind it.
    #[schema(example = json!(["10.20.0.0/16"]))]
    local_networks: Vec<String>,
    /// Its router's certificate; null before a profile was generated, and after it was revoked.
    #[schema(required)]
    certificate: Option<SpokeCertificate>,
    /// When it was added.
    created_at: DateTime<Utc>,
    /// When an admin last changed it.
    updated_at: DateTime<Utc>,
}

/// The certificate of a spoke's router.
#[derive(Serialize, ToSchema)]
struct SpokeCertificate {
    /// Its id, for `/admin/pki/revoke`.
    #[schema(example = "cfg-abc123")]
    id: String,
    /// Its serial, in hex.
    #[schema(example = "5a0f3c")]
    serial: String,
    /// When it expires.
    expires_at: DateTime<Utc>,
}

impl From<mesh_hubs::MeshSpoke> for MeshSpoke {
    fn from(it: mesh_hubs::MeshSpoke) -> Self {
        let mesh_hubs::MeshSpoke { row, serial, certificate_expires_at } = it;
        let certificate = match (row.certificate, serial, certificate_expires_at) {
            (Some(id), Some(serial), Some(at)) => {
                Some(SpokeCertificate { id, serial, expires_at: from_micros(at) })
            }
            _ => None,
        };
        Self {
            id: row.id,
            hub_id: row.hub_id,
            name: row.name,
            description: row.description,
            local_networks: row.local_networks.0,
            certificate,
            created_at: from_micros(row.created_at),
            updated_at: from_micros(row.updated_at),
        }
    }
}

type Shown = (ETag, Data<MeshSpoke>);

async fn find(services: &Services, id: &SpokeId) -> Result<mesh_hubs::MeshSpoke, ApiError> {
    mesh_hubs::find_spoke(&services.db, id.as_str()).await?.ok_or_else(ApiError::not_found)
}

async fn answer(services: &Services, id: &SpokeId) -> Result<Shown, ApiError> {
    let spoke = find(services, id).await?;
    Ok((ETag(spoke.row.etag), Data { data: spoke.into() }))
}

fn refused(error: CommandError) -> ApiError {
    match error {
        CommandError::Refused { code: CHANGED_MEANWHILE, .. } => ApiError::changed_meanwhile(),
        error => error.into(),
    }
}

#[derive(Deserialize, IntoParams)]
struct MeshSpokes {}

impl Filter for MeshSpokes {
    const SORT: &'static [&'static str] = mesh_hubs::SPOKE_SORT;
    const SEARCH: bool = true;
}

/// List a mesh hub's spokes
///
/// `q` looks at name, description and networks.
#[utoipa::path(
    get, path = "/admin/mesh/hubs/{id}/spokes", tag = "Mesh", operation_id = "listMeshSpokes",
    params(("id" = MeshHubId, Path, description = "The hub's id"), List<MeshSpokes>),
    responses((status = 200, description = "A page of them", body = Page<MeshSpoke>))
)]
async fn list(
    _: Auditor,
    Path(id): Path<MeshHubId>,
    list: List<MeshSpokes>,
    State(services): State<Arc<Services>>,
) -> Result<Page<MeshSpoke>, ApiError> {
    mesh_hubs::find(&services.db, id.as_str()).await?.ok_or_else(ApiError::not_found)?;
    let listed = mesh_hubs::spokes(&services.db, id.as_str(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(MeshSpoke::from), list.paging))
}

/// Add a spoke to a mesh hub
///
/// A hub has at most 500. Its server must then be provisioned anew.
#[utoipa::path(
    post, path = "/admin/mesh/hubs/{id}/spokes", tag = "Mesh", operation_id = "createMeshSpoke",
    params(("id" = MeshHubId, Path, description = "The hub's id"), IdempotencyKey),
    request_body = MeshSpokeRequest,
    responses(
        (
            status = 201, description = "Added", body = Data<MeshSpoke>,
            headers(
                ("Location" = String, description = "Where it is found"),
                ("ETag" = String, description = "For `If-Match`"),
            )
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another spoke of the hub has the name; `overlaps`: the \
                           hub or another spoke has some of the addresses; `too_many_spokes`"
        ),
    )
)]
async fn create(
    admin: Admin,
    Path(id): Path<MeshHubId>,
    State(services): State<Arc<Services>>,
    Creating { body, creation }: Creating<MeshSpokeRequest>,
) -> Result<Answer, ApiError> {
    let spoke_id: SpokeId = services.entropy.id()?;
    let command = Command::AddSpoke { spoke_id: spoke_id.clone(), definition: body.into() };
    let request = Request::new::<MeshHub>(&id, command, admin.metadata(None));
    let location = format!("/api/v1/admin/mesh/spokes/{spoke_id}");
    let make = move |events: &[Recorded]| {
        let row: MeshSpokeRow = row(&mesh_hubs::MeshHubs, events)?;
        let etag = row.etag;
        let spoke = mesh_hubs::MeshSpoke { row, serial: None, certificate_expires_at: None };
        Ok(Answer::created(location.clone(), &MeshSpoke::from(spoke))?.etag(etag))
    };
    Ok(creation.create::<MeshHub>(request, make).await?)
}

/// Get a spoke
#[utoipa::path(
    get, path = "/admin/mesh/spokes/{id}", tag = "Mesh", operation_id = "getMeshSpoke",
    params(("id" = SpokeId, Path, description = "The spoke's id")),
    responses((
        status = 200, description = "The spoke", body = Data<MeshSpoke>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn show(
    _: Auditor,
    Path(id): Path<SpokeId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    answer(&services, &id).await
}

/// Change a spoke
///
/// Replaces what an admin writes: what is left out gets its default. The hub's server must then be
/// provisioned anew.
#[utoipa::path(
    put, path = "/admin/mesh/spokes/{id}", tag = "Mesh", operation_id = "updateMeshSpoke",
    params(("id" = SpokeId, Path, description = "The spoke's id"), IfMatch),
    request_body = MeshSpokeRequest,
    responses(
        (
            status = 200, description = "Changed", body = Data<MeshSpoke>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another spoke of the hub has the name; `overlaps`: the \
                           hub or another spoke has some of the addresses"
        ),
    )
)]
async fn update(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<SpokeId>,
    State(services): State<Arc<Services>>,
    Json(body): Json<MeshSpokeRequest>,
) -> Result<Shown, ApiError> {
    let row = find(&services, &id).await?.row;
    let version = if_match.revision(row.etag, row.revision)?;
    change_to(&services, &admin, (&row.hub_id, &id), body, version).await
}

/// Patch a spoke
///
/// Changes the fields that are named, as a JSON merge patch (RFC 7396): null gives a field its
/// default, and the rest stays as it is. The hub's server must then be provisioned anew.
#[utoipa::path(
    patch, path = "/admin/mesh/spokes/{id}", tag = "Mesh", operation_id = "patchMeshSpoke",
    params(("id" = SpokeId, Path, description = "The spoke's id"), IfMatch),
    request_body(content(
        (MeshSpokePatch = "application/json"), (MeshSpokePatch = "application/merge-patch+json")
    )),
    responses(
        (
            status = 200, description = "Changed", body = Data<MeshSpoke>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another spoke of the hub has the name; `overlaps`: the \
                           hub or another spoke has some of the addresses"
        ),
    )
)]
async fn patch(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<SpokeId>,
    State(services): State<Arc<Services>>,
    patch: MeshSpokePatch,
) -> Result<Shown, ApiError> {
    unless_overtaken(&if_match, || async {
        let spoke = find(&services, &id).await?;
        if_match.check(spoke.row.etag)?;
        let (hub_id, version) = (spoke.row.hub_id.clone(), Some(spoke.row.revision));
        let body = patch.onto(&MeshSpoke::from(spoke))?;
        change_to(&services, &admin, (&hub_id, &id), body, version).await
    })
    .await
}

async fn change_to(
    services: &Services,
    admin: &Admin,
    (hub_id, id): (&str, &SpokeId),
    body: MeshSpokeRequest,
    if_version: Option<i64>,
) -> Result<Shown, ApiError> {
    let command =
        Command::UpdateSpoke { spoke_id: id.clone(), definition: body.into(), if_version };
    let request = Request::new::<MeshHub>(hub_id, command, admin.metadata(None));
    services.bus.execute::<MeshHub>(request).await.map_err(refused)?;
    answer(services, id).await
}

/// Remove a spoke
///
/// Its certificate is revoked.
#[utoipa::path(
    delete, path = "/admin/mesh/spokes/{id}", tag = "Mesh", operation_id = "deleteMeshSpoke",
    params(("id" = SpokeId, Path, description = "The spoke's id"), IfMatch),
    responses((status = 200, description = "It is gone", body = Data<Reference>))
)]
async fn remove(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<SpokeId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    let found = mesh_hubs::find_any_spoke(&services.db, id.as_str()).await?;
    let row = found.ok_or_else(ApiError::not_found)?.row;
    if row.deleted_at.is_none() {
        let if_version = if_match.revision(row.etag, row.revision)?;
        let command = Command::RemoveSpoke { spoke_id: id.clone(), if_version };
        let request = Request::new::<MeshHub>(&row.hub_id, command, admin.metadata(None));
        services.bus.execute::<MeshHub>(request).await.map_err(refused)?;
    }
    Ok(Reference::to(id))
}

/// How a profile for a spoke's router is to be made.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct GenerateSpokeConfigRequest {
    /// A certificate signing request in PEM: the private key then never leaves the router.
    #[schema(
        example = "-----BEGIN CERTIFICATE REQUEST-----\nMIH…\n-----END CERTIFICATE REQUEST-----\n"
    )]
    csr: Option<String>,
}

/// A profile for a spoke's router.
#[derive(Serialize, ToSchema)]
struct SpokeConfig {
    /// The id of its certificate.
    #[schema(value_type = String, example = "cfg-abc123")]
    config_id: CertificateId,
    /// When that expires.
    expires_at: DateTime<Utc>,
    /// What to call the file.
    #[schema(example = "berlin.ovpn")]
    file_name: String,
    /// The `.ovpn` file. Told once, and kept nowhere.
    #[schema(example = "client\ndev tun\nproto udp\nremote hub.example.com 1194\n…\n")]
    profile: String,
}

/// Generate a spoke's config
///
/// A profile for the site's router, good for a year. The answer holds it, this once. The one that was
/// generated before is revoked.
#[utoipa::path(
    post, path = "/admin/mesh/spokes/{id}/generate-config", tag = "Mesh",
    operation_id = "generateMeshSpokeConfig",
    params(("id" = SpokeId, Path, description = "The spoke's id"), IdempotencyKey),
    request_body = GenerateSpokeConfigRequest,
    responses((
        status = 201, description = "Generated", body = Data<SpokeConfig>,
        headers(("Location" = String, description = "The spoke"))
    ))
)]
async fn generate(
    admin: Admin,
    Path(id): Path<SpokeId>,
    State(services): State<Arc<Services>>,
    Creating { body, creation }: Creating<GenerateSpokeConfigRequest>,
) -> Result<Answer, ApiError> {
    let row = find(&services, &id).await?.row;
    let hub_id: MeshHubId = row.hub_id.parse().map_err(ApiError::internal)?;
    let known = known(&services.index.read(), &hub_id, &id).ok_or_else(ApiError::not_found)?;
    let common_name = hub_name(&hub_id, id.as_str())?;
    let hub = &known.hub;
    let wanted = profiles::Wanted {
        server_id: VpnServerId::Hub(hub_id.clone()),
        host: &hub.public_endpoint,
        port: hub.port,
        transport: hub.protocol,
        crypto_profile: hub.crypto_profile,
        tls_auth_key: hub.tls_auth.then_some(&known.tls_auth_key),
        name: &known.name,
        common_name: &common_name,
        lifetime: LIFETIME,
        with_password: false,
        csr: body.csr.as_deref(),
    };
    let made = profiles::make(&services, &wanted).await?;
    let config_id: CertificateId = services.entropy.id()?;
    let subject = Subject::Spoke {
        hub_id: hub_id.clone(),
        spoke_id: id.clone(),
        common_name: common_name.clone(),
    };
    let issue = certificate::Command::Issue(made.issuance(subject));
    let install = Command::InstallSpokeCertificate {
        spoke_id: id.clone(),
        certificate_id: config_id.clone(),
    };
    let mut request = Request::new::<Certificate>(&config_id, issue, admin.metadata(None))
        .fresh()
        .also::<MeshHub>(&hub_id, install);
    if let Some(previous) = known.certificate {
        let revoke = certificate::Command::Revoke(RevocationReason::Superseded);
        request = request.also::<Certificate>(&previous, revoke);
    }
    let location = format!("/api/v1/admin/mesh/spokes/{id}");
    let make = move |_: &[Recorded]| {
        let config = SpokeConfig {
            config_id: config_id.clone(),
            expires_at: made.not_after,
            file_name: made.file_name.clone(),
            profile: made.profile.to_string(),
        };
        Answer::created(location.clone(), &config)
    };
    Ok(creation.create::<Certificate>(request, make).await?)
}

/// What is known of a spoke and its hub.
struct Known {
    hub: Configuration,
    tls_auth_key: SecretId,
    name: ResourceName,
    certificate: Option<CertificateId>,
}

fn known(index: &Index, hub_id: &MeshHubId, id: &SpokeId) -> Option<Known> {
    let hub = index.hubs.get(hub_id)?;
    let spoke = hub.spokes.get(id)?;
    Some(Known {
        hub: hub.configuration.clone(),
        tls_auth_key: hub.tls_auth_key.clone(),
        name: spoke.definition.name.clone(),
        certificate: spoke.certificate.clone(),
    })
}
