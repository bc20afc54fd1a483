//! Reading the log by position. Only the index, the rebuild, followers and the audit may.

use super::keyring::{Keyring, KeyringError};
use super::sealing::{Keys, Place, open_metadata, open_payload, people_in};
use super::upcast::{Upcasters, VersionError, Versioned};
use gatekey_aggregates::values::from_micros;
use gatekey_aggregates::{DecodeError, Event, Metadata, PersonId, Recorded};
use gatekey_projections::{Arg, Db};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Reads events as they were before they were sealed. Cheap to clone.
#[derive(Clone)]
pub struct Reader {
    db: Db,
    keyring: Keyring,
    upcasters: Arc<Upcasters>,
}

/// Why the log could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The database did not answer.
    #[error("the log could not be read: {0}")]
    Database(#[from] sqlx::Error),
    /// The people's keys could not be had.
    #[error(transparent)]
    Keys(#[from] KeyringError),
    /// A row is not what was written.
    #[error("the event at position {position} can't be read: {source}")]
    Decode {
        /// Where.
        position: i64,
        /// What is wrong.
        source: DecodeError,
    },
    /// A row is of a version that can't be read here.
    #[error("the event at position {position} can't be read: {source}")]
    Version {
        /// Where.
        position: i64,
        /// Which version, and what to do.
        source: VersionError,
    },
    /// A row's JSON is broken.
    #[error("the event at position {position} is not valid JSON: {source}")]
    Json {
        /// Where.
        position: i64,
        /// What is wrong.
        source: serde_json::Error,
    },
}

/// An event as it is stored.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredEvent {
    /// Place in the log.
    pub position: i64,
    /// Microseconds since 1970.
    pub recorded_at: i64,
    /// The aggregate's type.
    pub aggregate_type: String,
    /// The aggregate's id.
    pub aggregate_id: String,
    /// Place in the stream.
    pub sequence: i64,
    /// The stable code, such as `gateway.updated`.
    pub event_type: String,
    /// The version of the payload.
    pub event_version: String,
    /// The payload's JSON.
    pub payload: String,
    /// The metadata's JSON.
    pub metadata: String,
}

/// A row that is not what was written, or of a version that is not known here.
#[derive(Debug)]
pub struct Unreadable {
    /// As it is stored.
    pub row: StoredEvent,
    /// Its circumstances, if at least these can be read.
    pub metadata: Option<Metadata>,
    /// What is wrong.
    pub why: ReadError,
}

/// The columns of [`StoredEvent`].
const COLUMNS: &str = "position, recorded_at, aggregate_type, aggregate_id, sequence, \
    event_type, event_version, \
    CAST(payload AS TEXT) AS payload, CAST(metadata AS TEXT) AS metadata";

impl Reader {
    /// Reads `db` with the keys of `keyring`.
    pub fn new(db: Db, keyring: Keyring) -> Self {
        Self { db, keyring, upcasters: Arc::new(Upcasters::ours()) }
    }

    /// With other upcasters than this server's.
    #[cfg(test)]
    pub fn with_upcasters(self, upcasters: Arc<Upcasters>) -> Self {
        Self { upcasters, ..self }
    }

    /// Up to `limit` events after `position`, in order.
    pub async fn after(&self, position: i64, limit: i64) -> Result<Vec<Recorded>, ReadError> {
        let sql =
            format!("SELECT {COLUMNS} FROM events WHERE position > $1 ORDER BY position LIMIT $2");
        let rows = self.db.all::<StoredEvent>(&sql, &[position.into(), limit.into()]).await?;
        self.open(rows).await
    }

    /// The same, of aggregates of these types only.
    pub async fn after_of(
        &self,
        types: &[&str],
        position: i64,
        limit: i64,
    ) -> Result<Vec<Recorded>, ReadError> {
        let each = self.db.dialect().each("$2", "k");
        let sql = format!(
            "SELECT {COLUMNS} FROM events WHERE position > $1 \
             AND aggregate_type IN (SELECT k.value->>0 FROM {each}) ORDER BY position LIMIT $3"
        );
        let types: Vec<[&str; 1]> = types.iter().map(|it| [*it]).collect();
        let types = serde_json::json!(types).to_string();
        let args: [Arg; 3] = [position.into(), types.into(), limit.into()];
        let rows = self.db.all::<StoredEvent>(&sql, &args).await?;
        self.open(rows).await
    }

    /// The last position of the log.
    pub async fn head(&self) -> Result<i64, ReadError> {
        let row: (i64,) = self.db.one("SELECT position FROM head WHERE id = 1", &[]).await?;
        Ok(row.0)
    }

    /// One stream, in order. `type` and `id` as stored.
    pub async fn stream(
        &self,
        aggregate_type: &str,
        aggregate_id: &str,
    ) -> Result<Vec<Recorded>, ReadError> {
        let sql = format!(
            "SELECT {COLUMNS} FROM events WHERE aggregate_type = $1 AND aggregate_id = $2 \
             ORDER BY sequence"
        );
        let args: [Arg; 2] = [aggregate_type.into(), aggregate_id.into()];
        let rows = self.db.all::<StoredEvent>(&sql, &args).await?;
        self.open(rows).await
    }

    /// Opens what is sealed in stored rows. One that can't be read spoils all.
    pub async fn open(&self, rows: Vec<StoredEvent>) -> Result<Vec<Recorded>, ReadError> {
        let opened = self.open_each(rows).await?;
        opened.into_iter().map(|it| it.map_err(|it| it.why)).collect()
    }

    /// Opens what is sealed in stored rows, each by itself.
    pub async fn open_each(
        &self,
        rows: Vec<StoredEvent>,
    ) -> Result<Vec<Result<Recorded, Box<Unreadable>>>, ReadError> {
        let mut people = BTreeSet::new();
        let mut parsed = Vec::with_capacity(rows.len());
        for row in rows {
            let payload: Result<Value, _> = serde_json::from_str(&row.payload);
            let metadata: Result<HashMap<String, String>, _> = serde_json::from_str(&row.metadata);
            if let Ok(payload) = &payload {
                people_in(payload, &mut people);
            }
            if let Ok(metadata) = &metadata
                && let Some(person) = metadata.get("person")
            {
                people.insert(PersonId::from(person.clone()));
            }
            parsed.push((row, payload, metadata));
        }
        let keys = self.keyring.find(&people).await?;
        let decode = |(row, payload, metadata)| self.decode(row, payload, metadata, &keys);
        Ok(parsed.into_iter().map(decode).collect())
    }

    fn decode(
        &self,
        row: StoredEvent,
        payload: Result<Value, serde_json::Error>,
        metadata: Result<HashMap<String, String>, serde_json::Error>,
        keys: &Keys,
    ) -> Result<Recorded, Box<Unreadable>> {
        let place = Place {
            aggregate_type: &row.aggregate_type,
            aggregate_id: &row.aggregate_id,
            sequence: row.sequence,
        };
        let position = row.position;
        let json = |source| ReadError::Json { position, source };
        let event = payload.map_err(json).and_then(|mut payload| {
            open_payload(&mut payload, place, keys);
            let stored = Versioned {
                aggregate_type: &row.aggregate_type,
                aggregate_id: &row.aggregate_id,
                sequence: row.sequence,
                event_type: &row.event_type,
                event_version: &row.event_version,
            };
            let version = |source| ReadError::Version { position, source };
            let payload = self.upcasters.payload(stored, payload).map_err(version)?;
            Event::decode(&row.aggregate_type, payload)
                .map_err(|source| ReadError::Decode { position, source })
        });
        let metadata = metadata.map_err(json).map(|mut metadata| {
            open_metadata(&mut metadata, place, keys);
            Metadata::from_map(&metadata)
        });
        match (event, metadata) {
            (Ok(event), Ok(metadata)) => Ok(Recorded {
                position,
                recorded_at: from_micros(row.recorded_at),
                aggregate_type: row.aggregate_type,
                aggregate_id: row.aggregate_id,
                sequence: row.sequence,
                event,
                metadata,
            }),
            (Err(why), metadata) => Err(Box::new(Unreadable { row, metadata: metadata.ok(), why })),
            (Ok(_), Err(why)) => Err(Box::new(Unreadable { row, metadata: None, why })),
        }
    }
}
