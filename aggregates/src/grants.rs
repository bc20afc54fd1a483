//! Who has something, and who had it once: so that taking it a second time is told from taking what
//! was never given.

use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Those to whom something was given: users, groups, networks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grants<T: Ord> {
    now: BTreeSet<T>,
    once: BTreeSet<T>,
}

/// It was never given to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NeverGiven;

impl<T: Ord> Default for Grants<T> {
    fn default() -> Self {
        Self { now: BTreeSet::new(), once: BTreeSet::new() }
    }
}

impl<T: Ord> Grants<T> {
    /// Those who have it.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.now.iter()
    }

    /// The event of giving it to `to`; none if they have it.
    pub(crate) fn giving<E>(&self, to: T, event: impl FnOnce(T) -> E) -> Option<E> {
        (!self.now.contains(&to)).then(|| event(to))
    }

    /// The event of taking it from `from`; none if they no longer have it.
    pub(crate) fn taking<E>(
        &self,
        from: T,
        event: impl FnOnce(T) -> E,
    ) -> Result<Option<E>, NeverGiven> {
        if self.now.contains(&from) {
            Ok(Some(event(from)))
        } else if self.once.contains(&from) {
            Ok(None)
        } else {
            Err(NeverGiven)
        }
    }

    /// They have it.
    pub(crate) fn gave(&mut self, to: T) {
        self.once.remove(&to);
        self.now.insert(to);
    }

    /// They have it no longer.
    pub(crate) fn took(&mut self, from: T) {
        self.now.remove(&from);
        self.once.insert(from);
    }
}
