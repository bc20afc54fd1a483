//! The audit: what happened, straight from the log, the newest first.
//!
//! Payloads and metadata are as they are stored, with personal values sealed: who may read them
//! opens them.

use crate::db::Db;
use crate::list::{Holds, Keyset, ListError, Listed, Place, Query, Wanted};
use gatekey_aggregates::values::{
    AccessRuleId, CertificateId, GatewayId, GeoFenceRuleId, LoginId, NetworkId, SessionId, UserId,
};

/// An event as it is stored.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct AuditRow {
    /// Its place in the log.
    pub position: i64,
    /// When it was written.
    pub recorded_at: i64,
    /// The aggregate's type.
    pub aggregate_type: String,
    /// The aggregate's id.
    pub aggregate_id: String,
    /// Its place in its stream.
    pub sequence: i64,
    /// The stable code, such as `gateway.updated`.
    pub event_type: String,
    /// The version of the payload.
    pub event_version: String,
    /// What happened, as JSON.
    pub payload: String,
    /// The circumstances, as JSON.
    pub metadata: String,
}

/// Which events are listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Those of this type of aggregate.
    pub aggregate_type: Option<String>,
    /// Those of this aggregate.
    pub aggregate_id: Option<String>,
    /// Those that this actor caused.
    pub actor_id: Option<String>,
    /// Those with this code.
    pub event_type: Option<String>,
    /// Those written at this time or later.
    pub since: Option<i64>,
    /// Those written before this time.
    pub until: Option<i64>,
}

fn query() -> Query {
    Query::new(
        "t.position, t.recorded_at, t.aggregate_type, t.aggregate_id, t.sequence, t.event_type, \
         t.event_version, CAST(t.payload AS TEXT) AS payload, CAST(t.metadata AS TEXT) AS metadata",
        "events t",
    )
}

/// The event at this position.
pub async fn find(db: &Db, position: i64) -> Result<Option<AuditRow>, sqlx::Error> {
    query().with("t.position = {}", position).optional(db).await
}

/// Events, the newest first.
pub async fn list(
    db: &Db,
    wanted: &Wanted,
    filter: &Filter,
) -> Result<Listed<AuditRow>, ListError> {
    let aggregate_type = filter.aggregate_type.clone().or_else(|| implied_type(filter));
    let query = query()
        .when("t.aggregate_type = {}", aggregate_type)
        .when("t.aggregate_id = {}", filter.aggregate_id.clone())
        .when("t.metadata ->> 'actor_id' = {}", filter.actor_id.clone())
        .when("t.event_type = {}", filter.event_type.clone())
        .when("t.recorded_at >= {}", filter.since)
        .when("t.recorded_at < {}", filter.until);
    let keyset = Keyset {
        columns: &[("t.position", Holds::Ints)],
        place: |it: &AuditRow| vec![Place::Int(it.position)],
        descending: true,
    };
    if *filter == Filter::default() {
        // Positions have no gaps: the last one is how many there are.
        let (total,): (i64,) = db.one("SELECT position FROM head WHERE id = 1", &[]).await?;
        return query.keyset_of(db, wanted, &keyset, total).await;
    }
    query.keyset(db, wanted, &keyset).await
}

/// The type of aggregate that an id or a code can only be of: the log is indexed by it.
fn implied_type(filter: &Filter) -> Option<String> {
    if let Some((of, _)) = filter.event_type.as_ref().and_then(|code| code.split_once('.')) {
        return Some(of.to_owned());
    }
    let id = filter.aggregate_id.as_ref()?;
    let of = STREAMS.iter().find(|(prefix, _)| id.starts_with(prefix))?.1;
    Some(of.to_owned())
}

/// What the ids of each type of stream begin with.
const STREAMS: [(&str, &str); 8] = [
    (GatewayId::PREFIX, "gateway"),
    (UserId::PREFIX, "user"),
    (NetworkId::PREFIX, "network"),
    (AccessRuleId::PREFIX, "access_rule"),
    (GeoFenceRuleId::PREFIX, "geo_fence_rule"),
    (CertificateId::PREFIX, "certificate"),
    (SessionId::PREFIX, "session"),
    (LoginId::PREFIX, "login"),
];
