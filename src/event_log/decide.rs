//! Which commands of a batch may be written: decided in memory, in arrival order, on facts that
//! were read under the writer's lock. Pure.

use super::append::{Append, AppendError, RequestKey, StreamAppend};
use gatekey_aggregates::values::Cidr;
use gatekey_aggregates::{Claim, ClaimKind, ClaimRule};
use std::collections::{BTreeMap, HashMap, HashSet};

/// What the batch's decisions depend on, and then what they make of it.
#[derive(Debug, Default)]
pub struct Facts {
    /// The length of each stream that the batch touches. A stream that is missing is empty.
    pub versions: HashMap<(String, String), i64>,
    /// Who holds each claim that the batch touches, and every claim of the kinds that must be
    /// disjoint or never empty.
    pub owners: BTreeMap<(ClaimKind, String), String>,
    /// Idempotency keys of the batch that were used before.
    pub keys: HashSet<RequestKey>,
    /// The claims as the batch leaves them: an owner, or none where one was released.
    pub changed: BTreeMap<(ClaimKind, String), Option<String>>,
}

impl Facts {
    /// Accepts a command and makes its changes to the facts, or refuses it and makes none.
    pub fn admit(&mut self, append: &Append) -> Result<(), AppendError> {
        check_streams_differ(append)?;
        let key = append.answering.as_ref().and_then(|it| it.keep.as_ref()).map(|(key, _)| key);
        if key.is_some_and(|key| self.keys.contains(key)) {
            return Err(AppendError::KeyUsed);
        }
        for stream in &append.streams {
            self.check_version(stream)?;
        }
        let released: Vec<(&Claim, &str)> = append
            .streams
            .iter()
            .flat_map(|stream| stream.releases.iter().map(|c| (c, stream.aggregate_id.as_str())))
            .collect();
        let is_released = |kind: ClaimKind, key: &str, owner: &str| {
            released.iter().any(|(c, by)| c.kind == kind && c.key == key && *by == owner)
        };
        for stream in &append.streams {
            for claim in &stream.takes {
                self.check_claim(claim, &stream.aggregate_id, is_released)?;
            }
        }
        self.check_none_emptied(append)?;
        self.apply(append);
        self.keys.extend(key.cloned());
        Ok(())
    }

    fn check_version(&self, stream: &StreamAppend) -> Result<(), AppendError> {
        let key = (stream.aggregate_type.to_owned(), stream.aggregate_id.clone());
        if self.versions.get(&key).copied().unwrap_or(0) == stream.expected_version {
            return Ok(());
        }
        Err(AppendError::Stale {
            aggregate_type: stream.aggregate_type,
            aggregate_id: stream.aggregate_id.clone(),
        })
    }

    fn check_claim(
        &self,
        claim: &Claim,
        claimant: &str,
        is_released: impl Fn(ClaimKind, &str, &str) -> bool,
    ) -> Result<(), AppendError> {
        let others =
            |key: &str, owner: &str| owner != claimant && !is_released(claim.kind, key, owner);
        match claim.kind.rule() {
            ClaimRule::Unique | ClaimRule::NeverEmpty => {
                match self.owners.get(&(claim.kind, claim.key.clone())) {
                    Some(owner) if others(&claim.key, owner) => Err(AppendError::Taken {
                        kind: claim.kind,
                        key: claim.key.clone(),
                        owner: owner.clone(),
                    }),
                    _ => Ok(()),
                }
            }
            ClaimRule::Disjoint => {
                let Ok(cidr) = claim.key.parse::<Cidr>() else {
                    return Err(AppendError::Broken(format!("{} is no CIDR", claim.key)));
                };
                let clash = self.of_kind(claim.kind).find(|(key, owner)| {
                    others(key, owner) && key.parse::<Cidr>().is_ok_and(|it| it.overlaps(&cidr))
                });
                match clash {
                    Some((other, owner)) => Err(AppendError::Overlaps {
                        kind: claim.kind,
                        key: claim.key.clone(),
                        other: other.to_owned(),
                        owner: owner.to_owned(),
                    }),
                    None => Ok(()),
                }
            }
        }
    }

    fn check_none_emptied(&self, append: &Append) -> Result<(), AppendError> {
        for stream in &append.streams {
            for claim in &stream.releases {
                if claim.kind.rule() != ClaimRule::NeverEmpty {
                    continue;
                }
                let left = self.of_kind(claim.kind).any(|(key, _)| {
                    !append
                        .streams
                        .iter()
                        .any(|s| s.releases.iter().any(|r| r.kind == claim.kind && r.key == key))
                });
                let taken =
                    append.streams.iter().any(|s| s.takes.iter().any(|t| t.kind == claim.kind));
                if !left && !taken {
                    return Err(AppendError::LastOne { kind: claim.kind });
                }
            }
        }
        Ok(())
    }

    fn of_kind(&self, kind: ClaimKind) -> impl Iterator<Item = (&str, &str)> {
        self.owners
            .range((kind, String::new())..)
            .take_while(move |((it, _), _)| *it == kind)
            .map(|((_, key), owner)| (key.as_str(), owner.as_str()))
    }

    fn apply(&mut self, append: &Append) {
        for stream in &append.streams {
            let key = (stream.aggregate_type.to_owned(), stream.aggregate_id.clone());
            let added = i64::try_from(stream.events.len()).unwrap_or(i64::MAX);
            self.versions.insert(key, stream.expected_version.saturating_add(added));
            for claim in &stream.releases {
                let key = (claim.kind, claim.key.clone());
                if self.owners.get(&key) == Some(&stream.aggregate_id) {
                    self.owners.remove(&key);
                    self.changed.insert(key, None);
                }
            }
        }
        for stream in &append.streams {
            for claim in &stream.takes {
                let key = (claim.kind, claim.key.clone());
                self.owners.insert(key.clone(), stream.aggregate_id.clone());
                self.changed.insert(key, Some(stream.aggregate_id.clone()));
            }
        }
    }
}

/// Two decisions on one stream were made without knowing of each other.
fn check_streams_differ(append: &Append) -> Result<(), AppendError> {
    let mut seen = HashSet::new();
    match append.streams.iter().find(|it| !seen.insert((it.aggregate_type, &it.aggregate_id))) {
        None => Ok(()),
        Some(StreamAppend { aggregate_type, aggregate_id, .. }) => Err(AppendError::Broken(
            format!("{aggregate_type} {aggregate_id} is decided on twice in one command"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::super::append::Answering;
    use super::*;
    use chrono::DateTime;
    use std::sync::Arc;
    use uuid::Uuid;

    fn append(id: &str, version: i64, takes: &[Claim], releases: &[Claim]) -> Append {
        Append {
            command_id: Uuid::nil(),
            streams: vec![StreamAppend {
                aggregate_type: "gateway",
                aggregate_id: id.to_owned(),
                expected_version: version,
                events: Vec::new(),
                takes: takes.to_vec(),
                releases: releases.to_vec(),
            }],
            secrets: Vec::new(),
            forgotten: Vec::new(),
            answering: None,
        }
    }

    fn keyed(mut append: Append, key: &str) -> Append {
        let request_key =
            RequestKey { caller: "usr-a".into(), route: "POST /x".into(), key: key.to_owned() };
        append.answering = Some(Answering {
            make: Arc::new(|_| Ok(None)),
            keep: Some((request_key, DateTime::UNIX_EPOCH)),
        });
        append
    }

    fn name(key: &str) -> Claim {
        Claim::new(ClaimKind::GatewayName, key)
    }

    fn subnet(key: &str) -> Claim {
        Claim::new(ClaimKind::VpnSubnet, key)
    }

    fn admin(key: &str) -> Claim {
        Claim::new(ClaimKind::ActiveAdmin, key)
    }

    #[test]
    fn a_stale_version_is_refused() {
        let mut facts = Facts::default();
        facts.versions.insert(("gateway".into(), "gw-a".into()), 2);
        assert!(matches!(
            facts.admit(&append("gw-a", 1, &[], &[])),
            Err(AppendError::Stale { .. })
        ));
        assert_eq!(facts.admit(&append("gw-a", 2, &[], &[])), Ok(()));
    }

    #[test]
    fn a_command_decides_once_on_a_stream() {
        let mut facts = Facts::default();
        let mut twice = append("gw-a", 0, &[name("east")], &[]);
        twice.streams.extend(append("gw-a", 0, &[], &[]).streams);
        assert!(matches!(facts.admit(&twice), Err(AppendError::Broken(_))));
        assert!(facts.changed.is_empty());
        twice.streams[1].aggregate_type = "network";
        assert_eq!(facts.admit(&twice), Ok(()));
    }

    #[test]
    fn the_first_of_a_batch_gets_the_name() {
        let mut facts = Facts::default();
        assert_eq!(facts.admit(&append("gw-a", 0, &[name("east")], &[])), Ok(()));
        assert!(matches!(
            facts.admit(&append("gw-b", 0, &[name("east")], &[])),
            Err(AppendError::Taken { owner, .. }) if owner == "gw-a"
        ));
    }

    #[test]
    fn a_released_name_is_free_again_in_the_same_batch() {
        let mut facts = Facts::default();
        facts.owners.insert((ClaimKind::GatewayName, "east".into()), "gw-a".into());
        assert_eq!(facts.admit(&append("gw-a", 0, &[], &[name("east")])), Ok(()));
        assert_eq!(facts.admit(&append("gw-b", 0, &[name("east")], &[])), Ok(()));
        assert_eq!(
            facts.changed.get(&(ClaimKind::GatewayName, "east".into())),
            Some(&Some("gw-b".into()))
        );
    }

    #[test]
    fn a_claim_moves_within_one_command() {
        let mut facts = Facts::default();
        facts.owners.insert((ClaimKind::GatewayName, "east".into()), "gw-a".into());
        let mut both = append("gw-b", 0, &[name("east")], &[]);
        both.streams.extend(append("gw-a", 0, &[], &[name("east")]).streams);
        assert_eq!(facts.admit(&both), Ok(()));
        assert_eq!(facts.owners[&(ClaimKind::GatewayName, "east".into())], "gw-b");
    }

    #[test]
    fn another_owners_claim_is_never_released() {
        let mut facts = Facts::default();
        facts.owners.insert((ClaimKind::GatewayName, "east".into()), "gw-a".into());
        assert_eq!(facts.admit(&append("gw-b", 0, &[], &[name("east")])), Ok(()));
        assert_eq!(facts.owners[&(ClaimKind::GatewayName, "east".into())], "gw-a");
        assert!(facts.changed.is_empty());
    }

    #[test]
    fn overlapping_networks_are_refused_and_name_the_other() {
        let mut facts = Facts::default();
        assert_eq!(facts.admit(&append("gw-a", 0, &[subnet("10.8.0.0/16")], &[])), Ok(()));
        assert!(matches!(
            facts.admit(&append("gw-b", 0, &[subnet("10.8.1.0/24")], &[])),
            Err(AppendError::Overlaps { other, owner, .. }) if other == "10.8.0.0/16" && owner == "gw-a"
        ));
        // Its own old network is no obstacle to growing.
        assert_eq!(
            facts.admit(&append("gw-a", 0, &[subnet("10.0.0.0/8")], &[subnet("10.8.0.0/16")])),
            Ok(())
        );
    }

    #[test]
    fn the_last_admin_stays() {
        let mut facts = Facts::default();
        assert_eq!(facts.admit(&append("usr-a", 0, &[admin("usr-a")], &[])), Ok(()));
        assert_eq!(
            facts.admit(&append("usr-a", 0, &[], &[admin("usr-a")])),
            Err(AppendError::LastOne { kind: ClaimKind::ActiveAdmin })
        );
        assert_eq!(facts.admit(&append("usr-b", 0, &[admin("usr-b")], &[])), Ok(()));
        assert_eq!(facts.admit(&append("usr-a", 0, &[], &[admin("usr-a")])), Ok(()));
        assert_eq!(
            facts.admit(&append("usr-b", 0, &[], &[admin("usr-b")])),
            Err(AppendError::LastOne { kind: ClaimKind::ActiveAdmin })
        );
    }

    #[test]
    fn a_key_is_used_once_and_before_anything_else_is_refused() {
        let mut facts = Facts::default();
        let first = keyed(append("gw-a", 0, &[name("east")], &[]), "k");
        assert_eq!(facts.admit(&first), Ok(()));
        let twin = keyed(append("gw-b", 0, &[name("east")], &[]), "k");
        assert_eq!(facts.admit(&twin), Err(AppendError::KeyUsed));
        let other = keyed(append("gw-b", 0, &[name("east")], &[]), "other");
        assert!(matches!(facts.admit(&other), Err(AppendError::Taken { .. })));
        // What was refused has not used its key.
        let again = keyed(append("gw-b", 0, &[name("west")], &[]), "other");
        assert_eq!(facts.admit(&again), Ok(()));
    }

    #[test]
    fn a_refused_command_changes_nothing() {
        let mut facts = Facts::default();
        facts.owners.insert((ClaimKind::VpnSubnet, "10.8.0.0/16".into()), "gw-a".into());
        let refused = append("gw-b", 0, &[name("west"), subnet("10.8.0.0/24")], &[]);
        assert!(facts.admit(&refused).is_err());
        assert!(facts.changed.is_empty());
        assert!(facts.versions.is_empty());
    }
}
