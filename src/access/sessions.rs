//! The VPN connections that the hot path knows, and every way in which it finds them.

use chrono::{DateTime, Utc};
use gatekey_aggregates::values::{CertificateId, CommonName, GatewayId, Serial, SessionId, UserId};
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::net::IpAddr;

/// A VPN connection that is open, or was lost with its gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct SessionEntry {
    /// Its id.
    pub id: SessionId,
    /// Where.
    pub gateway_id: GatewayId,
    /// Who.
    pub user_id: UserId,
    /// With what.
    pub certificate_id: CertificateId,
    /// Its serial.
    pub serial: Serial,
    /// The common name, where it can still be read.
    pub common_name: Option<CommonName>,
    /// From where.
    pub client_ip: Option<IpAddr>,
    /// Its VPN address.
    pub vpn_ip: Option<IpAddr>,
    /// Its IPv6 VPN address.
    pub vpn_ipv6: Option<IpAddr>,
    /// Since when.
    pub connected_at: DateTime<Utc>,
    /// When it was lost; none while it is open.
    pub lost_at: Option<DateTime<Utc>>,
    /// Position of its beginning: orders connections by age.
    pub began: i64,
}

/// Ids by the position of their beginning.
type ByAge = BTreeMap<i64, SessionId>;
/// A gateway, who is connected to it, and from where.
type Client = (GatewayId, CommonName, Option<IpAddr>);

/// Open connections, and those lost with their gateway. A report about one of many thousands finds
/// it without looking at the others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sessions {
    entries: HashMap<SessionId, SessionEntry>,
    by_gateway: HashMap<GatewayId, ByAge>,
    /// At most one of them is open.
    by_address: HashMap<(GatewayId, IpAddr), ByAge>,
    by_client: HashMap<Client, ByAge>,
    by_user: HashMap<UserId, ByAge>,
}

impl Sessions {
    /// Adds a connection as it is.
    pub fn insert(&mut self, entry: SessionEntry) {
        let (began, id) = (entry.began, &entry.id);
        enter(&mut self.by_gateway, entry.gateway_id.clone(), began, id);
        enter(&mut self.by_user, entry.user_id.clone(), began, id);
        for address in addresses(&entry) {
            enter(&mut self.by_address, address, began, id);
        }
        if let Some(client) = client(&entry) {
            enter(&mut self.by_client, client, began, id);
        }
        self.entries.insert(entry.id.clone(), entry);
    }

    /// Forgets a connection.
    pub fn remove(&mut self, id: &SessionId) {
        let Some(entry) = self.entries.remove(id) else { return };
        strike(&mut self.by_gateway, &entry.gateway_id, entry.began);
        strike(&mut self.by_user, &entry.user_id, entry.began);
        for address in addresses(&entry) {
            strike(&mut self.by_address, &address, entry.began);
        }
        if let Some(client) = client(&entry) {
            strike(&mut self.by_client, &client, entry.began);
        }
    }

    /// Notes when a connection was lost, or that it is not.
    pub fn set_lost(&mut self, id: &SessionId, lost_at: Option<DateTime<Utc>>) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.lost_at = lost_at;
        }
    }

    /// The connection with this id.
    pub fn get(&self, id: &SessionId) -> Option<&SessionEntry> {
        self.entries.get(id)
    }

    /// All of them, in no order.
    pub fn all(&self) -> impl Iterator<Item = &SessionEntry> {
        self.entries.values()
    }

    /// A gateway's, the newest first.
    pub fn of_gateway(
        &self,
        gateway_id: &GatewayId,
    ) -> impl Iterator<Item = &SessionEntry> + Clone {
        self.newest_first(self.by_gateway.get(gateway_id))
    }

    /// A user's, the newest first.
    pub fn of_user(&self, user_id: &UserId) -> impl Iterator<Item = &SessionEntry> + Clone {
        self.newest_first(self.by_user.get(user_id))
    }

    /// Those of a common name at a gateway, from where it is said that they come, the newest first.
    pub fn of_client(
        &self,
        gateway_id: &GatewayId,
        common_name: &CommonName,
        client_ip: Option<IpAddr>,
    ) -> impl Iterator<Item = &SessionEntry> + Clone {
        let client = (gateway_id.clone(), common_name.clone(), client_ip);
        self.newest_first(self.by_client.get(&client))
    }

    /// Those that have, or had when they were lost, a VPN address, the newest first.
    pub fn at_address(
        &self,
        gateway_id: &GatewayId,
        ip: IpAddr,
    ) -> impl Iterator<Item = &SessionEntry> + Clone {
        self.newest_first(self.by_address.get(&(gateway_id.clone(), ip)))
    }

    /// The one that has a VPN address; if none is open, the newest that was lost.
    pub fn holder(&self, gateway_id: &GatewayId, ip: IpAddr) -> Option<&SessionEntry> {
        let mut newest_first = self.at_address(gateway_id, ip);
        let newest = newest_first.clone().next();
        newest_first.find(|it| it.lost_at.is_none()).or(newest)
    }

    fn newest_first<'a>(
        &'a self,
        ids: Option<&'a ByAge>,
    ) -> impl Iterator<Item = &'a SessionEntry> + Clone {
        let ids = ids.into_iter().flat_map(|it| it.values().rev());
        ids.filter_map(|id| self.entries.get(id))
    }
}

fn addresses(entry: &SessionEntry) -> impl Iterator<Item = (GatewayId, IpAddr)> {
    let ips = [entry.vpn_ip, entry.vpn_ipv6].into_iter().flatten();
    ips.map(|ip| (entry.gateway_id.clone(), ip))
}

fn client(entry: &SessionEntry) -> Option<Client> {
    let name = entry.common_name.clone()?;
    Some((entry.gateway_id.clone(), name, entry.client_ip))
}

fn enter<K: Eq + Hash>(index: &mut HashMap<K, ByAge>, key: K, began: i64, id: &SessionId) {
    index.entry(key).or_default().insert(began, id.clone());
}

fn strike<K: Eq + Hash>(index: &mut HashMap<K, ByAge>, key: &K, began: i64) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&began);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GATEWAYS: [&str; 2] = ["gw-east", "gw-west"];
    const NAMES: [&str; 2] = ["ada@example.com", "bob@example.com"];

    /// What can be done to the connections.
    #[derive(Clone, Debug)]
    enum Step {
        Insert { gateway: usize, name: Option<usize>, from: Option<u8>, vpn: Option<u8> },
        Remove(usize),
        SetLost(usize, bool),
    }

    fn step() -> impl Strategy<Value = Step> {
        let insert = (0..2usize, proptest::option::of(0..2usize))
            .prop_flat_map(|known| (Just(known), any::<Option<bool>>(), any::<Option<bool>>()));
        prop_oneof![
            3 => insert.prop_map(|((gateway, name), from, vpn)| Step::Insert {
                gateway,
                name,
                from: from.map(u8::from),
                vpn: vpn.map(u8::from),
            }),
            1 => (0..30usize).prop_map(Step::Remove),
            1 => (0..30usize, any::<bool>()).prop_map(|(n, is)| Step::SetLost(n, is)),
        ]
    }

    fn id(n: usize) -> SessionId {
        format!("con-{n}").parse().unwrap()
    }

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn take(sessions: &mut Sessions, n: usize, step: Step) {
        match step {
            Step::Insert { gateway, name, from, vpn } => sessions.insert(SessionEntry {
                id: id(n),
                gateway_id: GATEWAYS[gateway].parse().unwrap(),
                user_id: format!("usr-{}", name.unwrap_or(9)).parse().unwrap(),
                certificate_id: "cfg-1".parse().unwrap(),
                serial: "5a".parse().unwrap(),
                common_name: name.map(|it| NAMES[it].parse().unwrap()),
                client_ip: from.map(ip),
                vpn_ip: vpn.map(ip),
                vpn_ipv6: None,
                connected_at: DateTime::UNIX_EPOCH,
                lost_at: None,
                began: i64::try_from(n).unwrap(),
            }),
            Step::Remove(n) => sessions.remove(&id(n)),
            Step::SetLost(n, is) => sessions.set_lost(&id(n), is.then_some(DateTime::UNIX_EPOCH)),
        }
    }

    /// The same by looking at every one.
    fn by_looking(
        sessions: &Sessions,
        is_meant: impl Fn(&SessionEntry) -> bool,
    ) -> Vec<&SessionEntry> {
        let mut found: Vec<_> = sessions.all().filter(|it| is_meant(it)).collect();
        found.sort_by_key(|it| -it.began);
        found
    }

    proptest! {
        #[test]
        fn every_way_finds_what_looking_at_each_would(steps in proptest::collection::vec(step(), 1..40)) {
            let mut sessions = Sessions::default();
            for (n, step) in steps.into_iter().enumerate() {
                take(&mut sessions, n, step);
            }
            for gateway in GATEWAYS.map(|it| it.parse::<GatewayId>().unwrap()) {
                let here = |it: &SessionEntry| it.gateway_id == gateway;
                prop_assert_eq!(
                    sessions.of_gateway(&gateway).collect::<Vec<_>>(),
                    by_looking(&sessions, here)
                );
                for from in [None, Some(ip(0)), Some(ip(1))] {
                    for name in NAMES.map(|it| it.parse::<CommonName>().unwrap()) {
                        prop_assert_eq!(
                            sessions.of_client(&gateway, &name, from).collect::<Vec<_>>(),
                            by_looking(&sessions, |it| here(it)
                                && it.common_name.as_ref() == Some(&name)
                                && it.client_ip == from)
                        );
                    }
                    let Some(vpn_ip) = from else { continue };
                    let held = by_looking(&sessions, |it| here(it) && it.vpn_ip == from);
                    prop_assert_eq!(
                        sessions.holder(&gateway, vpn_ip),
                        held.iter().find(|it| it.lost_at.is_none()).or(held.first()).copied()
                    );
                }
            }
            for user in ["usr-0", "usr-1", "usr-9"].map(|it| it.parse::<UserId>().unwrap()) {
                prop_assert_eq!(
                    sessions.of_user(&user).collect::<Vec<_>>(),
                    by_looking(&sessions, |it| it.user_id == user)
                );
            }
            let all: Vec<SessionId> = sessions.all().map(|it| it.id.clone()).collect();
            for id in &all {
                sessions.remove(id);
            }
            prop_assert_eq!(sessions, Sessions::default());
        }
    }
}
