//! The certificate authority.

use crate::db::Db;
use crate::list::{Query, columns};
use crate::rows::{Rows, View};
use crate::table::table;
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded, authority};

table! {
    /// A certificate authority.
    pub struct AuthorityRow: "authorities" by [id] {
        /// `authority`: there is one.
        id: String,
        /// Its certificate, as PEM.
        certificate: String,
        /// SHA-256 of the DER, in hex.
        fingerprint: String,
        /// Valid until.
        not_after: i64,
        /// Where its private key is kept.
        key: String,
        /// When it was made.
        created_at: i64,
    }
}

/// The view of the authority.
pub struct Authorities;

impl View for Authorities {
    fn name(&self) -> &'static str {
        "authorities"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["authorities"]
    }

    fn want(&self, _recorded: &Recorded, _rows: &mut Rows) {}

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        if let Event::Authority(authority::Event::Created(issuer)) = &recorded.event {
            rows.put(AuthorityRow {
                id: recorded.aggregate_id.clone(),
                certificate: issuer.certificate.clone(),
                fingerprint: issuer.fingerprint.clone(),
                not_after: micros(issuer.not_after),
                key: issuer.key.to_string(),
                created_at: micros(recorded.recorded_at),
            });
        }
    }
}

/// The authority that signs; none before first start.
pub async fn active(db: &Db) -> Result<Option<AuthorityRow>, sqlx::Error> {
    Query::new(columns::<AuthorityRow>("t"), "authorities t")
        .with("t.id = {}", authority::ID)
        .optional(db)
        .await
}
