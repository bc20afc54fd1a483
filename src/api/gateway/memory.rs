//! What this node remembers between two reports of an agent.
//!
//! OpenVPN runs client-disconnect even after a refused connect, and agents send no id of the
//! connection. So a refused connect is remembered, and swallows its one disconnect: it must not end
//! another connection of the same person.
//!
//! Other nodes know nothing of it: an agent that is balanced over several nodes may have the
//! disconnect of a refused connect end an older connection of that person from that address. Agents
//! that name the connection when it ends, as ours do, don't depend on it.

use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::{GatewayId, Serial, SessionId};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

/// For how long a refused connect swallows a disconnect.
const REMEMBERED: TimeDelta = TimeDelta::minutes(2);
/// Clients whose refused connects are remembered at once; past this, the old ones go first.
const MAX: usize = 10_000;
/// Refused connects remembered of one client.
const MAX_EACH: usize = 100;

type Key = (GatewayId, String, Option<IpAddr>);

/// A connect that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    at: DateTime<Utc>,
    /// The connection that may have begun nevertheless.
    pub session_id: Option<SessionId>,
}

/// Remembers refused connects. Cheap to clone.
#[derive(Clone, Default)]
pub struct ConnectMemory {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    refused: HashMap<Key, Vec<Refused>>,
    /// Connections that may have begun though their client was refused.
    unwanted: HashMap<SessionId, DateTime<Utc>>,
}

impl ConnectMemory {
    /// A connect was refused. Where its connection may have begun nevertheless, it has an id.
    pub fn refused(
        &self,
        gateway_id: &GatewayId,
        common_name: &str,
        client_ip: Option<IpAddr>,
        session_id: Option<SessionId>,
        now: DateTime<Utc>,
    ) {
        let inner = &mut *self.inner.lock();
        make_room(&mut inner.refused, MAX, |all| all.iter().any(|it| is_remembered(it.at, now)));
        make_room(&mut inner.unwanted, MAX, |at| is_remembered(*at, now));
        if let Some(id) = &session_id {
            inner.unwanted.insert(id.clone(), now);
        }
        let key = (gateway_id.clone(), common_name.to_owned(), client_ip);
        let all = inner.refused.entry(key).or_default();
        all.retain(|it| is_remembered(it.at, now));
        if all.len() < MAX_EACH {
            all.push(Refused { at: now, session_id });
        }
    }

    /// A disconnect came: the refused connect that it belongs to. Each swallows one.
    pub fn swallows(
        &self,
        gateway_id: &GatewayId,
        common_name: &str,
        client_ip: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> Option<Refused> {
        let inner = &mut *self.inner.lock();
        let key = (gateway_id.clone(), common_name.to_owned(), client_ip);
        let all = inner.refused.get_mut(&key)?;
        all.retain(|it| is_remembered(it.at, now));
        let swallowed = all.pop();
        if all.is_empty() {
            inner.refused.remove(&key);
        }
        swallowed
    }

    /// The connection of a refused connect has ended by its own name: there is nothing left to
    /// swallow.
    pub fn ended(
        &self,
        gateway_id: &GatewayId,
        common_name: &str,
        client_ip: Option<IpAddr>,
        session_id: &SessionId,
    ) {
        let inner = &mut *self.inner.lock();
        let key = (gateway_id.clone(), common_name.to_owned(), client_ip);
        if let Some(all) = inner.refused.get_mut(&key) {
            all.retain(|it| it.session_id.as_ref() != Some(session_id));
            if all.is_empty() {
                inner.refused.remove(&key);
            }
        }
    }

    /// Whether a connection began, if it did, though its client was refused: it is about to end.
    pub fn is_unwanted(&self, session_id: &SessionId) -> bool {
        self.inner.lock().unwanted.contains_key(session_id)
    }
}

fn is_remembered(at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
    now - at <= REMEMBERED
}

fn make_room<K, V>(map: &mut HashMap<K, V>, max: usize, is_remembered: impl Fn(&V) -> bool) {
    if map.len() >= max {
        map.retain(|_, it| is_remembered(it));
        if map.len() >= max {
            map.clear();
        }
    }
}

/// For how long a client that polls is known by its address after its connection ended here.
const POLLED: TimeDelta = TimeDelta::hours(1);
/// Addresses whose clients are remembered at once; past this, the old ones go first.
const MAX_POLLED: usize = 100_000;

/// Remembers with which certificate, and from where, who polls came in, should the connection end here
/// and go on there. Cheap to clone.
#[derive(Clone, Default)]
pub struct PollMemory {
    polled: Arc<Mutex<HashMap<(GatewayId, IpAddr), Polled>>>,
}

struct Polled {
    at: DateTime<Utc>,
    common_name: String,
    serial: Serial,
    client_ip: Option<IpAddr>,
}

impl PollMemory {
    /// A client whose connection is known has polled.
    pub fn saw(
        &self,
        gateway_id: &GatewayId,
        vpn_ip: IpAddr,
        common_name: &str,
        (serial, client_ip): (&Serial, Option<IpAddr>),
        now: DateTime<Utc>,
    ) {
        let polled = &mut *self.polled.lock();
        make_room(polled, MAX_POLLED, |it| now - it.at <= POLLED);
        let (common_name, serial) = (common_name.to_owned(), serial.clone());
        let seen = Polled { at: now, common_name, serial, client_ip };
        polled.insert((gateway_id.clone(), vpn_ip), seen);
    }

    /// The certificate of the client of that name that was last known at an address, and from where
    /// it came.
    pub fn client(
        &self,
        gateway_id: &GatewayId,
        vpn_ip: IpAddr,
        common_name: &str,
        now: DateTime<Utc>,
    ) -> Option<(Serial, Option<IpAddr>)> {
        let polled = self.polled.lock();
        let seen = polled.get(&(gateway_id.clone(), vpn_ip))?;
        let is_it = seen.common_name == common_name && now - seen.at <= POLLED;
        is_it.then(|| (seen.serial.clone(), seen.client_ip))
    }
}

/// Lets one task at a time run for each gateway, connection or the like. Cheap to clone.
#[derive(Clone)]
pub struct Turns<K: Eq + Hash> {
    taken: Arc<Mutex<HashSet<K>>>,
}

impl<K: Eq + Hash> Default for Turns<K> {
    fn default() -> Self {
        Self { taken: Arc::default() }
    }
}

/// Somebody's turn, until it is dropped.
pub struct Turn<K: Eq + Hash> {
    taken: Arc<Mutex<HashSet<K>>>,
    key: K,
}

impl<K: Eq + Hash + Clone> Turns<K> {
    /// The turn of `key`, unless it is taken.
    pub fn begin(&self, key: &K) -> Option<Turn<K>> {
        let is_free = self.taken.lock().insert(key.clone());
        is_free.then(|| Turn { taken: self.taken.clone(), key: key.clone() })
    }
}

impl<K: Eq + Hash> Drop for Turn<K> {
    fn drop(&mut self) {
        self.taken.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connect_swallows_one_disconnect_of_its_own_within_two_minutes() {
        let memory = ConnectMemory::default();
        let gateway: GatewayId = "gw-1".parse().unwrap();
        let ip = Some("192.0.2.7".parse().unwrap());
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let refused = |session_id| memory.refused(&gateway, "ada", ip, session_id, now);
        let swallows =
            |name, ip, at| memory.swallows(&gateway, name, ip, at).map(|it| it.session_id);
        refused(None);
        assert_eq!(swallows("eve", ip, now), None);
        assert_eq!(swallows("ada", None, now), None);
        assert_eq!(swallows("ada", ip, now + TimeDelta::minutes(2)), Some(None));
        assert_eq!(swallows("ada", ip, now), None);
        refused(None);
        assert_eq!(swallows("ada", ip, now + TimeDelta::seconds(121)), None);

        let session: SessionId = "con-1".parse().unwrap();
        assert!(!memory.is_unwanted(&session));
        refused(Some(session.clone()));
        assert_eq!(swallows("ada", ip, now), Some(Some(session.clone())));
        assert!(memory.is_unwanted(&session));

        refused(Some(session.clone()));
        memory.ended(&gateway, "eve", ip, &session);
        memory.ended(&gateway, "ada", ip, &"con-2".parse().unwrap());
        assert_eq!(swallows("ada", ip, now), Some(Some(session.clone())));
        refused(Some(session.clone()));
        memory.ended(&gateway, "ada", ip, &session);
        assert_eq!(swallows("ada", ip, now), None);
    }

    #[test]
    fn a_turn_is_one_tasks_until_it_is_over() {
        let turns = Turns::default();
        let turn = turns.begin(&1);
        assert!(turn.is_some() && turns.begin(&1).is_none() && turns.begin(&2).is_some());
        drop(turn);
        assert!(turns.begin(&1).is_some());
    }
}
