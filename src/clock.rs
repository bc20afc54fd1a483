//! The only place that reads the clock.

use chrono::{DateTime, SubsecRound, Utc};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Tells the time, to the microsecond (what both databases keep).
#[derive(Clone, Debug, Default)]
pub struct Clock {
    /// Microseconds since 1970 that a test set; none: the system's time.
    fixed: Option<Arc<AtomicI64>>,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// A clock that stands still until it is [`advance`](Self::advance)d.
    pub fn fixed(at: DateTime<Utc>) -> Self {
        Self { fixed: Some(Arc::new(AtomicI64::new(at.timestamp_micros()))) }
    }

    /// The time now.
    #[allow(clippy::disallowed_methods)]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.fixed {
            Some(micros) => gatekey_aggregates::values::from_micros(micros.load(Ordering::SeqCst)),
            None => Utc::now().trunc_subsecs(6),
        }
    }

    /// Whether time passes by itself. A fixed clock's passes in jumps, which mean nothing.
    pub fn runs(&self) -> bool {
        self.fixed.is_none()
    }

    /// Moves a fixed clock on. The system's clock takes no notice.
    pub fn advance(&self, by: chrono::TimeDelta) {
        if let Some(micros) = &self.fixed {
            micros.fetch_add(by.num_microseconds().unwrap_or(0), Ordering::SeqCst);
        }
    }
}
