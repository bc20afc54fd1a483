//! What this node remembers between two reports of an agent, for two minutes.
//!
//! OpenVPN runs client-disconnect even after a refused connect, and agents send no id of the
//! connection. So a refused connect is remembered, and swallows its one disconnect: it must not end
//! another connection of the same person.

use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::GatewayId;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

/// For how long a refused connect swallows a disconnect.
const REMEMBERED: TimeDelta = TimeDelta::minutes(2);
/// Refused connects remembered at once; past this, the old ones go first.
const MAX: usize = 10_000;

type Key = (GatewayId, String, Option<IpAddr>);

/// Remembers refused connects. Cheap to clone.
#[derive(Clone, Default)]
pub struct ConnectMemory {
    refused: Arc<Mutex<HashMap<Key, Vec<DateTime<Utc>>>>>,
}

impl ConnectMemory {
    /// A connect was refused.
    pub fn refused(
        &self,
        gateway_id: &GatewayId,
        common_name: &str,
        client_ip: Option<IpAddr>,
        now: DateTime<Utc>,
    ) {
        let mut refused = self.refused.lock();
        if refused.len() >= MAX {
            refused.retain(|_, times| times.iter().any(|at| now - *at <= REMEMBERED));
            if refused.len() >= MAX {
                refused.clear();
            }
        }
        let key = (gateway_id.clone(), common_name.to_owned(), client_ip);
        let times = refused.entry(key).or_default();
        times.retain(|at| now - *at <= REMEMBERED);
        times.push(now);
    }

    /// A disconnect came: whether it belongs to a refused connect. Each swallows one.
    pub fn swallows(
        &self,
        gateway_id: &GatewayId,
        common_name: &str,
        client_ip: Option<IpAddr>,
        now: DateTime<Utc>,
    ) -> bool {
        let mut refused = self.refused.lock();
        let key = (gateway_id.clone(), common_name.to_owned(), client_ip);
        let Some(times) = refused.get_mut(&key) else { return false };
        times.retain(|at| now - *at <= REMEMBERED);
        let swallowed = times.pop().is_some();
        if times.is_empty() {
            refused.remove(&key);
        }
        swallowed
    }
}

/// Lets one task at a time run for each gateway. Cheap to clone.
#[derive(Clone, Default)]
pub struct Turns {
    taken: Arc<Mutex<HashSet<GatewayId>>>,
}

/// A gateway's turn, until it is dropped.
pub struct Turn {
    taken: Arc<Mutex<HashSet<GatewayId>>>,
    gateway_id: GatewayId,
}

impl Turns {
    /// The gateway's turn, unless it is taken.
    pub fn begin(&self, gateway_id: &GatewayId) -> Option<Turn> {
        let is_free = self.taken.lock().insert(gateway_id.clone());
        is_free.then(|| Turn { taken: self.taken.clone(), gateway_id: gateway_id.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.taken.lock().remove(&self.gateway_id);
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
        memory.refused(&gateway, "ada", ip, now);
        assert!(!memory.swallows(&gateway, "eve", ip, now));
        assert!(!memory.swallows(&gateway, "ada", None, now));
        assert!(memory.swallows(&gateway, "ada", ip, now + TimeDelta::minutes(2)));
        assert!(!memory.swallows(&gateway, "ada", ip, now));
        memory.refused(&gateway, "ada", ip, now);
        assert!(!memory.swallows(&gateway, "ada", ip, now + TimeDelta::seconds(121)));
    }
}
