//! `POST /admin/mesh/hubs/{id}/provision`: an admin fetches what a hub's OpenVPN server needs.

use crate::access::State as Index;
use crate::api::mesh::hub_name;
use crate::api::server_certificate::{self, Bundle, renewal_due};
use crate::api::{ApiError, Data, Path};
use crate::app::AppState;
use crate::auth::Admin;
use crate::config::{Config, PublicUrl};
use crate::event_log::Request;
use crate::openvpn::{HubServer, Site};
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::Metadata;
use gatekey_aggregates::certificate::{self, Certificate};
use gatekey_aggregates::mesh_hub::{Command, MeshHub};
use gatekey_aggregates::values::{CertificateId, MeshHubId, SecretId, VpnServerId};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long a hub's certificate lasts. It has no agent that would fetch another every few weeks.
const LIFETIME: TimeDelta = TimeDelta::days(365);

/// What admins change.
pub fn change() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(provision))
}

/// What a hub's OpenVPN server needs. The files lie together in one directory, and OpenVPN is started
/// there: `openvpn --cd DIRECTORY --config server.conf`.
#[derive(Serialize, ToSchema)]
struct HubProvision {
    /// Which hub it is: also the server certificate's common name.
    #[schema(value_type = String, example = "hub-01k9x3")]
    hub_id: MeshHubId,
    /// Its name.
    #[schema(example = "europe")]
    hub_name: String,
    /// `server.conf`.
    #[schema(example = "port 1194\nproto udp\ndev tun\n…\n")]
    server_conf: String,
    /// `ccd/`: the content of each file by its name, one for each spoke.
    #[schema(example = json!({"hub-01k9x3.spoke-01k9x3": "iroute 10.20.0.0 255.255.0.0\n"}))]
    client_config_dir: BTreeMap<String, String>,
    /// `ca.crt`: the authority's certificate, PEM.
    #[schema(example = "-----BEGIN CERTIFICATE-----\nMIIB…\n-----END CERTIFICATE-----\n")]
    ca_cert: String,
    /// `server.crt`: the server's certificate, PEM.
    #[schema(example = "-----BEGIN CERTIFICATE-----\nMIIB…\n-----END CERTIFICATE-----\n")]
    server_cert: String,
    /// `server.key`: its key, PKCS #8 PEM.
    #[schema(example = "-----BEGIN PRIVATE KEY-----\nMIG…\n-----END PRIVATE KEY-----\n")]
    server_key: String,
    /// `ta.key`: OpenVPN's `tls-auth` key, where it is used.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "-----BEGIN OpenVPN Static key V1-----\n…\n-----END OpenVPN Static key V1-----\n"
    )]
    tls_auth_key: Option<String>,
    /// Where `crl.pem` is fetched from. Fetch it every few minutes: who was revoked gets in until then;
    /// after a week without, nobody does. A path, where this server has no public URL.
    #[schema(example = "https://vpn.example.com/api/v1/pki/crl.pem")]
    crl_url: String,
    /// When the server's certificate expires. From two thirds of its life on, this gives another.
    certificate_expires_at: DateTime<Utc>,
}

/// Provision a mesh hub
///
/// Everything the hub's OpenVPN server needs, as files. Asked again, it gives the same certificate, until
/// two thirds of its life are over; the rest is as the hub and its spokes stand now.
#[utoipa::path(
    post, path = "/admin/mesh/hubs/{id}/provision", tag = "Mesh", operation_id = "provisionMeshHub",
    params(("id" = MeshHubId, Path, description = "The hub's id")),
    responses((status = 200, description = "Provisioned", body = Data<HubProvision>))
)]
async fn provision(
    admin: Admin,
    Path(id): Path<MeshHubId>,
    State(app): State<AppState>,
) -> Result<Data<HubProvision>, ApiError> {
    let services = &app.services;
    // Two calls at once must not make two certificates.
    let _one_at_a_time = app.provisioning.lock().await;
    services.index.read().hubs.get(&id).ok_or_else(ApiError::not_found)?;
    let current = current(services, &id);
    let (bundle, certificate_expires_at) = match current {
        Some((secret, until)) => (server_certificate::open(services, &secret).await?, until),
        None => issue(services, &id, admin.metadata(None)).await?,
    };
    let (name, server, tls_auth_key) = {
        let index = services.index.read();
        let hub = index.hubs.get(&id).ok_or_else(ApiError::not_found)?;
        let name = hub.configuration.name.to_string();
        (name, hub_server(&index, &id)?, hub.tls_auth_key.clone())
    };
    let tls_auth_key = if server.tls_auth {
        let key = services.vault.open(&tls_auth_key).await?;
        Some(String::from_utf8(key.to_vec()).map_err(ApiError::internal)?)
    } else {
        None
    };
    let data = HubProvision {
        hub_id: id,
        hub_name: name,
        server_conf: server.server_conf(),
        client_config_dir: server.client_config_dir(),
        ca_cert: services.issuer.certificate_pem().to_owned(),
        server_cert: bundle.certificate,
        server_key: bundle.key,
        tls_auth_key,
        crl_url: crl_url(&app.config),
        certificate_expires_at,
    };
    Ok(Data { data })
}

/// What the hub's server is configured from, as things stand.
fn hub_server(index: &Index, id: &MeshHubId) -> Result<HubServer, ApiError> {
    let hub = index.hubs.get(id).ok_or_else(ApiError::not_found)?;
    let it = &hub.configuration;
    let attached = hub.networks.iter().filter_map(|id| index.networks.get(id));
    let mut sites = Vec::with_capacity(hub.spokes.len());
    for (spoke_id, spoke) in &hub.spokes {
        let networks = spoke.definition.local_networks.clone();
        sites.push(Site { common_name: hub_name(id, spoke_id.as_str())?, networks });
    }
    Ok(HubServer {
        hub_id: id.clone(),
        port: it.port,
        transport: it.protocol,
        vpn_subnet: it.vpn_subnet,
        crypto_profile: it.crypto_profile,
        tls_auth: it.tls_auth,
        networks: it.local_networks.iter().copied().chain(attached.map(|it| it.cidr)).collect(),
        sites,
    })
}

/// Where the hub's certificate is kept and until when it is good, while it is not due for renewal.
fn current(services: &Services, id: &MeshHubId) -> Option<(SecretId, DateTime<Utc>)> {
    let now = services.clock.now();
    let index = services.index.read();
    let certificate = index.certificate(index.hubs.get(id)?.server_certificate.as_ref()?)?;
    let bundle = certificate.subject.bundle().filter(|_| !renewal_due(certificate, now));
    Some((bundle?.clone(), certificate.not_after))
}

async fn issue(
    services: &Services,
    hub_id: &MeshHubId,
    metadata: Metadata,
) -> Result<(Bundle, DateTime<Utc>), ApiError> {
    let made = server_certificate::make(services, &VpnServerId::Hub(hub_id.clone()), LIFETIME)?;
    let not_after = made.issuance.not_after;
    let id: CertificateId = services.entropy.id()?;
    let command = certificate::Command::Issue(made.issuance);
    let request = Request::new::<Certificate>(&id, command, metadata)
        .fresh()
        .also::<MeshHub>(hub_id, Command::InstallServerCertificate(id.clone()))
        .with_secret(made.secret);
    services.bus.execute::<Certificate>(request).await?;
    Ok((made.bundle, not_after))
}

fn crl_url(config: &Config) -> String {
    let origin = config.public_url.as_ref().map_or("", PublicUrl::origin);
    format!("{origin}/api/v1/pki/crl.pem")
}
