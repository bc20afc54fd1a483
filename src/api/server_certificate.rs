//! The certificates of what clients dial: a gateway's, which its agent fetches, and a mesh hub's, which
//! an admin does.

use super::ApiError;
use crate::access::CertificateEntry;
use crate::event_log::SealedSecret;
use crate::pki;
use crate::services::Services;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::certificate::{Issuance, Subject};
use gatekey_aggregates::values::{SecretId, VpnServerId};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

/// A server's certificate and key, as they are sealed.
#[derive(Serialize, Deserialize)]
pub struct Bundle {
    /// The certificate, PEM.
    pub certificate: String,
    /// The key, PKCS #8 PEM.
    pub key: String,
}

/// A certificate that was just signed, to be written down.
pub struct Made {
    /// What the server gets.
    pub bundle: Bundle,
    /// The same, sealed.
    pub secret: SealedSecret,
    /// What is written down.
    pub issuance: Issuance,
}

/// Makes one, from now on for `lifetime`.
pub fn make(
    services: &Services,
    server: &VpnServerId,
    lifetime: TimeDelta,
) -> Result<Made, ApiError> {
    let now = services.clock.now();
    let issued = pki::issue_server(&services.issuer, server, lifetime, now, &services.entropy)
        .map_err(ApiError::internal)?;
    let key = issued.key_pem.ok_or_else(|| ApiError::internal("a server has no key"))?;
    let bundle = Bundle { certificate: issued.certificate_pem, key: key.to_string() };
    let plain = Zeroizing::new(serde_json::to_vec(&bundle).map_err(ApiError::internal)?);
    let secret = services.vault.seal(&plain, Some(issued.not_after))?;
    let subject = match server.clone() {
        VpnServerId::Gateway(gateway_id) => {
            Subject::Server { gateway_id, bundle: secret.id.clone() }
        }
        VpnServerId::Hub(hub_id) => Subject::HubServer { hub_id, bundle: secret.id.clone() },
    };
    let issuance = Issuance {
        subject,
        serial: issued.serial,
        not_before: issued.not_before,
        not_after: issued.not_after,
        fingerprint: issued.fingerprint,
    };
    Ok(Made { bundle, secret, issuance })
}

/// Opens what was sealed.
pub async fn open(services: &Services, secret: &SecretId) -> Result<Bundle, ApiError> {
    let plain = services.vault.open(secret).await?;
    serde_json::from_slice(&plain).map_err(ApiError::internal)
}

/// Whether a server certificate is revoked or has lived two thirds of its life.
pub fn renewal_due(certificate: &CertificateEntry, now: DateTime<Utc>) -> bool {
    let life = certificate.not_after - certificate.not_before;
    certificate.revoked.is_some() || now >= certificate.not_before + life * 2 / 3
}
