//! `POST /gateway/provision`: an agent fetches what its OpenVPN server needs.

use super::call::{AgentCall, AgentRequest};
use crate::api::server_certificate::{self, Bundle, renewal_due};
use crate::api::{ApiError, Json};
use crate::app::AppState;
use crate::event_log::Request as Command;
use axum::extract::State;
use chrono::TimeDelta;
use gatekey_aggregates::Metadata;
use gatekey_aggregates::certificate::{self, Certificate, Subject};
use gatekey_aggregates::gateway::{self, Gateway};
use gatekey_aggregates::values::{
    CertificateId, CryptoProfile, GatewayId, RevocationReason, SecretId, Transport, VpnServerId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How long a server certificate lasts.
const LIFETIME: TimeDelta = TimeDelta::days(90);
/// How often it is looked anew when an admin asks for another certificate meanwhile.
const TRIES: usize = 3;

/// An agent that wants to be provisioned.
#[derive(Deserialize, ToSchema)]
#[schema(as = ProvisionRequest)]
pub struct Request {
    /// The gateway's token, unless it is in `X-Gateway-Token`.
    #[schema(example = "9nRtjr4WzqjbB3Tn0wqWmCqRr4i2zrQ5LZcVgrm9T8Y")]
    token: Option<String>,
}

impl AgentRequest for Request {
    fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }
}

/// What an OpenVPN server needs.
#[derive(Serialize, ToSchema)]
#[schema(as = ProvisionAnswer)]
pub struct Answer {
    /// Which gateway it is: also the server certificate's common name.
    #[schema(value_type = String, example = "gw-001")]
    gateway_id: GatewayId,
    /// Its name.
    #[schema(example = "us-east-1")]
    gateway_name: String,
    /// The authority's certificate, PEM.
    #[schema(example = "-----BEGIN CERTIFICATE-----\nMIIB…\n-----END CERTIFICATE-----\n")]
    ca_cert: String,
    /// The server's certificate, PEM.
    #[schema(example = "-----BEGIN CERTIFICATE-----\nMIIB…\n-----END CERTIFICATE-----\n")]
    server_cert: String,
    /// The server's key, PKCS #8 PEM.
    #[schema(example = "-----BEGIN PRIVATE KEY-----\nMIG…\n-----END PRIVATE KEY-----\n")]
    server_key: String,
    /// OpenVPN's `server`, as a CIDR.
    #[schema(example = "172.31.255.0/24")]
    vpn_subnet: String,
    /// OpenVPN's `server`: the network.
    #[schema(example = "172.31.255.0")]
    vpn_network: String,
    /// OpenVPN's `server`: the mask.
    #[schema(example = "255.255.255.0")]
    vpn_netmask: String,
    /// OpenVPN's `port`.
    #[schema(example = 1194)]
    vpn_port: u16,
    /// OpenVPN's `proto`.
    vpn_protocol: Transport,
    /// Ciphers and digests.
    crypto_profile: CryptoProfile,
    /// Whether to use `tls_auth_key`.
    tls_auth_enabled: bool,
    /// OpenVPN's `tls-auth` key.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(
        example = "-----BEGIN OpenVPN Static key V1-----\n…\n-----END OpenVPN Static key V1-----\n"
    )]
    tls_auth_key: Option<String>,
    /// The version of all this, to be sent in heartbeats.
    #[schema(example = "3f2a9c41d07be856")]
    config_version: String,
}

/// Get server certificates
///
/// Everything the gateway's OpenVPN server needs. Asked again, it gives the same certificate and key,
/// until two thirds of the certificate's life are over, or it was revoked, or an admin had the gateway
/// reprovision: then there is another one, with another key.
#[utoipa::path(
    post, path = "/gateway/provision", tag = "Gateway", operation_id = "provisionGateway",
    request_body = Request,
    responses(
        (status = 200, description = "Provisioned", body = Answer),
    ),
)]
pub async fn provision(
    State(app): State<AppState>,
    call: AgentCall<Request>,
) -> Result<Json<Answer>, ApiError> {
    let AgentCall { gateway_id, gateway_name, metadata, .. } = call;
    let gone = || ApiError::unauthorized_as("invalid_gateway_token", "Unknown gateway token");
    // Two calls at once must not make two certificates.
    let _one_at_a_time = app.provisioning.lock().await;
    let mut provisioned = None;
    for _ in 0..TRIES {
        let (certificate_id, bundle) = match current(&app, &gateway_id) {
            Some((id, secret)) => (id, server_certificate::open(&app.services, &secret).await?),
            None => issue(&app, &gateway_id, metadata.clone()).await?,
        };
        let entry = app.services.index.read().gateways.get(&gateway_id).cloned();
        let entry = entry.ok_or_else(gone)?;
        // An agent with the version of a certificate that it has not would never fetch it.
        if entry.server_certificate == Some(certificate_id) {
            provisioned = Some((bundle, entry));
            break;
        }
    }
    let (bundle, entry) = provisioned
        .ok_or_else(|| ApiError::unavailable("The gateway is being changed: try again"))?;
    let configuration = entry.configuration;
    let tls_auth_key = if configuration.tls_auth {
        let key = app.services.vault.open(&entry.tls_auth_key).await.map_err(ApiError::from)?;
        Some(String::from_utf8(key.to_vec()).map_err(ApiError::internal)?)
    } else {
        None
    };
    Ok(Json(Answer {
        gateway_id,
        gateway_name: gateway_name.to_string(),
        ca_cert: app.services.issuer.certificate_pem().to_owned(),
        server_cert: bundle.certificate,
        server_key: bundle.key,
        vpn_subnet: configuration.vpn_subnet.to_string(),
        vpn_network: configuration.vpn_subnet.network().to_string(),
        vpn_netmask: configuration.vpn_subnet.netmask().to_string(),
        vpn_port: configuration.port,
        vpn_protocol: configuration.protocol,
        crypto_profile: configuration.crypto_profile,
        tls_auth_enabled: configuration.tls_auth,
        tls_auth_key,
        config_version: entry.config_version,
    }))
}

/// The gateway's certificate and where it is kept, while it is good and not due for renewal.
fn current(app: &AppState, gateway_id: &GatewayId) -> Option<(CertificateId, SecretId)> {
    let now = app.services.clock.now();
    let state = app.services.index.read();
    let id = state.gateways.get(gateway_id)?.server_certificate.as_ref()?;
    let certificate = state.certificate(id).filter(|it| !renewal_due(it, now))?;
    Some((id.clone(), certificate.subject.bundle()?.clone()))
}

/// Those that a reprovision has left behind: whoever has their keys must not pass for the gateway
/// any more. What was merely renewed still serves until the agent has the new one, and expires soon.
fn left_behind(app: &AppState, gateway_id: &GatewayId) -> Vec<CertificateId> {
    let now = app.services.clock.now();
    let state = app.services.index.read();
    if state.gateways.get(gateway_id).is_none_or(|it| it.server_certificate.is_some()) {
        return Vec::new();
    }
    let is_its = |subject: &Subject| matches!(subject, Subject::Server { gateway_id: of, .. } if of == gateway_id);
    state
        .certificates
        .values()
        .filter(|it| it.revoked.is_none() && it.not_after > now && is_its(&it.subject))
        .map(|it| it.id.clone())
        .collect()
}

async fn issue(
    app: &AppState,
    gateway_id: &GatewayId,
    metadata: Metadata,
) -> Result<(CertificateId, Bundle), ApiError> {
    let services = &app.services;
    let server = VpnServerId::Gateway(gateway_id.clone());
    let made = server_certificate::make(services, &server, LIFETIME)?;
    let id: CertificateId = services.entropy.id()?;
    let command = certificate::Command::Issue(made.issuance);
    let request = Command::new::<Certificate>(&id, command, metadata)
        .fresh()
        .also::<Gateway>(gateway_id, gateway::Command::InstallServerCertificate(id.clone()))
        .with_secret(made.secret);
    let revoke = certificate::Command::Revoke(RevocationReason::Superseded);
    let request = left_behind(app, gateway_id)
        .into_iter()
        .fold(request, |request, old| request.also::<Certificate>(old, revoke.clone()));
    services.bus.execute::<Certificate>(request).await?;
    Ok((id, made.bundle))
}
