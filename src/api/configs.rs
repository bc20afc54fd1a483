//! `/configs`: a person's VPN configurations: generated, listed, downloaded, revoked.

use super::pki::{Revocation, RevokeReason, revoke_certificate};
use super::profiles::{self, Bundle, Generated};
use crate::access::check_user;
use crate::api::error::ErrorBody;
use crate::api::{
    Answer, ApiError, Creating, Data, Filter, IdempotencyKey, Json, List, Page, Path,
};
use crate::app::AppState;
use crate::auth::{Admin, Auditor, Caller, Member};
use crate::event_log::Request as Command;
use crate::services::Services;
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::attempt::{Denial, Event as AttemptEvent};
use gatekey_aggregates::certificate::{self, Certificate, Subject};
use gatekey_aggregates::gateway::Configuration;
use gatekey_aggregates::values::{
    CertificateId, CommonName, Email, GatewayId, MeshHubId, SecretId, Serial, UserId, VpnServerId,
    from_micros, micros,
};
use gatekey_aggregates::{PersonId, Personal, Recorded};
use gatekey_projections::certificates::{self, Certificate as Row, Status};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The only protocol that gateways speak.
const OPENVPN: &str = "openvpn";

/// Which configuration is wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = GenerateConfigRequest)]
pub struct GenerateRequest {
    /// For which gateway.
    #[schema(example = "gw-001")]
    gateway_id: String,
    /// `openvpn`, the only one so far.
    #[serde(default = "openvpn")]
    #[schema(example = "openvpn")]
    protocol: String,
    /// A certificate signing request in PEM: the private key then never leaves your device.
    #[schema(
        example = "-----BEGIN CERTIFICATE REQUEST-----\nMIH…\n-----END CERTIFICATE REQUEST-----\n"
    )]
    csr: Option<String>,
}

/// What members use.
pub fn member_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(generate))
        .routes(routes!(list))
        .routes(routes!(get))
        .routes(routes!(download))
        .routes(routes!(revoke))
}

/// What auditors and admins read.
pub fn auditor_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(admin_list))
}

/// What admins change.
pub fn admin_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(admin_revoke))
}

fn openvpn() -> String {
    OPENVPN.to_owned()
}

/// Generate VPN config
///
/// Issues a client certificate for one gateway and wraps it in an `.ovpn` profile with a password of
/// its own. It expires after the configured time (24 hours by default).
#[utoipa::path(
    post, path = "/configs/generate", tag = "Configs", operation_id = "generateConfig",
    params(IdempotencyKey),
    request_body = GenerateRequest,
    responses(
        (
            status = 201, description = "Generated", body = Generated,
            headers(("Location" = String, description = "Where it is found"))
        ),
        (status = 403, description = "You may not use this gateway", body = ErrorBody),
        (status = 404, description = "No such gateway", body = ErrorBody),
    ),
)]
pub async fn generate(
    State(services): State<Arc<Services>>,
    caller: Member,
    Creating { body, creation }: Creating<GenerateRequest>,
) -> Result<Answer, ApiError> {
    if body.protocol != OPENVPN {
        return Err(
            ApiError::invalid_field("protocol", "must be `openvpn`").code("unsupported_protocol")
        );
    }
    let gateway_id: GatewayId = body.gateway_id.parse().map_err(|_| ApiError::not_found())?;
    let granted = may_use(&services, &caller, &gateway_id)?;
    let configuration = &granted.configuration;
    let wanted = profiles::Wanted {
        server_id: VpnServerId::Gateway(gateway_id.clone()),
        host: &configuration.hostname,
        port: configuration.port,
        transport: configuration.protocol,
        crypto_profile: configuration.crypto_profile,
        tls_auth_key: granted.tls_auth_key.as_ref(),
        name: &configuration.name,
        common_name: &granted.common_name,
        lifetime: TimeDelta::hours(granted.lifetime_hours.into()),
        with_password: true,
        csr: body.csr.as_deref(),
    };
    let made = profiles::make(&services, &wanted).await?;
    let secret = made.seal(&services)?;
    let id: CertificateId = services.entropy.id()?;
    let token_hash = made.token_hash.clone();
    let issuance = made.issuance(Subject::Client {
        user_id: caller.user_id.clone(),
        gateway_id,
        common_name: Personal::new(PersonId::user(&caller.user_id), granted.common_name),
        token_hash: token_hash.ok_or_else(|| ApiError::internal("a profile has no password"))?,
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

/// What a granted person's configuration is made from.
struct Granted {
    configuration: Configuration,
    tls_auth_key: Option<SecretId>,
    common_name: CommonName,
    lifetime_hours: u32,
}

/// The first of the three checks: may this person use this gateway at all?
fn may_use(
    services: &Services,
    caller: &Caller,
    gateway_id: &GatewayId,
) -> Result<Granted, ApiError> {
    let state = services.index.read();
    let gateway = state.gateways.get(gateway_id).ok_or_else(ApiError::not_found)?;
    let user = state.users.get(&caller.user_id).ok_or_else(ApiError::unauthorized)?;
    let checked = if gateway.configuration.active {
        check_user(gateway, &caller.user_id, user)
    } else {
        Err(crate::access::Reason::GatewayInactive)
    };
    if let Err(reason) = checked {
        let denial = Denial {
            gateway_id: Some(gateway_id.clone()),
            user_id: Some(caller.user_id.clone()),
            ..Denial::new(reason.code())
        };
        services.attempts.record(AttemptEvent::ConfigDenied, denial, caller.metadata(None));
        return Err(ApiError::forbidden_as("access_denied", reason.message()));
    }
    Ok(Granted {
        configuration: gateway.configuration.clone(),
        tls_auth_key: gateway.configuration.tls_auth.then(|| gateway.tls_auth_key.clone()),
        common_name: common_name(&caller.user_id, user.profile.email.open()),
        lifetime_hours: state.settings.config_lifetime_hours,
    })
}

/// A person's e-mail address where a certificate can hold it, else their id.
fn common_name(user_id: &UserId, email: Option<&Email>) -> CommonName {
    let named = email.and_then(|email| email.as_str().parse().ok());
    match named.or_else(|| user_id.as_str().parse().ok()) {
        Some(name) => name,
        None => unreachable!("an id is a common name"),
    }
}

/// Download a config
///
/// The `.ovpn` file, for its owner, until it expires or is revoked.
#[utoipa::path(
    get, path = "/configs/download/{id}", tag = "Configs", operation_id = "downloadConfig",
    params(("id" = CertificateId, Path, description = "The config's id")),
    responses(
        (
            status = 200, description = "The profile",
            content_type = "application/x-openvpn-profile", body = String,
            example = json!("client\nremote vpn.example.com 1194\n…\n")
        ),
        (status = 404, description = "No such config of yours, or it has expired", body = ErrorBody),
    ),
)]
pub async fn download(
    State(services): State<Arc<Services>>,
    caller: Member,
    Path(id): Path<CertificateId>,
) -> Result<Response, ApiError> {
    let bundle = {
        let state = services.index.read();
        let certificate = state.certificate(&id).ok_or_else(ApiError::not_found)?;
        let is_good = certificate.revoked.is_none() && services.clock.now() < certificate.not_after;
        let is_theirs = certificate.subject.user_id() == Some(&caller.user_id);
        let bundle = certificate.subject.bundle().filter(|_| is_good && is_theirs);
        bundle.cloned().ok_or_else(ApiError::not_found)?
    };
    let plain = services.vault.open(&bundle).await?;
    let bundle: Bundle = serde_json::from_slice(&plain).map_err(ApiError::internal)?;
    Ok((
        [
            (header::CONTENT_TYPE, "application/x-openvpn-profile".to_owned()),
            (
                header::CONTENT_DISPOSITION,
                // The name is made of letters that need no quoting.
                format!("attachment; filename=\"{}\"", bundle.file_name),
            ),
            (header::CACHE_CONTROL, "no-store".to_owned()),
        ],
        bundle.profile,
    )
        .into_response())
}

/// A VPN configuration, without its secrets.
#[derive(Serialize, ToSchema)]
pub struct Config {
    /// Its id.
    #[schema(example = "cfg-abc123")]
    id: String,
    /// `active`, `revoked` or `expired`.
    #[schema(value_type = String, example = "active")]
    status: &'static str,
    /// Whose it is.
    user: Owner,
    /// The gateway it is for, unless it is for a mesh hub.
    #[serde(skip_serializing_if = "Option::is_none")]
    gateway: Option<AtGateway>,
    /// The mesh hub it is for, unless it is for a gateway.
    #[serde(skip_serializing_if = "Option::is_none")]
    hub: Option<AtHub>,
    /// The certificate's serial, in hex.
    #[schema(example = "5a0f3c")]
    serial: String,
    /// The certificate's common name.
    #[schema(example = "ada@example.com")]
    common_name: Option<String>,
    /// SHA-256 of the certificate, in hex.
    #[schema(example = "b5bb9d8014a0f9b1d61e21e796d78dccdf1352f23cd32812f4850b878ae4944c")]
    fingerprint: String,
    /// When it was generated.
    created_at: DateTime<Utc>,
    /// When it expires.
    expires_at: DateTime<Utc>,
    /// When it was revoked.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<DateTime<Utc>>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "key_compromise")]
    revocation_reason: Option<String>,
    /// Where to fetch it, while it can be fetched.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "/api/v1/configs/download/cfg-abc123")]
    download_url: Option<String>,
}

/// Whose a configuration is.
#[derive(Serialize, ToSchema)]
#[schema(as = ConfigOwner)]
pub struct Owner {
    /// Their id.
    #[schema(example = "usr-01k9x3")]
    id: String,
    /// Their e-mail address.
    #[schema(example = "ada@example.com")]
    email: Option<String>,
}

/// The gateway that a configuration is for.
#[derive(Serialize, ToSchema)]
#[schema(as = ConfigGateway)]
pub struct AtGateway {
    /// Its id.
    #[schema(example = "gw-001")]
    id: String,
    /// Its name.
    #[schema(example = "us-east-1")]
    name: Option<String>,
}

/// The mesh hub that a configuration is for.
#[derive(Serialize, ToSchema)]
#[schema(as = ConfigHub)]
pub struct AtHub {
    /// Its id.
    #[schema(example = "hub-01k9x3")]
    id: String,
    /// Its name.
    #[schema(example = "europe")]
    name: Option<String>,
}

impl Config {
    /// As it stands `now`.
    pub fn of(it: Row, now: DateTime<Utc>) -> Self {
        let row = it.row;
        let expires_at = from_micros(row.not_after);
        let status = match row.revoked_at {
            Some(_) => "revoked",
            None if now >= expires_at => "expired",
            None => "active",
        };
        Self {
            download_url: (status == "active")
                .then(|| format!("/api/v1/configs/download/{}", row.id)),
            id: row.id,
            status,
            user: Owner { id: row.user_id.unwrap_or_default(), email: it.email },
            gateway: row.gateway_id.map(|id| AtGateway { id, name: it.gateway_name }),
            hub: row.hub_id.map(|id| AtHub { id, name: it.hub_name }),
            serial: row.serial,
            common_name: row.common_name,
            fingerprint: row.fingerprint,
            created_at: from_micros(row.issued_at),
            expires_at,
            revoked_at: row.revoked_at.map(from_micros),
            revocation_reason: row.reason,
        }
    }
}

impl Config {
    /// As others than its owner see it: they can't fetch it.
    pub fn without_download(self) -> Self {
        Self { download_url: None, ..self }
    }
}

/// How a configuration stands.
#[derive(Clone, Copy, Debug, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ConfigStatus {
    /// Neither revoked nor expired.
    Active,
    /// Taken back.
    Revoked,
    /// Past its end.
    Expired,
}

impl From<ConfigStatus> for Status {
    fn from(status: ConfigStatus) -> Self {
        match status {
            ConfigStatus::Active => Self::Active,
            ConfigStatus::Revoked => Self::Revoked,
            ConfigStatus::Expired => Self::Expired,
        }
    }
}

/// Which of one's own are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct OwnFilter {
    /// Those that stand so.
    #[param(inline)]
    status: Option<ConfigStatus>,
    /// Those for this gateway.
    #[param(value_type = Option<String>)]
    gateway: Option<GatewayId>,
    /// Those for this mesh hub.
    #[param(value_type = Option<String>)]
    hub: Option<MeshHubId>,
}

impl Filter for OwnFilter {
    const SORT: &'static [&'static str] = certificates::SORT;
    const SEARCH: bool = true;
    const CURSOR: bool = true;
}

/// Which of all are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct AdminFilter {
    /// Those that stand so.
    #[param(inline)]
    status: Option<ConfigStatus>,
    /// Those for this gateway.
    #[param(value_type = Option<String>)]
    gateway: Option<GatewayId>,
    /// Those for this mesh hub.
    #[param(value_type = Option<String>)]
    hub: Option<MeshHubId>,
    /// Those of this user.
    #[param(value_type = Option<String>)]
    user: Option<UserId>,
    /// The one whose certificate has this serial: hex, with or without colons.
    #[param(value_type = Option<String>)]
    serial: Option<Serial>,
    /// Those issued at this time or later.
    issued_since: Option<DateTime<Utc>>,
    /// Those issued before this time.
    issued_until: Option<DateTime<Utc>>,
    /// Those that expire at this time or later.
    expires_since: Option<DateTime<Utc>>,
    /// Those that expire before this time.
    expires_until: Option<DateTime<Utc>>,
}

impl Filter for AdminFilter {
    const SORT: &'static [&'static str] = certificates::SORT;
    const SEARCH: bool = true;
    const CURSOR: bool = true;
}

/// List your VPN configs
///
/// The newest first.
#[utoipa::path(
    get, path = "/configs", tag = "Configs", operation_id = "listConfigs",
    params(List<OwnFilter>),
    responses((status = 200, description = "A page of them", body = Page<Config>))
)]
pub async fn list(
    State(services): State<Arc<Services>>,
    caller: Member,
    list: List<OwnFilter>,
) -> Result<Page<Config>, ApiError> {
    let now = services.clock.now();
    let filter = certificates::Filter {
        user_id: Some(caller.user_id.to_string()),
        gateway_id: list.filter.gateway.as_ref().map(ToString::to_string),
        hub_id: list.filter.hub.as_ref().map(ToString::to_string),
        status: list.filter.status.map(|status| (status.into(), now)),
        ..certificates::Filter::default()
    };
    let listed = certificates::configs(&services.db, &list.wanted()?, &filter).await?;
    Ok(Page::listed(listed.map(|row| Config::of(row, now)), list.paging))
}

/// Get one of your VPN configs
#[utoipa::path(
    get, path = "/configs/{id}", tag = "Configs", operation_id = "getConfig",
    params(("id" = CertificateId, Path, description = "The config's id")),
    responses((status = 200, description = "The config", body = Data<Config>))
)]
pub async fn get(
    State(services): State<Arc<Services>>,
    caller: Member,
    Path(id): Path<CertificateId>,
) -> Result<Data<Config>, ApiError> {
    let row = own(&services, &caller, &id).await?;
    Ok(Data { data: Config::of(row, services.clock.now()) })
}

/// A configuration of the caller's; another's is as good as none.
async fn own(services: &Services, caller: &Caller, id: &CertificateId) -> Result<Row, ApiError> {
    let row = certificates::find(&services.db, id.as_str()).await?;
    row.filter(|it| it.row.user_id.as_deref() == Some(caller.user_id.as_str()))
        .ok_or_else(ApiError::not_found)
}

/// Revoke one of your VPN configs
///
/// For good: a lost device's config lets nobody in any more.
#[utoipa::path(
    post, path = "/configs/{id}/revoke", tag = "Configs", operation_id = "revokeConfig",
    params(("id" = CertificateId, Path, description = "The config's id")),
    request_body = Option<RevokeReason>,
    responses((status = 200, description = "Revoked", body = Data<Revocation>))
)]
pub async fn revoke(
    State(services): State<Arc<Services>>,
    caller: Member,
    Path(id): Path<CertificateId>,
    body: Option<Json<RevokeReason>>,
) -> Result<Data<Revocation>, ApiError> {
    own(&services, &caller, &id).await?;
    let reason = body.map(|Json(body)| body.reason).unwrap_or_default();
    let data = revoke_certificate(&services, &id, reason, caller.metadata(None)).await?;
    Ok(Data { data })
}

/// List all VPN configs
///
/// The newest first. `q` looks at common name, serial, the owner's user name and e-mail, and the
/// gateway's name.
#[utoipa::path(
    get, path = "/admin/configs", tag = "Configs", operation_id = "listAllConfigs",
    params(List<AdminFilter>),
    responses((status = 200, description = "A page of them", body = Page<Config>))
)]
pub async fn admin_list(
    State(services): State<Arc<Services>>,
    _: Auditor,
    list: List<AdminFilter>,
) -> Result<Page<Config>, ApiError> {
    let now = services.clock.now();
    let wanted = list.wanted()?;
    let given = list.filter;
    let filter = certificates::Filter {
        user_id: given.user.map(|it| it.to_string()),
        gateway_id: given.gateway.map(|it| it.to_string()),
        hub_id: given.hub.map(|it| it.to_string()),
        status: given.status.map(|status| (status.into(), now)),
        serial: given.serial.map(|it| it.to_string()),
        issued_since: given.issued_since.map(micros),
        issued_until: given.issued_until.map(micros),
        expires_since: given.expires_since.map(micros),
        expires_until: given.expires_until.map(micros),
    };
    let listed = certificates::configs(&services.db, &wanted, &filter).await?;
    let shown = listed.map(|row| Config::of(row, now).without_download());
    Ok(Page::listed(shown, list.paging))
}

/// Revoke anyone's VPN config
#[utoipa::path(
    post, path = "/admin/configs/{id}/revoke", tag = "Configs", operation_id = "revokeAnyConfig",
    params(("id" = CertificateId, Path, description = "The config's id")),
    request_body = Option<RevokeReason>,
    responses((status = 200, description = "Revoked", body = Data<Revocation>))
)]
pub async fn admin_revoke(
    State(services): State<Arc<Services>>,
    caller: Admin,
    Path(id): Path<CertificateId>,
    body: Option<Json<RevokeReason>>,
) -> Result<Data<Revocation>, ApiError> {
    let reason = body.map(|Json(body)| body.reason).unwrap_or_default();
    let data = revoke_certificate(&services, &id, reason, caller.metadata(None)).await?;
    Ok(Data { data })
}
