//! API keys: whose they are, what they may do, and when they were last used.

use crate::db::Db;
use crate::list::{ListError, Listed, Orders, Query, Sort, Wanted, columns, names};
use crate::rows::{Rows, View};
use crate::table::{Texts, table};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded, user};

table! {
    /// An API key.
    pub struct ApiKeyRow: "api_keys" by [id] {
        /// `key-…`
        id: String,
        /// Whose.
        user_id: String,
        /// What its owner calls it.
        name: String,
        /// The first characters of the key.
        prefix: String,
        /// Hash of the key.
        key_hash: String,
        /// What it may do.
        scopes: Texts,
        /// When it ends by itself.
        expires_at: Option<i64>,
        /// Where it may be used from; empty: anywhere.
        source_cidrs: Texts,
        /// The key that it was made with; none: a login.
        created_by: Option<String>,
        /// When it was made.
        created_at: i64,
        /// When it was revoked.
        revoked_at: Option<i64>,
    }
}

/// The view of API keys.
pub struct ApiKeys;

impl View for ApiKeys {
    fn name(&self) -> &'static str {
        "api_keys"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["api_keys"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        if let Event::User(user::Event::ApiKeyRevoked { id }) = &recorded.event {
            rows.want::<ApiKeyRow>(vec![id.to_string()]);
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        let at = micros(recorded.recorded_at);
        match &recorded.event {
            Event::User(user::Event::ApiKeyCreated { api_key }) => rows.put(ApiKeyRow {
                id: api_key.id.to_string(),
                user_id: recorded.aggregate_id.clone(),
                name: api_key.name.to_string(),
                prefix: api_key.prefix.clone(),
                key_hash: api_key.key_hash.to_string(),
                scopes: api_key.scopes.iter().collect(),
                expires_at: api_key.expires_at.map(micros),
                source_cidrs: api_key.source_cidrs.iter().collect(),
                created_by: api_key.created_by.as_ref().map(ToString::to_string),
                created_at: at,
                revoked_at: None,
            }),
            Event::User(user::Event::ApiKeyRevoked { id }) => {
                rows.change::<ApiKeyRow>(&vec![id.to_string()], |row| row.revoked_at = Some(at));
            }
            _ => {}
        }
    }
}

/// An API key with its last use.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct ApiKey {
    /// The key.
    #[sqlx(flatten)]
    pub row: ApiKeyRow,
    /// When it was last used.
    pub last_used: Option<i64>,
    /// From where.
    pub last_ip: Option<String>,
}

const ORDERS: [(&str, &str); 4] = [
    ("name", "lower(t.name) {}"),
    ("created_at", "t.created_at {}"),
    ("expires_at", "t.expires_at {} NULLS LAST"),
    ("last_used", "u.last_used {} NULLS LAST"),
];

/// What API keys can be sorted by.
pub const SORT: &[&str] = &names(&ORDERS);

fn query() -> Query {
    Query::new(format!("{}, u.last_used, u.last_ip", columns::<ApiKeyRow>("t")), "api_keys t")
        .beside("LEFT JOIN credential_telemetry u ON u.id = t.id")
}

/// The key with this id, revoked or not.
pub async fn find(db: &Db, id: &str) -> Result<Option<ApiKey>, sqlx::Error> {
    query().with("t.id = {}", id).optional(db).await
}

/// The key with this hash, unless it was revoked or its owner deleted. It may have expired.
pub async fn by_hash(db: &Db, key_hash: &str) -> Result<Option<ApiKey>, sqlx::Error> {
    query()
        .with("t.key_hash = {}", key_hash)
        .and("t.revoked_at IS NULL")
        .and("EXISTS (SELECT 1 FROM users o WHERE o.id = t.user_id AND o.deleted_at IS NULL)")
        .optional(db)
        .await
}

/// A user's keys that were not revoked, the newest first; `q` looks at name and prefix.
pub async fn list(db: &Db, user_id: &str, wanted: &Wanted) -> Result<Listed<ApiKey>, ListError> {
    let default = Sort { by: "created_at", descending: true };
    query()
        .with("t.user_id = {}", user_id)
        .and("t.revoked_at IS NULL")
        .search(&["t.name", "t.prefix"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &ORDERS, default, tie: "t.id" })
        .await
}
