//! Aggregates as this node last left them, so that a report on a connection that began a moment ago
//! need not read it back.
//!
//! What is remembered may be out of date: another node may have written since. So it counts only for
//! decisions that are written, because the log writer checks the version that they were made on. A
//! refusal, or "it is so already", is never told on its strength.

use parking_lot::Mutex;
use std::any::Any;
use std::collections::HashMap;
use std::sync::Arc;

/// Aggregates remembered at once; past this, half of them are forgotten.
const MAX: usize = 10_000;

/// The type and the id of an aggregate.
type Name = (&'static str, String);

/// Remembers loaded aggregates of any type.
#[derive(Default)]
pub struct Recent {
    known: Mutex<HashMap<Name, Arc<dyn Any + Send + Sync>>>,
}

impl Recent {
    /// The aggregate as it was left, if it is remembered.
    pub fn get<T: Any + Send + Sync>(&self, aggregate: &'static str, id: &str) -> Option<Arc<T>> {
        let known = self.known.lock().get(&(aggregate, id.to_owned())).cloned()?;
        known.downcast().ok()
    }

    /// Remembers how an aggregate was left.
    pub fn put(&self, aggregate: &'static str, id: &str, left: Arc<dyn Any + Send + Sync>) {
        let mut known = self.known.lock();
        if known.len() >= MAX {
            let mut keep = false;
            known.retain(|_, _| {
                keep = !keep;
                keep
            });
        }
        known.insert((aggregate, id.to_owned()), left);
    }

    /// It is not so any more.
    pub fn forget(&self, aggregate: &'static str, id: &str) {
        self.known.lock().remove(&(aggregate, id.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_typed_and_forgotten() {
        let recent = Recent::default();
        recent.put("session", "con-1", Arc::new(7_i64));
        assert_eq!(recent.get::<i64>("session", "con-1").as_deref(), Some(&7));
        assert_eq!(recent.get::<String>("session", "con-1"), None);
        assert_eq!(recent.get::<i64>("gateway", "con-1"), None);
        recent.forget("session", "con-1");
        assert_eq!(recent.get::<i64>("session", "con-1"), None);
        for n in 0..=MAX {
            recent.put("session", &format!("con-{n}"), Arc::new(n));
        }
        assert_eq!(recent.known.lock().len(), MAX / 2 + 1);
    }
}
