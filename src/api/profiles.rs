//! Profiles: a client's certificate, wrapped with all that OpenVPN needs into one `.ovpn` file.

use super::ApiError;
use crate::entropy::token_hash;
use crate::event_log::SealedSecret;
use crate::openvpn::{ClientKey, Profile, ProfilePassword, TlsAuthKey, profile};
use crate::pki::{self, KeySource};
use crate::services::Services;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::certificate::{Issuance, Subject};
use gatekey_aggregates::values::{
    CertificateId, CommonName, CryptoProfile, Host, ResourceName, SecretId, Serial, TokenHash,
    Transport, VpnServerId,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use zeroize::Zeroizing;

/// A configuration that was generated.
#[derive(Serialize, ToSchema)]
#[schema(as = GeneratedConfig)]
pub struct Generated {
    /// Its id.
    #[schema(value_type = String, example = "cfg-abc123")]
    config_id: CertificateId,
    /// Where to fetch it until it expires.
    #[schema(example = "/api/v1/configs/download/cfg-abc123")]
    download_url: String,
    /// When it expires.
    expires_at: DateTime<Utc>,
    /// What to call it.
    #[schema(example = "us-east-1.ovpn")]
    file_name: String,
}

/// What is sealed of a configuration: the file and its name.
#[derive(Serialize, Deserialize)]
pub struct Bundle {
    /// What to call it.
    pub file_name: String,
    /// The `.ovpn` file.
    pub profile: String,
}

/// Whom a profile is for, and for what.
pub struct Wanted<'a> {
    /// What it dials.
    pub server_id: VpnServerId,
    /// Where that is.
    pub host: &'a Host,
    /// Its port.
    pub port: u16,
    /// UDP or TCP.
    pub transport: Transport,
    /// Ciphers and digests.
    pub crypto_profile: CryptoProfile,
    /// Where its `tls-auth` key is kept, while it is in use.
    pub tls_auth_key: Option<&'a SecretId>,
    /// What the file is called after.
    pub name: &'a ResourceName,
    /// The certificate's common name.
    pub common_name: &'a CommonName,
    /// How long the certificate lasts.
    pub lifetime: TimeDelta,
    /// Whether somebody at the server asks for a password.
    pub with_password: bool,
    /// A signing request in PEM: the private key then never leaves the device.
    pub csr: Option<&'a str>,
}

/// A certificate that was just signed, with its profile, to be written down.
pub struct Made {
    /// What to call the file.
    pub file_name: String,
    /// The `.ovpn` file. It holds secrets.
    pub profile: Zeroizing<String>,
    /// Until when it is good.
    pub not_after: DateTime<Utc>,
    /// Hash of its password, where it has one.
    pub token_hash: Option<TokenHash>,
    serial: Serial,
    not_before: DateTime<Utc>,
    fingerprint: String,
}

/// Makes one.
pub async fn make(services: &Services, wanted: &Wanted<'_>) -> Result<Made, ApiError> {
    let tls_auth = match wanted.tls_auth_key {
        Some(secret) => Some(open_tls_auth(services, secret).await?),
        None => None,
    };
    let issued = pki::issue_client(
        &services.issuer,
        wanted.common_name,
        wanted.lifetime,
        wanted.csr.map_or(KeySource::Generate, KeySource::Csr),
        services.clock.now(),
        &services.entropy,
    )
    .map_err(refused_request)?;
    let password = if wanted.with_password {
        Some(ProfilePassword::generate(&services.entropy)?)
    } else {
        None
    };
    let profile = Profile {
        server_id: &wanted.server_id,
        host: wanted.host,
        port: wanted.port,
        transport: wanted.transport,
        crypto_profile: wanted.crypto_profile,
        ca_pem: services.issuer.certificate_pem(),
        certificate_pem: &issued.certificate_pem,
        key: issued.key_pem.as_ref().map_or(ClientKey::OnDevice, |key| ClientKey::Pem(key)),
        tls_auth: tls_auth.as_ref(),
        common_name: wanted.common_name,
        password: password.as_ref(),
        expires_at: issued.not_after,
    };
    Ok(Made {
        file_name: profile::file_name(wanted.name, wanted.server_id.as_str()),
        profile: profile.render().map_err(ApiError::internal)?,
        token_hash: password.map(|it| token_hash(it.as_str())),
        serial: issued.serial,
        not_before: issued.not_before,
        not_after: issued.not_after,
        fingerprint: issued.fingerprint,
    })
}

impl Made {
    /// The file, sealed until it is fetched or expires.
    pub fn seal(&self, services: &Services) -> Result<SealedSecret, ApiError> {
        let (file_name, profile) = (self.file_name.clone(), self.profile.to_string());
        let bundle = Bundle { file_name, profile };
        let plain = Zeroizing::new(serde_json::to_vec(&bundle).map_err(ApiError::internal)?);
        Ok(services.vault.seal(&plain, Some(self.not_after))?)
    }

    /// What is written down of it.
    pub fn issuance(&self, subject: Subject) -> Issuance {
        Issuance {
            subject,
            serial: self.serial.clone(),
            not_before: self.not_before,
            not_after: self.not_after,
            fingerprint: self.fingerprint.clone(),
        }
    }

    /// What its owner is told.
    pub fn answer(self, config_id: CertificateId) -> Generated {
        Generated {
            download_url: format!("/api/v1/configs/download/{config_id}"),
            config_id,
            expires_at: self.not_after,
            file_name: self.file_name,
        }
    }
}

async fn open_tls_auth(services: &Services, secret: &SecretId) -> Result<TlsAuthKey, ApiError> {
    let plain = services.vault.open(secret).await?;
    let text = std::str::from_utf8(&plain).map_err(ApiError::internal)?;
    TlsAuthKey::parse(text).map_err(ApiError::internal)
}

/// What is wrong with a signing request is the caller's to mend.
fn refused_request(error: pki::Error) -> ApiError {
    match error {
        pki::Error::Csr(error) => ApiError::invalid_field("csr", error.to_string()),
        other => ApiError::internal(other),
    }
}
