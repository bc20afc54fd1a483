//! Certificates: those of people, which are called configs; those of gateways and mesh hubs; and those
//! of spokes.

use crate::db::Db;
use crate::list::{Holds, Keyset, ListError, Listed, Place, Query, Sort, Wanted, columns};
use crate::rows::{Rows, View};
use crate::table::table;
use crate::totals::of;
use chrono::{DateTime, Utc};
use gatekey_aggregates::certificate::{Event as CertificateEvent, Issuance, Subject};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded};

/// `kind` of a person's certificate.
pub const CLIENT: &str = "client";
/// `kind` of a gateway's or a hub's certificate.
pub const SERVER: &str = "server";
/// `kind` of a spoke's certificate.
pub const SPOKE: &str = "spoke";

table! {
    /// A certificate.
    pub struct CertificateRow: "certificates" by [id] {
        /// `cfg-…`
        id: String,
        /// [`CLIENT`], [`SERVER`] or [`SPOKE`].
        kind: String,
        /// Lower-case hex without leading zeros.
        serial: String,
        /// Whose, where it is a client's.
        user_id: Option<String>,
        /// The gateway it is for; none: it is for a hub.
        gateway_id: Option<String>,
        /// The hub it is for; none: it is for a gateway.
        hub_id: Option<String>,
        /// Whose, where it is a spoke's.
        spoke_id: Option<String>,
        /// A server's is its gateway's or hub's id. None: erased.
        common_name: Option<String>,
        /// Hash of the config's own password, where it is a client's of a gateway.
        token_hash: Option<String>,
        /// Where its private parts are kept; none: nowhere.
        bundle: Option<String>,
        /// SHA-256 of the DER, in hex.
        fingerprint: String,
        /// Valid from.
        not_before: i64,
        /// Valid until.
        not_after: i64,
        /// When it was issued.
        issued_at: i64,
        /// When it was revoked.
        revoked_at: Option<i64>,
        /// Why.
        reason: Option<String>,
    }
}

/// The view of certificates.
pub struct Certificates;

impl View for Certificates {
    fn name(&self) -> &'static str {
        "certificates"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["certificates"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        if matches!(recorded.event, Event::Certificate(CertificateEvent::Revoked { .. })) {
            rows.want::<CertificateRow>(vec![recorded.aggregate_id.clone()]);
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        let Event::Certificate(event) = &recorded.event else { return };
        let id = recorded.aggregate_id.clone();
        let at = micros(recorded.recorded_at);
        match event {
            CertificateEvent::Issued(it) => rows.put(row(id, it, at)),
            CertificateEvent::Revoked { reason } => {
                rows.change::<CertificateRow>(&vec![id], |row| {
                    row.revoked_at = Some(at);
                    row.reason = Some(reason.as_str().to_owned());
                });
            }
        }
    }
}

fn row(id: String, it: &Issuance, issued_at: i64) -> CertificateRow {
    let mut row = CertificateRow {
        id,
        kind: String::new(),
        serial: it.serial.to_string(),
        user_id: it.subject.user_id().map(ToString::to_string),
        gateway_id: None,
        hub_id: None,
        spoke_id: None,
        common_name: None,
        token_hash: None,
        bundle: it.subject.bundle().map(ToString::to_string),
        fingerprint: it.fingerprint.clone(),
        not_before: micros(it.not_before),
        not_after: micros(it.not_after),
        issued_at,
        revoked_at: None,
        reason: None,
    };
    let server_id = it.subject.server_id().to_string();
    let kind = match &it.subject {
        Subject::Client { common_name, token_hash, .. } => {
            row.common_name = common_name.open().map(ToString::to_string);
            row.token_hash = Some(token_hash.to_string());
            row.gateway_id = Some(server_id);
            CLIENT
        }
        Subject::Server { .. } => {
            row.common_name = Some(server_id.clone());
            row.gateway_id = Some(server_id);
            SERVER
        }
        Subject::HubClient { common_name, .. } => {
            row.common_name = Some(common_name.to_string());
            row.hub_id = Some(server_id);
            CLIENT
        }
        Subject::HubServer { .. } => {
            row.common_name = Some(server_id.clone());
            row.hub_id = Some(server_id);
            SERVER
        }
        Subject::Spoke { spoke_id, common_name, .. } => {
            row.common_name = Some(common_name.to_string());
            row.spoke_id = Some(spoke_id.to_string());
            row.hub_id = Some(server_id);
            SPOKE
        }
    };
    kind.clone_into(&mut row.kind);
    row
}

/// A certificate with the names of its owner and of what it is for.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Certificate {
    /// The certificate.
    #[sqlx(flatten)]
    pub row: CertificateRow,
    /// Its owner's user name.
    pub username: Option<String>,
    /// Its owner's e-mail.
    pub email: Option<String>,
    /// What its gateway is called.
    pub gateway_name: Option<String>,
    /// What its hub is called.
    pub hub_name: Option<String>,
}

/// Where a certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Neither revoked nor expired.
    Active,
    /// Revoked, expired since or not.
    Revoked,
    /// Expired without having been revoked.
    Expired,
}

/// Which configs are listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Those of this user.
    pub user_id: Option<String>,
    /// Those for this gateway.
    pub gateway_id: Option<String>,
    /// The one with this serial.
    pub serial: Option<String>,
    /// Those issued at this time or later.
    pub issued_since: Option<i64>,
    /// Those issued before this time.
    pub issued_until: Option<i64>,
    /// Those that expire at this time or later.
    pub expires_since: Option<i64>,
    /// Those that expire before this time.
    pub expires_until: Option<i64>,
    /// Those for this hub.
    pub hub_id: Option<String>,
    /// Those that stand so at this time.
    pub status: Option<(Status, DateTime<Utc>)>,
}

fn query() -> Query {
    Query::new(
        format!(
            "{}, u.username, u.email, g.name AS gateway_name, h.name AS hub_name",
            columns::<CertificateRow>("t")
        ),
        "certificates t",
    )
    .beside(
        "LEFT JOIN users u ON u.id = t.user_id LEFT JOIN gateways g ON g.id = t.gateway_id \
         LEFT JOIN mesh_hubs h ON h.id = t.hub_id",
    )
}

/// The certificate with this id.
pub async fn find(db: &Db, id: &str) -> Result<Option<Certificate>, sqlx::Error> {
    query().with("t.id = {}", id).optional(db).await
}

/// The certificate with this serial.
pub async fn by_serial(db: &Db, serial: &str) -> Result<Option<Certificate>, sqlx::Error> {
    query().with("t.serial = {}", serial).optional(db).await
}

/// The config whose own password has this hash.
pub async fn by_token_hash(db: &Db, hash: &str) -> Result<Option<Certificate>, sqlx::Error> {
    query().with("t.token_hash = {}", hash).optional(db).await
}

/// What configs can be sorted by.
pub const SORT: &[&str] = &["created_at", "expires_at"];

/// Configs, the newest first; `q` looks at common name, serial, the owner's user name and e-mail, and
/// the gateway's or hub's name.
pub async fn configs(
    db: &Db,
    wanted: &Wanted,
    filter: &Filter,
) -> Result<Listed<Certificate>, ListError> {
    let mut query = query()
        .with("t.kind = {}", CLIENT)
        .totalled_as(of::CONFIGS)
        .when("t.user_id = {}", filter.user_id.clone())
        .when("t.gateway_id = {}", filter.gateway_id.clone())
        .when("t.serial = {}", filter.serial.clone())
        .when("t.issued_at >= {}", filter.issued_since)
        .when("t.issued_at < {}", filter.issued_until)
        .when("t.not_after >= {}", filter.expires_since)
        .when("t.not_after < {}", filter.expires_until)
        .when("t.hub_id = {}", filter.hub_id.clone())
        .search(
            &["t.common_name", "t.serial", "u.username", "u.email", "g.name", "h.name"],
            wanted.q.as_deref(),
        );
    if let Some((status, now)) = filter.status {
        let now = micros(now);
        query = match status {
            Status::Active => {
                query.and("t.revoked_at IS NULL").with_passing("t.not_after > {}", now)
            }
            Status::Revoked => query.and("t.revoked_at IS NOT NULL"),
            Status::Expired => {
                query.and("t.revoked_at IS NULL").with_passing("t.not_after <= {}", now)
            }
        };
    }
    let sort = wanted.sort.unwrap_or(Sort { by: "created_at", descending: true });
    let keyset = match sort.by {
        "created_at" => Keyset {
            columns: &[("t.issued_at", Holds::Ints), ("t.id", Holds::Texts)],
            place: |it: &Certificate| {
                vec![Place::Int(it.row.issued_at), Place::Text(it.row.id.clone())]
            },
            descending: sort.descending,
        },
        "expires_at" => Keyset {
            columns: &[("t.not_after", Holds::Ints), ("t.id", Holds::Texts)],
            place: |it: &Certificate| {
                vec![Place::Int(it.row.not_after), Place::Text(it.row.id.clone())]
            },
            descending: sort.descending,
        },
        other => return Err(ListError::Sort(other)),
    };
    query.keyset(db, wanted, &keyset).await
}

/// Every certificate of a user that is neither revoked nor expired, the oldest first.
pub async fn live_of_user(
    db: &Db,
    user_id: &str,
    now: DateTime<Utc>,
) -> Result<Vec<CertificateRow>, sqlx::Error> {
    live(now).with("t.user_id = {}", user_id).all(db, "t.issued_at, t.id").await
}

/// Every certificate for a gateway, its own too, that is neither revoked nor expired, the oldest
/// first.
pub async fn live_of_gateway(
    db: &Db,
    gateway_id: &str,
    now: DateTime<Utc>,
) -> Result<Vec<CertificateRow>, sqlx::Error> {
    live(now).with("t.gateway_id = {}", gateway_id).all(db, "t.issued_at, t.id").await
}

fn live(now: DateTime<Utc>) -> Query {
    Query::new(columns::<CertificateRow>("t"), "certificates t")
        .and("t.revoked_at IS NULL")
        .with("t.not_after > {}", micros(now))
}

/// An entry of a revocation list.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Revoked {
    /// Lower-case hex without leading zeros.
    pub serial: String,
    /// When.
    pub revoked_at: i64,
    /// Why.
    pub reason: String,
}

/// Every revoked certificate that had not expired at `since`, by serial.
pub async fn revoked(db: &Db, since: DateTime<Utc>) -> Result<Vec<Revoked>, sqlx::Error> {
    Query::new("t.serial, t.revoked_at, t.reason", "certificates t")
        .and("t.revoked_at IS NOT NULL")
        .with("t.not_after > {}", micros(since))
        .all(db, "t.serial")
        .await
}
