//! What is there now, and what it is called: in a file things are named, in events they have ids.

use crate::access::LoadError;
use chrono::{DateTime, Utc};
use gatekey_aggregates::values::{Cidr, NetworkId};
use gatekey_projections::Db;
use gatekey_projections::index::{Since, Snapshot, snapshot};
use std::collections::{BTreeMap, HashMap, HashSet};

/// Those who have something: what each is called in a file, by what it is known by in events.
pub type Holders = BTreeMap<String, String>;

/// All that can be in a file, as it is at one moment.
pub struct World {
    /// The views.
    pub now: Snapshot,
    /// What is called what.
    pub names: Names,
}

/// What is called what.
#[derive(Clone, Debug, Default)]
pub struct Names {
    users: HashMap<String, String>,
    usernames: HashMap<String, String>,
    networks: HashMap<String, KnownNetwork>,
    network_names: HashMap<NetworkId, String>,
    /// Those that a file is about to remove.
    leaving: HashSet<String>,
}

/// A network that can be named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownNetwork {
    /// Its id.
    pub id: NetworkId,
    /// Its name, as it is written.
    pub name: String,
    /// Its addresses.
    pub cidr: Cidr,
}

impl World {
    /// Reads it, in one transaction.
    pub async fn read(db: &Db) -> Result<Self, LoadError> {
        // Neither certificates nor logins, keys or lost connections are configuration.
        let never = DateTime::<Utc>::MAX_UTC;
        let since =
            Since { certificates: never, lost_connections: never, logins: never, api_keys: never };
        let now = snapshot(db, since).await?;
        let names = Names::of(&now)?;
        Ok(Self { now, names })
    }

    /// The users who have something, by its id. (`rows`: thing, user)
    pub fn users<'a>(&self, rows: impl Iterator<Item = (&'a String, &'a String)>) -> Given {
        Given::of(rows, |user| self.names.usernames.get(user).cloned())
    }

    /// The groups that have something, by its id. (`rows`: thing, group)
    pub fn groups<'a>(&self, rows: impl Iterator<Item = (&'a String, &'a String)>) -> Given {
        Given::of(rows, |group| Some(group.to_owned()))
    }

    /// The networks that something leads to, by its id. (`rows`: thing, network)
    pub fn networks<'a>(&self, rows: impl Iterator<Item = (&'a String, &'a String)>) -> Given {
        Given::of(rows, |id| self.names.network_named(&id.parse().ok()?).map(ToOwned::to_owned))
    }
}

/// Who has which thing.
pub struct Given(HashMap<String, Holders>);

impl Given {
    fn of<'a>(
        rows: impl Iterator<Item = (&'a String, &'a String)>,
        called: impl Fn(&str) -> Option<String>,
    ) -> Self {
        let mut given: HashMap<String, Holders> = HashMap::new();
        for (thing, holder) in rows {
            // Who is gone has nothing.
            if let Some(name) = called(holder) {
                given.entry(thing.clone()).or_default().insert(holder.clone(), name);
            }
        }
        Self(given)
    }

    /// Those who have this one. Once: it is moved out.
    pub fn take(&mut self, thing: &str) -> Holders {
        self.0.remove(thing).unwrap_or_default()
    }
}

impl Names {
    fn of(now: &Snapshot) -> Result<Self, LoadError> {
        let mut names = Self::default();
        for user in &now.users {
            for name in [&user.username, &user.email].into_iter().flatten() {
                names.users.insert(name.clone(), user.id.clone());
            }
            if let Some(name) = user.username.as_ref().or(user.email.as_ref()) {
                names.usernames.insert(user.id.clone(), name.clone());
            }
        }
        for row in &now.networks {
            let id = LoadError::read("networks", &row.id, &row.id)?;
            let cidr = LoadError::read("networks", &row.id, &row.cidr)?;
            names.add_network(KnownNetwork { id, name: row.name.clone(), cidr });
        }
        Ok(names)
    }

    /// From now on it can be named.
    pub fn add_network(&mut self, network: KnownNetwork) {
        let key = network.name.to_lowercase();
        self.leaving.remove(&key);
        self.network_names.insert(network.id.clone(), network.name.clone());
        self.networks.insert(key, network);
    }

    /// From now on it can't be named any more.
    pub fn remove_network(&mut self, name: &str) {
        let key = name.to_lowercase();
        self.networks.remove(&key);
        self.leaving.insert(key);
    }

    /// The network of that name.
    pub fn network(&self, name: &str) -> Result<&KnownNetwork, String> {
        let key = name.trim().to_lowercase();
        self.networks.get(&key).ok_or_else(|| {
            if self.leaving.contains(&key) {
                "is a network that is to be removed: it is not under `networks`".to_owned()
            } else {
                "is the name of no network".to_owned()
            }
        })
    }

    /// What the network with this id is called.
    pub fn network_named(&self, id: &NetworkId) -> Option<&str> {
        self.network_names.get(id).map(String::as_str)
    }

    /// The network with this id.
    pub fn network_by_id(&self, id: &NetworkId) -> Option<&KnownNetwork> {
        self.networks.get(&self.network_named(id)?.to_lowercase())
    }

    /// The id of the user of that name or e-mail address, and their name.
    pub fn user(&self, name: &str) -> Result<(String, String), String> {
        let id = self.users.get(&name.trim().to_lowercase());
        let id = id.ok_or("is neither the user name nor the e-mail address of anybody here")?;
        let called = self.usernames.get(id).cloned().unwrap_or_else(|| name.to_owned());
        Ok((id.clone(), called))
    }
}
