//! The statements of the log writer's transaction, each for a whole batch.

use super::append::Append;
use super::decide::Facts;
use chrono::{DateTime, Utc};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{ClaimKind, ClaimRule, Recorded};
use gatekey_projections::{Conn, Dialect};
use serde_json::json;
use std::collections::BTreeSet;

/// `PostgreSQL`'s key for the lock: "GateKey" in ASCII.
pub(super) const LOCK: i64 = 0x0047_6174_654b_6579;

/// The end of the log.
#[derive(sqlx::FromRow)]
pub(super) struct Head {
    pub position: i64,
    pub recorded_at: i64,
    pub epoch: i64,
}

#[derive(sqlx::FromRow)]
struct VersionRow {
    aggregate_type: String,
    aggregate_id: String,
    version: i64,
}

#[derive(sqlx::FromRow)]
struct OwnerRow {
    kind: String,
    key: String,
    owner: String,
}

/// Opens the transaction and waits for the lock: a statement of its own, else the head that is read
/// with it could be older than the lock.
pub(super) async fn lock(conn: &mut Conn) -> Result<(), sqlx::Error> {
    match conn.dialect() {
        Dialect::Postgres => {
            conn.script(&format!("BEGIN; SELECT pg_advisory_xact_lock({LOCK})")).await
        }
        Dialect::Sqlite => conn.begin().await,
    }
}

/// What ends the transaction, but for COMMIT: the head moves, and the other nodes hear of it.
pub(super) fn end_sql(dialect: Dialect, position: i64, recorded_at: DateTime<Utc>) -> String {
    let time = micros(recorded_at);
    let update =
        format!("UPDATE head SET position = {position}, recorded_at = {time} WHERE id = 1");
    match dialect {
        Dialect::Postgres => format!("{update}; NOTIFY gatekey_log, '{position}'; "),
        Dialect::Sqlite => format!("{update}; "),
    }
}

/// What the batch's decisions depend on.
pub(super) async fn read_facts(
    conn: &mut Conn,
    appends: &[Append],
) -> Result<(Head, Facts), sqlx::Error> {
    let head: Head =
        conn.one("SELECT position, recorded_at, epoch FROM head WHERE id = 1", &[]).await?;
    let streams = || appends.iter().flat_map(|append| &append.streams);
    let mut facts = Facts::default();

    let wanted: Vec<_> = streams().map(|it| json!([it.aggregate_type, it.aggregate_id])).collect();
    let each = conn.dialect().each("$1", "k");
    let sql = format!(
        "SELECT k.value->>0 AS aggregate_type, k.value->>1 AS aggregate_id, \
           CAST(COALESCE((SELECT MAX(e.sequence) FROM events e \
             WHERE e.aggregate_type = k.value->>0 AND e.aggregate_id = k.value->>1), 0) AS BIGINT) AS version \
         FROM {each}"
    );
    let rows: Vec<VersionRow> = conn.all(&sql, &[to_json(&wanted)?.into()]).await?;
    facts.versions =
        rows.into_iter().map(|row| ((row.aggregate_type, row.aggregate_id), row.version)).collect();

    let claims = || streams().flat_map(|it| it.takes.iter().chain(&it.releases));
    let wanted: BTreeSet<_> = claims().map(|it| (it.kind.as_str(), &it.key)).collect();
    if !wanted.is_empty() {
        let sql = conn.dialect().look_up("claims", &["kind", "key"], "t.kind, t.key, t.owner");
        let rows: Vec<OwnerRow> = conn.all(&sql, &[to_json(&wanted)?.into()]).await?;
        add_owners(&mut facts, rows);
    }
    let whole: BTreeSet<ClaimKind> =
        claims().map(|it| it.kind).filter(|kind| kind.rule() != ClaimRule::Unique).collect();
    for kind in whole {
        let sql = "SELECT kind, key, owner FROM claims WHERE kind = $1";
        let rows: Vec<OwnerRow> = conn.all(sql, &[kind.as_str().into()]).await?;
        add_owners(&mut facts, rows);
    }
    Ok((head, facts))
}

fn add_owners(facts: &mut Facts, rows: Vec<OwnerRow>) {
    for row in rows {
        if let Ok(kind) = serde_json::from_value::<ClaimKind>(row.kind.into()) {
            facts.owners.insert((kind, row.key), row.owner);
        }
    }
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

pub(super) async fn store_events(
    conn: &mut Conn,
    accepted: &[&Append],
    recorded: &[Recorded],
) -> Result<(), sqlx::Error> {
    let new = accepted.iter().flat_map(|it| &it.streams).flat_map(|it| &it.events);
    // Payload and metadata travel as strings inside the JSON: their bytes are stored as they are.
    let rows: Vec<_> = new
        .zip(recorded)
        .map(|(new, at)| {
            json!([
                at.aggregate_type,
                at.aggregate_id,
                at.sequence,
                new.event.code(),
                new.version,
                new.payload,
                new.stored_metadata,
                at.position,
                micros(at.recorded_at),
            ])
        })
        .collect();
    let each = conn.dialect().each("$1", "k");
    let (number, text) = match conn.dialect() {
        Dialect::Postgres => ("bigint", "json"),
        Dialect::Sqlite => ("integer", "text"),
    };
    let sql = format!(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, \
           payload, metadata, position, recorded_at) \
         SELECT k.value->>0, k.value->>1, CAST(k.value->>2 AS {number}), k.value->>3, k.value->>4, \
           CAST(k.value->>5 AS {text}), CAST(k.value->>6 AS {text}), \
           CAST(k.value->>7 AS {number}), CAST(k.value->>8 AS {number}) \
         FROM {each}"
    );
    conn.execute(&sql, &[to_json(&rows)?.into()]).await.map(drop)
}

pub(super) async fn store_claims(conn: &mut Conn, facts: &Facts) -> Result<(), sqlx::Error> {
    let each = conn.dialect().each("$1", "k");
    let released: Vec<_> = facts
        .changed
        .iter()
        .filter(|(_, owner)| owner.is_none())
        .map(|((kind, key), _)| json!([kind.as_str(), key]))
        .collect();
    if !released.is_empty() {
        let sql = format!(
            "DELETE FROM claims WHERE (kind, key) IN (SELECT k.value->>0, k.value->>1 FROM {each})"
        );
        conn.execute(&sql, &[to_json(&released)?.into()]).await?;
    }
    let taken: Vec<_> = facts
        .changed
        .iter()
        .filter_map(|((kind, key), owner)| Some(json!([kind.as_str(), key, owner.as_ref()?])))
        .collect();
    if !taken.is_empty() {
        let sql = format!(
            "INSERT INTO claims (kind, key, owner) \
             SELECT k.value->>0, k.value->>1, k.value->>2 FROM {each} WHERE true \
             ON CONFLICT (kind, key) DO UPDATE SET owner = excluded.owner"
        );
        conn.execute(&sql, &[to_json(&taken)?.into()]).await?;
    }
    Ok(())
}

pub(super) async fn store_secrets(
    conn: &mut Conn,
    accepted: &[&Append],
) -> Result<(), sqlx::Error> {
    let each = conn.dialect().each("$1", "k");
    let forgotten: Vec<_> = accepted.iter().flat_map(|it| &it.forgotten).collect();
    if !forgotten.is_empty() {
        let sql = format!("DELETE FROM secrets WHERE id IN (SELECT k.value->>0 FROM {each})");
        let ids: Vec<_> = forgotten.iter().map(|id| json!([id])).collect();
        conn.execute(&sql, &[to_json(&ids)?.into()]).await?;
    }
    let rows: Vec<_> = accepted
        .iter()
        .flat_map(|it| &it.secrets)
        .map(|it| json!([it.id, it.sealed, it.expires_at.map(micros)]))
        .collect();
    if !rows.is_empty() {
        let sql = format!(
            "INSERT INTO secrets (id, sealed, expires_at) \
             SELECT k.value->>0, k.value->>1, CAST(k.value->>2 AS BIGINT) FROM {each}"
        );
        conn.execute(&sql, &[to_json(&rows)?.into()]).await?;
    }
    Ok(())
}

#[derive(sqlx::FromRow)]
struct MetadataRow {
    command_id: Option<String>,
}

/// The command that wrote the event at `position`, if any did.
pub(super) async fn look_up(conn: &mut Conn, position: i64) -> Result<Option<String>, sqlx::Error> {
    lock(conn).await?;
    let sql = "SELECT metadata->>'command_id' AS command_id FROM events WHERE position = $1";
    let row: Option<MetadataRow> = conn.optional(sql, &[position.into()]).await?;
    conn.rollback().await?;
    Ok(row.and_then(|row| row.command_id))
}
