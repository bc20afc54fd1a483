//! Loading an aggregate: its stream, through the stock cqrs-es repositories, folded into its state.

use super::keyring::Keyring;
use super::sealing::{Place, open_payload, people_in};
use super::upcast::{Upcasters, VersionError, Versioned};
use cqrs_es::persist::{PersistedEventRepository, PersistenceError, SerializedEvent};
use gatekey_aggregates::{Fact, Root};
use gatekey_projections::Db;
use postgres_es::PostgresEventRepository;
use sqlite_es::SqliteEventRepository;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The stock repositories, on the table shape that they define. For reading only: they can't write
/// a command's claims, secrets and views with its events.
enum Stock {
    Postgres(PostgresEventRepository),
    Sqlite(SqliteEventRepository),
}

/// Loads aggregates. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    stock: Arc<Stock>,
    keyring: Keyring,
    upcasters: Arc<Upcasters>,
}

/// An aggregate as its stream makes it.
#[derive(Clone, Debug)]
pub struct Loaded<A> {
    /// The state.
    pub state: A,
    /// How many events it has.
    pub version: i64,
    /// The sequence of the last event that changed what an admin writes; 0 before the first.
    pub revision: i64,
}

impl<A: Root> Loaded<A> {
    /// Before the first event.
    pub fn empty() -> Self {
        Self { state: A::default(), version: 0, revision: 0 }
    }

    /// Applies the next event.
    pub fn apply(&mut self, event: A::Event) {
        self.version += 1;
        if event.is_configuration() {
            self.revision = self.version;
        }
        self.state.apply(event);
    }
}

/// Why an aggregate could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The database did not answer.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The stream was written by a newer server.
    #[error("{aggregate_type} {aggregate_id} can't be read: {source}")]
    Newer {
        /// The aggregate's type.
        aggregate_type: &'static str,
        /// The aggregate's id.
        aggregate_id: String,
        /// What to do.
        source: VersionError,
    },
    /// The stream is not what was written.
    #[error("{aggregate_type} {aggregate_id} can't be read: {why}")]
    Corrupt {
        /// The aggregate's type.
        aggregate_type: &'static str,
        /// The aggregate's id.
        aggregate_id: String,
        /// What is wrong.
        why: String,
    },
}

impl Store {
    /// Over the events table of `db`.
    pub fn new(db: &Db, keyring: Keyring) -> Self {
        let stock = match db {
            Db::Postgres(pool, _) => Stock::Postgres(PostgresEventRepository::new(pool.clone())),
            Db::Sqlite { read, .. } => Stock::Sqlite(SqliteEventRepository::new(read.clone())),
        };
        Self { stock: Arc::new(stock), keyring, upcasters: Arc::new(Upcasters::ours()) }
    }

    /// With other upcasters than this server's.
    #[cfg(test)]
    pub fn with_upcasters(self, upcasters: Arc<Upcasters>) -> Self {
        Self { upcasters, ..self }
    }

    /// The aggregate with this id; an empty one if it has no events.
    pub async fn load<A: Root>(&self, id: &str) -> Result<Loaded<A>, LoadError> {
        let corrupt = |why: String| LoadError::Corrupt {
            aggregate_type: A::TYPE,
            aggregate_id: id.to_owned(),
            why,
        };
        let stored = match self.stock.as_ref() {
            Stock::Postgres(repository) => repository.get_events::<A>(id).await,
            Stock::Sqlite(repository) => repository.get_events::<A>(id).await,
        };
        let mut stored = stored.map_err(|error| match error {
            PersistenceError::DeserializationError(error) => corrupt(error.to_string()),
            other => LoadError::Unavailable(other.to_string()),
        })?;
        self.unseal(&mut stored).await?;
        let mut loaded = Loaded::empty();
        for event in stored {
            if i64::try_from(event.sequence).ok() != Some(loaded.version + 1) {
                return Err(corrupt(format!(
                    "event {} follows {}",
                    event.sequence, loaded.version
                )));
            }
            let stored = Versioned {
                aggregate_type: A::TYPE,
                aggregate_id: id,
                sequence: loaded.version + 1,
                event_type: &event.event_type,
                event_version: &event.event_version,
            };
            let payload =
                self.upcasters.payload(stored, event.payload).map_err(|why| match why {
                    source @ VersionError::Newer { .. } => LoadError::Newer {
                        aggregate_type: A::TYPE,
                        aggregate_id: id.to_owned(),
                        source,
                    },
                    none @ VersionError::NoUpcaster { .. } => corrupt(none.to_string()),
                })?;
            let event = serde_json::from_value(payload)
                .map_err(|error| corrupt(format!("event {}: {error}", event.sequence)))?;
            loaded.apply(event);
        }
        Ok(loaded)
    }

    async fn unseal(&self, events: &mut [SerializedEvent]) -> Result<(), LoadError> {
        let mut people = BTreeSet::new();
        for event in events.iter() {
            people_in(&event.payload, &mut people);
        }
        let keys = self
            .keyring
            .find(&people)
            .await
            .map_err(|error| LoadError::Unavailable(error.to_string()))?;
        for event in events {
            let place = Place {
                aggregate_type: &event.aggregate_type,
                aggregate_id: &event.aggregate_id,
                sequence: i64::try_from(event.sequence).unwrap_or(i64::MAX),
            };
            open_payload(&mut event.payload, place, &keys);
        }
        Ok(())
    }
}
