//! The statements of the log writer's transaction, each for a whole batch.

use super::append::{Append, RequestKey};
use super::decide::Facts;
use chrono::{DateTime, Utc};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{ClaimKind, ClaimRule, Recorded};
use gatekey_projections::{Conn, Dialect, Statements};
use serde_json::json;
use std::collections::{BTreeSet, HashMap, HashSet};

/// `PostgreSQL`'s key for the lock: "GateKey" in ASCII.
pub(super) const LOCK: i64 = 0x0047_6174_654b_6579;

/// The end of the log.
#[derive(sqlx::FromRow)]
pub(super) struct Head {
    pub position: i64,
    pub recorded_at: i64,
    pub epoch: i64,
}

/// The head, and what is asked with it: both in JSON.
#[derive(sqlx::FromRow)]
struct FactsRow {
    #[sqlx(flatten)]
    head: Head,
    /// The length of each stream, in the order of asking.
    versions: String,
    /// Kind, key and owner of each claim.
    owners: Option<String>,
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

/// What the batch's decisions depend on, in one statement.
pub(super) async fn read_facts(
    conn: &mut Conn,
    appends: &[Append],
) -> Result<(Head, Facts), sqlx::Error> {
    let streams = || appends.iter().flat_map(|append| &append.streams);
    let claims = || streams().flat_map(|it| it.takes.iter().chain(&it.releases));
    let asked: Vec<_> = streams()
        .enumerate()
        .map(|(n, it)| json!([n, it.aggregate_type, it.aggregate_id]))
        .collect();
    let touched: BTreeSet<_> = claims().map(|it| (it.kind.as_str(), &it.key)).collect();
    let whole: BTreeSet<&str> = claims()
        .filter(|it| it.kind.rule() != ClaimRule::Unique)
        .map(|it| it.kind.as_str())
        .collect();
    let sql = facts_sql(conn.dialect(), !touched.is_empty(), &whole);
    let mut args = vec![to_json(&asked)?.into()];
    if !touched.is_empty() {
        args.push(to_json(&touched)?.into());
    }
    let row: FactsRow = conn.one(&sql, &args).await?;

    let mut facts = Facts::default();
    let versions: Vec<(usize, i64)> = from_json(&row.versions)?;
    let versions: HashMap<usize, i64> = versions.into_iter().collect();
    for (n, it) in streams().enumerate() {
        let stream = (it.aggregate_type.to_owned(), it.aggregate_id.clone());
        facts.versions.insert(stream, versions.get(&n).copied().unwrap_or(0));
    }
    let owners: Vec<(ClaimKind, String, String)> =
        row.owners.as_deref().map_or(Ok(Vec::new()), from_json)?;
    facts.owners = owners.into_iter().map(|(kind, key, owner)| ((kind, key), owner)).collect();
    Ok((row.head, facts))
}

/// Reads the head, the lengths of the streams in `$1`, and the owners of claims: of those in `$2`,
/// and of `whole` kinds.
fn facts_sql(dialect: Dialect, touched: bool, whole: &BTreeSet<&str>) -> String {
    let mut owners = Vec::new();
    if touched {
        let columns = ["kind", "key"];
        owners.push(dialect.look_up_those("$2", "claims", &columns, "t.kind, t.key, t.owner"));
    }
    for kind in whole {
        owners.push(format!("SELECT kind, key, owner FROM claims WHERE kind = '{kind}'"));
    }
    let owners = match owners.join(" UNION ALL ").as_str() {
        "" => "NULL".to_owned(),
        owners => {
            let gathered = dialect.gather(&["o.kind", "o.key", "o.owner"]);
            format!("(SELECT {gathered} FROM ({owners}) o)")
        }
    };
    format!(
        "SELECT position, recorded_at, epoch, \
           (SELECT {} FROM (SELECT CAST(k.value->>0 AS BIGINT) AS n, \
              COALESCE((SELECT MAX(e.sequence) FROM events e \
                WHERE e.aggregate_type = k.value->>1 AND e.aggregate_id = k.value->>2), 0) AS version \
            FROM {} WHERE true) s) AS versions, \
           CAST({owners} AS TEXT) AS owners \
         FROM head WHERE id = 1",
        dialect.gather(&["s.n", "s.version"]),
        dialect.each("$1", "k"),
    )
}

fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, sqlx::Error> {
    serde_json::from_str(text).map_err(|error| sqlx::Error::Decode(Box::new(error)))
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String, sqlx::Error> {
    serde_json::to_string(value).map_err(|error| sqlx::Error::Encode(Box::new(error)))
}

pub(super) fn store_events(
    accepted: &[&Append],
    recorded: &[Recorded],
    into: &mut Statements,
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
    let each = into.dialect().each("$1", "k");
    let (number, text) = match into.dialect() {
        Dialect::Postgres => ("bigint", "json"),
        Dialect::Sqlite => ("integer", "text"),
    };
    let sql = format!(
        "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, \
           payload, metadata, position, recorded_at) \
         SELECT k.value->>0, k.value->>1, CAST(k.value->>2 AS {number}), k.value->>3, k.value->>4, \
           CAST(k.value->>5 AS {text}), CAST(k.value->>6 AS {text}), \
           CAST(k.value->>7 AS {number}), CAST(k.value->>8 AS {number}) \
         FROM {each} WHERE true"
    );
    into.add(sql, [to_json(&rows)?.into()]);
    Ok(())
}

pub(super) fn store_claims(facts: &Facts, into: &mut Statements) -> Result<(), sqlx::Error> {
    let each = into.dialect().each("$1", "k");
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
        into.add(sql, [to_json(&released)?.into()]);
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
        into.add(sql, [to_json(&taken)?.into()]);
    }
    Ok(())
}

pub(super) fn store_secrets(
    accepted: &[&Append],
    into: &mut Statements,
) -> Result<(), sqlx::Error> {
    let each = into.dialect().each("$1", "k");
    let forgotten: Vec<_> = accepted.iter().flat_map(|it| &it.forgotten).collect();
    if !forgotten.is_empty() {
        let sql = format!("DELETE FROM secrets WHERE id IN (SELECT k.value->>0 FROM {each})");
        let ids: Vec<_> = forgotten.iter().map(|id| json!([id])).collect();
        into.add(sql, [to_json(&ids)?.into()]);
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
        into.add(sql, [to_json(&rows)?.into()]);
    }
    Ok(())
}

/// The idempotency keys of the batch that were used before and have not expired.
pub(super) async fn read_keys(
    conn: &mut Conn,
    appends: &[Append],
    now: DateTime<Utc>,
) -> Result<HashSet<RequestKey>, sqlx::Error> {
    let asked: Vec<_> = appends
        .iter()
        .filter_map(|append| append.answering.as_ref()?.keep.as_ref())
        .map(|(it, _)| json!([it.caller, it.route, it.key]))
        .collect();
    if asked.is_empty() {
        return Ok(HashSet::new());
    }
    let columns = ["caller", "route", "key"];
    let select = "t.caller, t.route, t.key, t.expires_at";
    let sql = conn.dialect().look_up("idempotency_keys", &columns, select);
    let rows: Vec<(String, String, String, i64)> =
        conn.all(&sql, &[to_json(&asked)?.into()]).await?;
    let used = rows.into_iter().filter(|(.., expires_at)| *expires_at > micros(now));
    Ok(used.map(|(caller, route, key, _)| RequestKey { caller, route, key }).collect())
}

/// Keeps answers under their keys. An expired one makes way.
pub(super) fn store_answers(
    kept: &[(RequestKey, DateTime<Utc>, String)],
    into: &mut Statements,
) -> Result<(), sqlx::Error> {
    if kept.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = kept
        .iter()
        .map(|(it, until, sealed)| json!([it.caller, it.route, it.key, sealed, micros(*until)]))
        .collect();
    let each = into.dialect().each("$1", "k");
    let sql = format!(
        "INSERT INTO idempotency_keys (caller, route, key, sealed, expires_at) \
         SELECT k.value->>0, k.value->>1, k.value->>2, k.value->>3, CAST(k.value->>4 AS BIGINT) \
         FROM {each} WHERE true \
         ON CONFLICT (caller, route, key) DO UPDATE \
           SET sealed = excluded.sealed, expires_at = excluded.expires_at"
    );
    into.add(sql, [to_json(&rows)?.into()]);
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
