//! A lease: one node at a time does what must not be done by several.

use crate::clock::Clock;
use crate::services::Services;
use chrono::TimeDelta;
use gatekey_aggregates::values::micros;
use gatekey_projections::{Arg, Db};

/// How long a lease lasts without renewal: then another node takes over.
const TERM: TimeDelta = TimeDelta::seconds(10);
/// Renewed when less than this is left.
const MARGIN: TimeDelta = TimeDelta::seconds(7);

/// This node's hold of one lease, or its wish for it.
pub struct Lease {
    db: Db,
    clock: Clock,
    name: &'static str,
    holder: String,
    held_until: Option<chrono::DateTime<chrono::Utc>>,
}

impl Lease {
    /// Held by nobody yet.
    pub fn new(services: &Services, name: &'static str) -> Self {
        Self {
            db: services.vital.clone(),
            clock: services.clock.clone(),
            name,
            holder: services.node_instance.clone(),
            held_until: None,
        }
    }

    /// Whether it is held for certain.
    pub fn is_held(&self) -> bool {
        self.held_until.is_some_and(|until| self.clock.now() < until)
    }

    /// Takes or keeps it; false while another node has it.
    pub async fn hold(&mut self) -> Result<bool, sqlx::Error> {
        let now = self.clock.now();
        if self.held_until.is_some_and(|until| until - now > MARGIN) {
            return Ok(true);
        }
        let until = now + TERM;
        let sql = "INSERT INTO leases (name, holder, expires_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, expires_at = excluded.expires_at \
                   WHERE leases.holder = excluded.holder OR leases.expires_at < $4 \
                     OR leases.expires_at > $5";
        let args: [Arg; 5] = [
            self.name.into(),
            self.holder.as_str().into(),
            micros(until).into(),
            micros(now).into(),
            // No clock of the cluster is so far ahead: whoever wrote that was wrong.
            micros(until + TERM).into(),
        ];
        let held = self.db.execute(sql, &args).await? == 1;
        self.held_until = held.then_some(until);
        Ok(held)
    }
}
