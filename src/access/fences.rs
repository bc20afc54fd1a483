//! The geo-fence as the hot path knows it: its settings, its rules, and every way in which a
//! decision finds them.

use super::state::leave_out;
use gatekey_aggregates::geo_fence::Values;
use gatekey_aggregates::geo_fence_rule::{Definition, Event};
use gatekey_aggregates::values::{GeoFenceRuleId, GroupName, UserId};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// A rule of the fence that was not deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct FenceEntry {
    /// What it lists.
    pub definition: Definition,
    /// Whether it counts for everybody who has no rule of their own or of a group.
    pub global: bool,
    /// Users for whom it counts by themselves.
    pub users: HashSet<UserId>,
    /// Groups for whose members it counts.
    pub groups: HashSet<GroupName>,
}

impl FenceEntry {
    /// A rule that is attached to nothing.
    pub fn new(definition: Definition) -> Self {
        Self { definition, global: false, users: HashSet::new(), groups: HashSet::new() }
    }
}

/// Ids, in order.
pub type FenceRules = BTreeSet<GeoFenceRuleId>;

/// The fence. What is attached to nothing is in none of the ways to find it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fences {
    /// Whether it is on, and what becomes of those outside.
    pub settings: Values,
    entries: BTreeMap<GeoFenceRuleId, FenceEntry>,
    by_user: HashMap<UserId, FenceRules>,
    by_group: HashMap<GroupName, FenceRules>,
    global: FenceRules,
}

impl Fences {
    /// Folds the next event of a rule in.
    pub fn apply(&mut self, id: GeoFenceRuleId, event: &Event) {
        match event {
            Event::Created { definition } => {
                self.remove(&id);
                self.insert(id, FenceEntry::new(definition.clone()));
            }
            Event::Updated { definition } => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.definition = definition.clone();
                }
            }
            Event::GloballyAttached {} => self.attach_globally(&id),
            Event::GloballyDetached {} => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.global = false;
                    self.global.remove(&id);
                }
            }
            Event::GroupAttached { group } => self.attach_group(&id, group.clone()),
            Event::GroupDetached { group } => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.groups.remove(group);
                    leave_out(&mut self.by_group, group, &id);
                }
            }
            Event::UserAttached { user_id } => self.attach_user(&id, user_id.clone()),
            Event::UserDetached { user_id } => {
                if let Some(entry) = self.entries.get_mut(&id) {
                    entry.users.remove(user_id);
                    leave_out(&mut self.by_user, user_id, &id);
                }
            }
            Event::Deleted {} => self.remove(&id),
        }
    }

    /// Adds a rule that is attached to nothing yet.
    pub fn insert(&mut self, id: GeoFenceRuleId, entry: FenceEntry) {
        self.entries.insert(id, entry);
    }

    /// Lets a rule, if there is one, count for everybody.
    pub fn attach_globally(&mut self, id: &GeoFenceRuleId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.global = true;
            self.global.insert(id.clone());
        }
    }

    /// Lets a rule, if there is one, count for a group's members.
    pub fn attach_group(&mut self, id: &GeoFenceRuleId, group: GroupName) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.groups.insert(group.clone());
            self.by_group.entry(group).or_default().insert(id.clone());
        }
    }

    /// Lets a rule, if there is one, count for a user.
    pub fn attach_user(&mut self, id: &GeoFenceRuleId, user_id: UserId) {
        if let Some(entry) = self.entries.get_mut(id) {
            entry.users.insert(user_id.clone());
            self.by_user.entry(user_id).or_default().insert(id.clone());
        }
    }

    /// A user is gone, and with them what was attached to them.
    pub fn forget_user(&mut self, user_id: &UserId) {
        for id in self.by_user.remove(user_id).into_iter().flatten() {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.users.remove(user_id);
            }
        }
    }

    fn remove(&mut self, id: &GeoFenceRuleId) {
        let Some(entry) = self.entries.remove(id) else { return };
        self.global.remove(id);
        for user_id in &entry.users {
            leave_out(&mut self.by_user, user_id, id);
        }
        for group in &entry.groups {
            leave_out(&mut self.by_group, group, id);
        }
    }

    /// The rule with this id, and that id.
    pub fn get(&self, id: &GeoFenceRuleId) -> Option<(&GeoFenceRuleId, &FenceEntry)> {
        self.entries.get_key_value(id)
    }

    /// The rules that are attached to a user. None: there is no such rule.
    pub fn of_user(&self, user_id: &UserId) -> Option<&FenceRules> {
        self.by_user.get(user_id)
    }

    /// The rules that are attached to a group. None: there is no such rule.
    pub fn of_group(&self, group: &GroupName) -> Option<&FenceRules> {
        self.by_group.get(group)
    }

    /// The rules that count for everybody.
    pub fn global(&self) -> &FenceRules {
        &self.global
    }

    /// Whether no rule is attached to anything.
    pub fn is_empty(&self) -> bool {
        self.global.is_empty() && self.by_group.is_empty() && self.by_user.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Debug;
    use std::str::FromStr;

    fn value<T: FromStr<Err: Debug>>(text: &str) -> T {
        text.parse().unwrap()
    }

    fn definition(name: &str) -> Definition {
        Definition { name: value(name), cidr: value("198.51.100.0/24"), description: value("") }
    }

    fn fold(events: Vec<(&str, Event)>) -> Fences {
        let mut fences = Fences::default();
        for (id, event) in events {
            fences.apply(value(id), &event);
        }
        fences
    }

    fn created(name: &str) -> Event {
        Event::Created { definition: definition(name) }
    }

    fn to_group(name: &str) -> Event {
        Event::GroupAttached { group: value(name) }
    }

    fn to_user(id: &str) -> Event {
        Event::UserAttached { user_id: value(id) }
    }

    #[test]
    fn a_rule_is_found_by_what_it_is_attached_to_until_it_is_detached() {
        let mut history = vec![
            ("fence-a", created("office")),
            ("fence-a", Event::GloballyAttached {}),
            ("fence-a", to_group("ops")),
            ("fence-a", to_user("usr-ada")),
        ];
        let fences = fold(history.clone());
        let id: GeoFenceRuleId = value("fence-a");
        let only = BTreeSet::from([id.clone()]);
        assert_eq!(fences.global(), &only);
        assert_eq!(fences.of_group(&value("ops")), Some(&only));
        assert_eq!(fences.of_user(&value("usr-ada")), Some(&only));
        assert_eq!(fences.of_user(&value("usr-bob")), None);
        assert!(!fences.is_empty());
        history.extend([
            ("fence-a", Event::GloballyDetached {}),
            ("fence-a", Event::GroupDetached { group: value("ops") }),
            ("fence-a", Event::UserDetached { user_id: value("usr-ada") }),
        ]);
        let detached = fold(history);
        assert!(detached.is_empty());
        assert_eq!(detached, fold(vec![("fence-a", created("office"))]));
        assert!(detached.get(&id).is_some());
    }

    #[test]
    fn what_is_gone_is_found_in_no_way() {
        let history = vec![
            ("fence-a", created("office")),
            ("fence-a", Event::GloballyAttached {}),
            ("fence-a", to_group("ops")),
            ("fence-a", to_user("usr-ada")),
        ];
        let mut gone = fold(history.clone());
        gone.apply(value("fence-a"), &Event::Deleted {});
        assert_eq!(gone, Fences::default());
        // Nothing is attached to, or changed of, what is not there.
        for (id, event) in history.iter().skip(1).cloned() {
            gone.apply(value(id), &event);
        }
        gone.apply(value("fence-a"), &Event::Updated { definition: definition("x") });
        assert_eq!(gone, Fences::default());

        let mut left = fold(history);
        left.forget_user(&value("usr-ada"));
        assert_eq!(left.of_user(&value("usr-ada")), None);
        let (_, entry) = left.get(&value("fence-a")).unwrap();
        assert!(entry.users.is_empty() && entry.global && entry.groups.len() == 1);
    }
}
