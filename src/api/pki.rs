//! `/pki`: what anyone may know of the authority: its certificate, what it revoked, and how a
//! certificate stands. And `/admin/pki/revoke`.

use crate::api::error::ErrorBody;
use crate::api::{ApiError, Data, Json, Path};
use crate::app::AppState;
use crate::auth::{Admin, Public};
use crate::event_log::Request as Command;
use crate::pki::Published;
use crate::services::Services;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use gatekey_aggregates::certificate::{self, Certificate};
use gatekey_aggregates::values::{CertificateId, RevocationReason, Serial, from_micros};
use gatekey_projections::certificates::{self, Certificate as Row};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// How long a revocation waits for the revocation list to have it.
const CRL_PATIENCE: Duration = Duration::from_millis(2500);

/// What anyone may ask.
pub fn public_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(crl))
        .routes(routes!(crl_pem))
        .routes(routes!(ca))
        .routes(routes!(check))
}

/// What admins change.
pub fn admin_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(revoke))
}

/// Download CRL (DER)
///
/// The certificate revocation list (RFC 5280). Conditional requests are answered by 304.
#[utoipa::path(
    get, path = "/pki/crl", tag = "PKI", operation_id = "getCrl",
    responses(
        (status = 200, description = "The list", content_type = "application/pkix-crl", body = Vec<u8>),
        (status = 304, description = "You have it"),
    ),
)]
pub async fn crl(
    State(services): State<Arc<Services>>,
    _: Public,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let newest = newest(&services)?;
    let body = || newest.crl.der.clone();
    Ok(conditional(&newest, &headers, "application/pkix-crl", "der", body))
}

/// Download CRL (PEM)
///
/// The same list in the only form that OpenVPN's `crl-verify` reads.
#[utoipa::path(
    get, path = "/pki/crl.pem", tag = "PKI", operation_id = "getCrlPem",
    responses(
        (
            status = 200, description = "The list", content_type = "application/x-pem-file",
            body = String,
            example = json!("-----BEGIN X509 CRL-----\nMIIB…\n-----END X509 CRL-----\n")
        ),
        (status = 304, description = "You have it"),
    ),
)]
pub async fn crl_pem(
    State(services): State<Arc<Services>>,
    _: Public,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let newest = newest(&services)?;
    let body = || newest.crl.pem.clone().into_bytes();
    Ok(conditional(&newest, &headers, "application/x-pem-file", "pem", body))
}

fn newest(services: &Services) -> Result<Arc<Published>, ApiError> {
    services.crl.newest().ok_or_else(|| ApiError::unavailable("There is no revocation list yet"))
}

/// The list, unless the caller shows that it has it (RFC 9110, 13.2.2: `If-None-Match` first).
fn conditional(
    newest: &Published,
    headers: &HeaderMap,
    content_type: &'static str,
    form: &str,
    body: impl FnOnce() -> Vec<u8>,
) -> Response {
    let etag = format!("\"{}-{form}\"", newest.crl.number);
    let signed_at = newest.crl.this_update + crate::pki::BACKDATING;
    let last_modified = signed_at.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let has_it = match (text(header::IF_NONE_MATCH), text(header::IF_MODIFIED_SINCE)) {
        (Some(tags), _) => tags
            .split(',')
            .map(|tag| tag.trim().trim_start_matches("W/"))
            .any(|tag| tag == etag || tag == "*"),
        (None, Some(since)) => DateTime::parse_from_rfc2822(since)
            .is_ok_and(|since| signed_at.timestamp() <= since.timestamp()),
        (None, None) => false,
    };
    let cached = [
        (header::ETAG, etag),
        (header::LAST_MODIFIED, last_modified),
        // Kept, but never used without asking: a revocation counts at once.
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    if has_it {
        (StatusCode::NOT_MODIFIED, cached).into_response()
    } else {
        (cached, [(header::CONTENT_TYPE, content_type)], body()).into_response()
    }
}

/// Download the authority's certificate
#[utoipa::path(
    get, path = "/pki/ca.pem", tag = "PKI", operation_id = "getCaCertificate",
    responses(
        (
            status = 200, description = "The certificate", content_type = "application/x-pem-file",
            body = String,
            example = json!("-----BEGIN CERTIFICATE-----\nMIIB…\n-----END CERTIFICATE-----\n")
        ),
    ),
)]
pub async fn ca(State(services): State<Arc<Services>>, _: Public) -> Response {
    let certificate = services.issuer.certificate_pem().to_owned();
    ([(header::CONTENT_TYPE, "application/x-pem-file")], certificate).into_response()
}

/// How a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum CertificateStatus {
    /// Neither revoked nor expired.
    Good,
    /// Taken back.
    Revoked,
    /// Past its end.
    Expired,
    /// Never issued here.
    Unknown,
}

/// How a certificate stands, and since when.
#[derive(Serialize, ToSchema)]
pub struct CertificateCheck {
    /// As hex, without colons or leading zeros.
    #[schema(value_type = String, example = "5a0f3c")]
    serial: Serial,
    /// How it stands.
    status: CertificateStatus,
    /// Whether it was taken back.
    revoked: bool,
    /// When.
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<DateTime<Utc>>,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "key_compromise")]
    reason: Option<String>,
}

/// Check cert revocation
///
/// Hex with or without colons, in any case. Never a 404: a well-formed serial that was not issued here
/// is `unknown`.
#[utoipa::path(
    get, path = "/pki/check/{serial}", tag = "PKI", operation_id = "checkCertificate",
    params(("serial" = Serial, Path, description = "The serial, in hex, with or without colons")),
    responses(
        (status = 200, description = "How it stands", body = Data<CertificateCheck>),
        (status = 400, description = "That is no serial", body = ErrorBody),
    ),
)]
pub async fn check(
    State(services): State<Arc<Services>>,
    _: Public,
    // What is no text is no serial either.
    serial: Result<Path<String>, ApiError>,
) -> Result<Data<CertificateCheck>, ApiError> {
    let serial = serial.ok().and_then(|Path(text)| text.parse::<Serial>().ok());
    let serial = serial.ok_or_else(|| ApiError::invalid_field("serial", Serial::EXPECTED))?;
    let row = certificates::by_serial(&services.db, serial.as_str()).await?;
    let now = services.clock.now();
    let (status, revoked_at, reason) = match row {
        None => (CertificateStatus::Unknown, None, None),
        Some(Row { row, .. }) => match row.revoked_at {
            Some(at) => (CertificateStatus::Revoked, Some(from_micros(at)), row.reason),
            None if now >= from_micros(row.not_after) => (CertificateStatus::Expired, None, None),
            None => (CertificateStatus::Good, None, None),
        },
    };
    let revoked = status == CertificateStatus::Revoked;
    Ok(Data { data: CertificateCheck { serial, status, revoked, revoked_at, reason } })
}

/// Which certificate to take back: by its serial or its config.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RevokeCertificateRequest)]
pub struct RevokeRequest {
    /// The serial, in hex.
    #[schema(value_type = Option<String>, example = "5a:0f:3c")]
    serial: Option<Serial>,
    /// The config's id.
    #[schema(value_type = Option<String>, example = "cfg-abc123")]
    config_id: Option<CertificateId>,
    /// Why; RFC 5280's reasons.
    #[serde(default)]
    reason: RevocationReason,
}

/// Why a config is taken back.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeReason {
    /// RFC 5280's reasons.
    #[serde(default)]
    pub reason: RevocationReason,
}

/// A certificate that was taken back.
#[derive(Serialize, ToSchema)]
pub struct Revocation {
    /// Its serial.
    #[schema(value_type = String, example = "5a0f3c")]
    serial: String,
    /// When it was taken back.
    revoked_at: DateTime<Utc>,
    /// Why.
    #[schema(example = "key_compromise")]
    reason: String,
}

/// Revoke certificate
///
/// For good. The revocation list has it when this is answered. Asked again, it gives the same answer.
#[utoipa::path(
    post, path = "/admin/pki/revoke", tag = "PKI", operation_id = "revokeCertificate",
    request_body = RevokeRequest,
    responses(
        (status = 200, description = "Revoked", body = Data<Revocation>),
        (status = 404, description = "No such certificate", body = ErrorBody),
    ),
)]
pub async fn revoke(
    State(services): State<Arc<Services>>,
    caller: Admin,
    Json(body): Json<RevokeRequest>,
) -> Result<Data<Revocation>, ApiError> {
    let id = match (body.serial, body.config_id) {
        (Some(serial), None) => {
            let row = certificates::by_serial(&services.db, serial.as_str()).await?;
            row.and_then(|it| it.row.id.parse().ok()).ok_or_else(ApiError::not_found)?
        }
        (None, Some(id)) => id,
        _ => {
            return Err(ApiError::invalid_field("serial", "give either `serial` or `config_id`"));
        }
    };
    let data = revoke_certificate(&services, &id, body.reason, caller.metadata(None)).await?;
    Ok(Data { data })
}

/// Takes a certificate back and waits for the revocation list to have it.
pub async fn revoke_certificate(
    services: &Services,
    id: &CertificateId,
    reason: RevocationReason,
    metadata: gatekey_aggregates::Metadata,
) -> Result<Revocation, ApiError> {
    let command = certificate::Command::Revoke(reason);
    let outcome = services
        .bus
        .execute::<Certificate>(Command::new::<Certificate>(id, command, metadata))
        .await?;
    // Asked again, another's revocation of a moment ago may not be on the list yet.
    let revoked_up_to = match outcome.appended {
        Some(appended) => appended.last_position,
        None => services.index.read().last_revocation,
    };
    if !services.crl.has(revoked_up_to, CRL_PATIENCE).await {
        // It is revoked all the same: verify refuses it from now on.
        tracing::warn!(config = %id, "the revocation list is late");
    }
    let row = certificates::find(&services.db, id.as_str()).await?;
    let row = row.ok_or_else(ApiError::not_found)?.row;
    Ok(Revocation {
        serial: row.serial,
        revoked_at: from_micros(row.revoked_at.unwrap_or_default()),
        reason: row.reason.unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::client::Client;
    use crate::clock::Clock;
    use crate::testing;
    use serde_json::json;

    #[tokio::test]
    async fn what_is_no_serial_is_a_400_and_what_is_unknown_is_not() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let client = Client::of(&plane);
        for unknown in ["5a0f3c", "5A:0F:3C", "0", "05a0f3c", &"f".repeat(40)] {
            let answer = client.get(&format!("/pki/check/{unknown}")).await;
            assert_eq!(answer.status, 200, "{unknown}: {}", answer.body);
            let data = &answer.body["data"];
            assert_eq!((&data["status"], &data["revoked"]), (&json!("unknown"), &json!(false)));
        }
        for wrong in ["x", "5a:", "123:45", "-1", "5a%20", "%00", "%ff", "5a%2F0f", &"f".repeat(41)]
        {
            let answer = client.get(&format!("/pki/check/{wrong}")).await;
            assert_eq!((answer.status, answer.code()), (400, "invalid_request"), "{wrong}");
            let detail = json!([{"field": "serial", "message": Serial::EXPECTED}]);
            assert_eq!(answer.body["error"]["details"], detail, "{wrong}");
        }
        let document = client.get("/openapi.json").await.body;
        let answers = &document["paths"]["/api/v1/pki/check/{serial}"]["get"]["responses"];
        assert!(answers["400"].is_object() && answers["404"].is_null(), "{answers}");
    }
}
