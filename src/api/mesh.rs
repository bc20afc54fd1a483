//! `/mesh`: the hubs that the caller may use, and a configuration for one.

use super::openapi::{Access, callable_by};
use super::profiles::{self, Generated};
use super::{Answer, ApiError, Creating, Filter, IdempotencyKey, List, Page};
use crate::access::{HubEntry, Reason, State as Index};
use crate::api::error::ErrorBody;
use crate::app::AppState;
use crate::auth::{Caller, Member};
use crate::event_log::Request as Command;
use crate::openvpn::hub::SEPARATOR;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::Recorded;
use gatekey_aggregates::attempt::{Denial, Event as AttemptEvent};
use gatekey_aggregates::certificate::{self, Certificate, Subject};
use gatekey_aggregates::values::{CertificateId, CommonName, MeshHubId, VpnServerId, from_micros};
use gatekey_projections::mesh_hubs;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let routes = OpenApiRouter::new().routes(routes!(list)).routes(routes!(generate));
    callable_by(Access::Member, routes)
}

/// Whether a hub can be there. It has no agent that would tell whether it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum HubStatus {
    /// It has a server certificate that is good.
    Provisioned,
    /// It has none yet, or no longer.
    Pending,
}

impl HubStatus {
    /// How a hub stands `now`.
    pub fn of(hub: &mesh_hubs::MeshHub, now: DateTime<Utc>) -> Self {
        match hub.certificate_expires_at.map(from_micros) {
            Some(until) if now < until => Self::Provisioned,
            _ => Self::Pending,
        }
    }
}

/// The common name of somebody or something at a hub: the hub's id and theirs. The hub's server lets in
/// no other, and no other server lets it in.
pub fn hub_name(hub_id: &MeshHubId, id: &str) -> Result<CommonName, ApiError> {
    format!("{hub_id}{SEPARATOR}{id}").parse().map_err(ApiError::internal)
}

/// A mesh hub that the caller may use.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct AvailableMeshHub {
    /// Its id.
    #[schema(example = "hub-01k9x3")]
    id: String,
    /// Its name.
    #[schema(example = "europe")]
    name: String,
    /// Free text.
    #[schema(example = "The hub in Frankfurt")]
    description: String,
    /// Where clients find it.
    #[schema(example = "hub.example.com")]
    public_endpoint: String,
    /// Its port.
    #[schema(example = 1194)]
    port: i64,
    /// `udp` or `tcp`.
    #[schema(example = "udp")]
    protocol: String,
    /// Whether it can be there.
    status: HubStatus,
    /// What can be reached through it, in CIDR notation: its own networks, those that are attached to
    /// it, and those of its spokes.
    #[schema(example = json!(["10.1.0.0/16", "10.20.0.0/16"]))]
    networks: Vec<String>,
}

impl AvailableMeshHub {
    fn of(hub: mesh_hubs::MeshHub, now: DateTime<Utc>, index: &Index) -> Self {
        let status = HubStatus::of(&hub, now);
        let row = hub.row;
        let entry = row.id.parse().ok().and_then(|id: MeshHubId| index.hubs.get(&id));
        Self {
            networks: entry.map(|entry| networks(entry, index)).unwrap_or_default(),
            id: row.id,
            name: row.name,
            description: row.description,
            public_endpoint: row.public_endpoint,
            port: row.port,
            protocol: row.protocol,
            status,
        }
    }
}

/// What can be reached through a hub, in order.
fn networks(hub: &HubEntry, index: &Index) -> Vec<String> {
    let attached = hub.networks.iter().filter_map(|id| index.networks.get(id));
    let of_spokes = hub.spokes.values().flat_map(|spoke| &spoke.definition.local_networks);
    let mut networks: Vec<_> = hub
        .configuration
        .local_networks
        .iter()
        .chain(of_spokes)
        .copied()
        .chain(attached.map(|network| network.cidr))
        .collect();
    networks.sort();
    networks.dedup();
    networks.iter().map(ToString::to_string).collect()
}

#[derive(Deserialize, IntoParams)]
struct Available {}

impl Filter for Available {
    const SORT: &'static [&'static str] = mesh_hubs::SORT;
    const SEARCH: bool = true;
}

/// List available mesh hubs
///
/// Those that you may use, by yourself or as a member of a group. `q` looks at name, description and
/// public endpoint.
#[utoipa::path(
    get, path = "/mesh/hubs", tag = "Mesh", operation_id = "listAvailableMeshHubs",
    params(List<Available>),
    responses((status = 200, description = "A page of them", body = Page<AvailableMeshHub>))
)]
async fn list(
    caller: Member,
    list: List<Available>,
    State(services): State<Arc<Services>>,
) -> Result<Page<AvailableMeshHub>, ApiError> {
    let filter = mesh_hubs::Filter {
        granted_to: Some(caller.user_id.to_string()),
        ..mesh_hubs::Filter::default()
    };
    let listed = mesh_hubs::list(&services.db, &list.wanted()?, &filter).await?;
    let now = services.clock.now();
    let index = services.index.read();
    Ok(Page::listed(listed.map(|it| AvailableMeshHub::of(it, now, &index)), list.paging))
}

/// Which configuration is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct GenerateMeshConfigRequest {
    /// For which hub.
    #[schema(example = "hub-01k9x3")]
    hub_id: String,
    /// A certificate signing request in PEM: the private key then never leaves your device.
    #[schema(
        example = "-----BEGIN CERTIFICATE REQUEST-----\nMIH…\n-----END CERTIFICATE REQUEST-----\n"
    )]
    csr: Option<String>,
}

/// Generate a mesh config
///
/// Issues a client certificate for one mesh hub and wraps it in an `.ovpn` profile. It expires after
/// the configured time (24 hours by default), and is revoked as soon as you may no longer use the hub.
#[utoipa::path(
    post, path = "/mesh/generate-config", tag = "Mesh", operation_id = "generateMeshConfig",
    params(IdempotencyKey),
    request_body = GenerateMeshConfigRequest,
    responses(
        (
            status = 201, description = "Generated", body = Generated,
            headers(("Location" = String, description = "Where it is found"))
        ),
        (status = 403, description = "You may not use this hub", body = ErrorBody),
        (status = 404, description = "No such hub", body = ErrorBody),
    ),
)]
async fn generate(
    caller: Member,
    State(services): State<Arc<Services>>,
    Creating { body, creation }: Creating<GenerateMeshConfigRequest>,
) -> Result<Answer, ApiError> {
    let hub_id: MeshHubId = body.hub_id.parse().map_err(|_| ApiError::not_found())?;
    let (hub, hours) = may_use(&services, &caller, &hub_id)?;
    let configuration = &hub.configuration;
    let common_name = hub_name(&hub_id, caller.user_id.as_str())?;
    let wanted = profiles::Wanted {
        server_id: VpnServerId::Hub(hub_id.clone()),
        host: &configuration.public_endpoint,
        port: configuration.port,
        transport: configuration.protocol,
        crypto_profile: configuration.crypto_profile,
        tls_auth_key: configuration.tls_auth.then_some(&hub.tls_auth_key),
        name: &configuration.name,
        common_name: &common_name,
        lifetime: TimeDelta::hours(hours.into()),
        with_password: false,
        csr: body.csr.as_deref(),
    };
    let made = profiles::make(&services, &wanted).await?;
    let secret = made.seal(&services)?;
    let id: CertificateId = services.entropy.id()?;
    let issuance = made.issuance(Subject::HubClient {
        user_id: caller.user_id.clone(),
        hub_id,
        common_name: common_name.clone(),
        bundle: secret.id.clone(),
    });
    let command = certificate::Command::Issue(issuance);
    let request = Command::new::<Certificate>(&id, command, caller.metadata(None))
        .fresh()
        .with_secret(secret);
    let (location, generated) = (format!("/api/v1/configs/{id}"), made.answer(id));
    let make = move |_: &[Recorded]| Answer::flat(location.clone(), &generated);
    Ok(creation.create::<Certificate>(request, make).await?)
}

/// The hub, if this person may use it, and how many hours a configuration lasts.
fn may_use(
    services: &Services,
    caller: &Caller,
    hub_id: &MeshHubId,
) -> Result<(HubEntry, u32), ApiError> {
    let index = services.index.read();
    let hub = index.hubs.get(hub_id).ok_or_else(ApiError::not_found)?;
    let user = index.users.get(&caller.user_id).ok_or_else(ApiError::unauthorized)?;
    if let Err(reason) = hub.check_user(&caller.user_id, user) {
        let denial = Denial {
            user_id: Some(caller.user_id.clone()),
            hub_id: Some(hub_id.clone()),
            ..Denial::new(reason.code())
        };
        services.attempts.record(AttemptEvent::ConfigDenied, denial, caller.metadata(None));
        let message = match reason {
            Reason::NotGranted => "You have no access to this hub; ask your administrator.",
            other => other.message(),
        };
        return Err(ApiError::forbidden_as("access_denied", message));
    }
    Ok((hub.clone(), index.settings.config_lifetime_hours))
}
