//! The people's keys: made when a person is first written about, kept sealed in the database,
//! destroyed to forget the person.

use super::sealing::Keys;
use crate::clock::Clock;
use crate::secrets::{MasterKey, PersonKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use gatekey_aggregates::PersonId;
use gatekey_projections::{Arg, Db};
use parking_lot::Mutex;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Keys kept in memory. A cache: past this, half of them are dropped.
const CACHED: usize = 10_000;

/// Gives the keys of people. Cheap to clone.
#[derive(Clone)]
pub struct Keyring {
    db: Db,
    master: Arc<MasterKey>,
    clock: Clock,
    cache: Arc<Mutex<HashMap<PersonId, Arc<PersonKey>>>>,
}

/// Why there are no keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyringError {
    /// The database did not answer.
    #[error("the keys of people could not be read: {0}")]
    Database(#[from] sqlx::Error),
    /// The operating system has no randomness, or a stored key is damaged.
    #[error("the key of {0} is unusable")]
    Unusable(String),
}

#[derive(sqlx::FromRow)]
struct KeyRow {
    person: String,
    sealed: Option<String>,
}

impl Keyring {
    /// Over the `person_keys` table.
    pub fn new(db: Db, master: Arc<MasterKey>, clock: Clock) -> Self {
        Self { db, master, clock, cache: Arc::default() }
    }

    /// The keys of `people`, as far as they exist. For reading.
    pub async fn find(&self, people: &BTreeSet<PersonId>) -> Result<Keys, KeyringError> {
        let mut keys = self.cached(people);
        let missing: Vec<_> =
            people.iter().filter(|it| !keys.contains_key(*it)).map(|it| [it.as_str()]).collect();
        if missing.is_empty() {
            return Ok(keys);
        }
        let sql = self.db.dialect().look_up("person_keys", &["person"], "t.person, t.sealed");
        let wanted = serde_json::to_string(&missing)
            .map_err(|error| sqlx::Error::Encode(Box::new(error)))?;
        for row in self.db.all::<KeyRow>(&sql, &[wanted.into()]).await? {
            let person = PersonId::from(row.person);
            if let Some(sealed) = row.sealed {
                let key = Arc::new(self.unseal(&person, &sealed)?);
                keys.insert(person, key);
            }
        }
        self.remember(&keys);
        Ok(keys)
    }

    /// The keys of `people`, made where there are none. For writing. A person whose key was
    /// destroyed gets no new one: the result then lacks it, and nothing can be sealed.
    pub async fn ensure(&self, people: &BTreeSet<PersonId>) -> Result<Keys, KeyringError> {
        let mut keys = self.find(people).await?;
        let missing: BTreeSet<PersonId> =
            people.iter().filter(|it| !keys.contains_key(*it)).cloned().collect();
        for person in &missing {
            let unusable = || KeyringError::Unusable(person.as_str().to_owned());
            let (_, sealed) =
                PersonKey::generate(&self.master, person.as_str()).map_err(|_| unusable())?;
            // Two nodes may make one at once; the first stays, and both read it back. A key that no
            // event comes to use does no harm.
            let args: [Arg; 2] = [person.as_str().into(), STANDARD_NO_PAD.encode(sealed).into()];
            let sql = "INSERT INTO person_keys (person, sealed) VALUES ($1, $2) \
                       ON CONFLICT (person) DO NOTHING";
            self.db.execute(sql, &args).await?;
        }
        if !missing.is_empty() {
            keys.extend(self.find(&missing).await?);
        }
        Ok(keys)
    }

    /// Whose key seals what is written about people nobody knows, today.
    pub fn unknown_person(&self) -> PersonId {
        PersonId::unknown_on(self.clock.now().date_naive())
    }

    fn unseal(&self, person: &PersonId, sealed: &str) -> Result<PersonKey, KeyringError> {
        let unusable = || KeyringError::Unusable(person.as_str().to_owned());
        let sealed = STANDARD_NO_PAD.decode(sealed).map_err(|_| unusable())?;
        PersonKey::unseal(&self.master, person.as_str(), &sealed).map_err(|_| unusable())
    }

    fn cached(&self, people: &BTreeSet<PersonId>) -> Keys {
        let cache = self.cache.lock();
        people.iter().filter_map(|it| Some((it.clone(), cache.get(it)?.clone()))).collect()
    }

    fn remember(&self, keys: &Keys) {
        let mut cache = self.cache.lock();
        if cache.len() + keys.len() > CACHED {
            let mut keep = false;
            cache.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
        cache.extend(keys.iter().map(|(person, key)| (person.clone(), key.clone())));
    }
}
