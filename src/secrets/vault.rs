//! The secrets table: private keys, password hashes and whole profiles, each sealed by the master
//! key and bound to its id. A secret is written in the transaction of the event that names it.

use super::master_key::MasterKey;
use super::seal::SealError;
use crate::entropy::Entropy;
use crate::event_log::SealedSecret;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::{DateTime, Utc};
use gatekey_aggregates::values::{SecretId, micros};
use gatekey_projections::Db;
use std::sync::Arc;
use zeroize::Zeroizing;

/// Seals and opens secrets. Cheap to clone.
#[derive(Clone)]
pub struct Vault {
    db: Db,
    master: Arc<MasterKey>,
    entropy: Entropy,
}

/// Why a secret could not be had.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    /// The database did not answer.
    #[error("the secrets could not be read: {0}")]
    Database(#[from] sqlx::Error),
    /// It is damaged, or there is no randomness.
    #[error("a secret is unusable: {0}")]
    Unusable(#[from] SealError),
    /// Nothing is kept under that id, or no longer.
    #[error("there is no secret {0}")]
    Missing(SecretId),
}

fn bound_to(id: &SecretId) -> Vec<u8> {
    format!("secret/{id}").into_bytes()
}

impl Vault {
    /// Over the secrets table of `db`.
    pub fn new(db: Db, master: Arc<MasterKey>, entropy: Entropy) -> Self {
        Self { db, master, entropy }
    }

    /// Seals a new secret, to be written with the event that names its id. After `expires_at` it is
    /// deleted.
    pub fn seal(
        &self,
        plain: &[u8],
        expires_at: Option<DateTime<Utc>>,
    ) -> Result<SealedSecret, VaultError> {
        let id: SecretId = self.entropy.id().map_err(|_| SealError)?;
        let sealed = STANDARD_NO_PAD.encode(self.master.seal(&bound_to(&id), plain)?);
        Ok(SealedSecret { id, sealed, expires_at })
    }

    /// Opens a secret.
    pub async fn open(&self, id: &SecretId) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let sql = "SELECT sealed FROM secrets WHERE id = $1";
        let row: Option<(String,)> = self.db.optional(sql, &[id.as_str().into()]).await?;
        let (sealed,) = row.ok_or_else(|| VaultError::Missing(id.clone()))?;
        let sealed = STANDARD_NO_PAD.decode(sealed).map_err(|_| SealError)?;
        Ok(self.master.open(&bound_to(id), &sealed)?)
    }

    /// Seals what is kept elsewhere than in the secrets table, bound to what it is.
    pub fn seal_for(&self, what: &str, plain: &[u8]) -> Result<String, VaultError> {
        Ok(STANDARD_NO_PAD.encode(self.master.seal(what.as_bytes(), plain)?))
    }

    /// Opens what [`Self::seal_for`] made for the same.
    pub fn open_for(&self, what: &str, sealed: &str) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let sealed = STANDARD_NO_PAD.decode(sealed).map_err(|_| SealError)?;
        Ok(self.master.open(what.as_bytes(), &sealed)?)
    }

    /// Deletes what has expired by `now`; says how many.
    pub async fn forget_expired(&self, now: DateTime<Utc>) -> Result<u64, VaultError> {
        let sql = "DELETE FROM secrets WHERE expires_at IS NOT NULL AND expires_at <= $1";
        Ok(self.db.execute(sql, &[micros(now).into()]).await?)
    }
}
