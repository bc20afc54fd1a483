//! What things claim, and whom another claim would clash with: the log writer's rules, asked before
//! anything is written.

use gatekey_aggregates::values::Cidr;
use gatekey_aggregates::{Claim, ClaimKind, ClaimRule};
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

/// Claims and who holds them.
#[derive(Clone, Debug, Default)]
pub struct Claims {
    unique: HashMap<(ClaimKind, String), String>,
    /// By their first address. No two overlap.
    networks: HashMap<ClaimKind, BTreeMap<IpAddr, (Cidr, String)>>,
}

/// What is in a claim's way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clash {
    /// What is claimed already: the same, or an overlapping network.
    pub key: String,
    /// The id of who holds it.
    pub owner: String,
}

impl Claims {
    /// `owner` claims it. What is held by others stays theirs.
    pub fn take(&mut self, claim: &Claim, owner: &str) -> Result<(), Clash> {
        if let Some(clash) = self.clash(claim) {
            return if clash.owner == owner && clash.key == claim.key {
                Ok(())
            } else {
                Err(clash)
            };
        }
        match network(claim) {
            Some(cidr) => {
                let held = self.networks.entry(claim.kind).or_default();
                held.insert(cidr.net().network(), (cidr, owner.to_owned()));
            }
            None => {
                self.unique.insert((claim.kind, claim.key.clone()), owner.to_owned());
            }
        }
        Ok(())
    }

    /// `owner` claims it no longer.
    pub fn release(&mut self, claim: &Claim, owner: &str) {
        if let Some(cidr) = network(claim) {
            let held = self.networks.entry(claim.kind).or_default();
            let first = cidr.net().network();
            if held.get(&first).is_some_and(|(it, by)| *it == cidr && by == owner) {
                held.remove(&first);
            }
        } else {
            let key = (claim.kind, claim.key.clone());
            if self.unique.get(&key).is_some_and(|by| by == owner) {
                self.unique.remove(&key);
            }
        }
    }

    fn clash(&self, claim: &Claim) -> Option<Clash> {
        let Some(cidr) = network(claim) else {
            let owner = self.unique.get(&(claim.kind, claim.key.clone()))?;
            return Some(Clash { key: claim.key.clone(), owner: owner.clone() });
        };
        let held = self.networks.get(&claim.kind)?;
        let first = cidr.net().network();
        // None of them overlaps another, so only the nearest ones can overlap this.
        let before = held.range(..=first).next_back();
        let after = held.range(first..).next();
        let (_, (other, owner)) =
            [before, after].into_iter().flatten().find(|(_, (it, _))| it.overlaps(&cidr))?;
        Some(Clash { key: other.to_string(), owner: owner.clone() })
    }
}

fn network(claim: &Claim) -> Option<Cidr> {
    (claim.kind.rule() == ClaimRule::Disjoint).then(|| claim.key.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cidr(key: impl Into<String>) -> Claim {
        Claim::new(ClaimKind::NetworkCidr, key)
    }

    fn clash(key: &str, owner: &str) -> Result<(), Clash> {
        Err(Clash { key: key.to_owned(), owner: owner.to_owned() })
    }

    #[test]
    fn a_name_has_one_owner_of_each_kind() {
        let mut claims = Claims::default();
        let name = Claim::new(ClaimKind::NetworkName, "office");
        assert_eq!(claims.take(&name, "net-a"), Ok(()));
        assert_eq!(claims.take(&name, "net-a"), Ok(()));
        assert_eq!(claims.take(&name, "net-b"), clash("office", "net-a"));
        assert_eq!(claims.take(&Claim::new(ClaimKind::GatewayName, "office"), "gw-a"), Ok(()));
        claims.release(&name, "net-b");
        assert_eq!(claims.take(&name, "net-b"), clash("office", "net-a"));
        claims.release(&name, "net-a");
        assert_eq!(claims.take(&name, "net-b"), Ok(()));
    }

    #[test]
    fn networks_overlap_from_inside_and_outside() {
        let mut claims = Claims::default();
        for (key, owner) in [("10.1.0.0/16", "net-a"), ("10.3.0.0/16", "net-b")] {
            assert_eq!(claims.take(&cidr(key), owner), Ok(()));
        }
        assert_eq!(claims.take(&cidr("10.1.2.0/24"), "net-c"), clash("10.1.0.0/16", "net-a"));
        assert_eq!(claims.take(&cidr("10.2.0.0/15"), "net-c"), clash("10.3.0.0/16", "net-b"));
        assert_eq!(claims.take(&cidr("10.2.0.0/16"), "net-c"), Ok(()));
        assert_eq!(claims.take(&cidr("::/0"), "net-d"), Ok(()));
        claims.release(&cidr("10.1.0.0/16"), "net-a");
        assert_eq!(claims.take(&cidr("10.1.2.0/24"), "net-a"), Ok(()));
    }

    proptest! {
        /// It finds a clash where looking at each would.
        #[test]
        fn only_the_nearest_need_be_looked_at(nets in proptest::collection::vec((0..64_u32, 24..=32_u8), 0..40)) {
            let mut claims = Claims::default();
            let mut held: Vec<Cidr> = Vec::new();
            for (n, (host, length)) in nets.into_iter().enumerate() {
                let net = ipnet::Ipv4Net::new((0x0a00_0000 + host * 8).into(), length).unwrap();
                let net: Cidr = net.trunc().to_string().parse().unwrap();
                let free = !held.iter().any(|it| it.overlaps(&net));
                prop_assert_eq!(claims.take(&cidr(net.to_string()), &n.to_string()).is_ok(), free);
                if free {
                    held.push(net);
                }
            }
        }
    }
}
