//! Policies: what follows from events and from time, done by one node of a cluster.
//!
//! Whoever holds the lease follows the log and watches the clock. Everything done here is a command
//! like any other, asks for nothing that is so already, and can be done twice without harm.

mod consequences;
mod lease;
mod silence;

use crate::api::idempotency::forget_expired;
use crate::services::Services;
use consequences::Consequences;
use lease::Lease;
use silence::Silence;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How often time is looked at.
const TICK: Duration = Duration::from_secs(1);
/// How often what has expired is thrown away.
const CLEANING: Duration = Duration::from_mins(1);

/// Runs the policies of this node until dropped; they rest while another node holds the lease.
pub async fn run(services: Arc<Services>) {
    let mut lease = Lease::new(&services, "reactors");
    let mut consequences = Consequences::new();
    let mut silence = Silence::new(services.clock.now());
    let mut cleaned = None::<Instant>;
    let mut tick = interval(TICK);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let now = services.clock.now();
        measure(&services);
        if cleaned.is_none_or(|at| at.elapsed() >= CLEANING) {
            services.index.prune(now);
            cleaned = Some(Instant::now());
            if lease.is_held()
                && let Err(error) = services.vault.forget_expired(now).await
            {
                tracing::warn!(%error, "expired secrets could not be deleted");
            }
            if lease.is_held()
                && let Err(error) = forget_expired(&services, now).await
            {
                tracing::warn!(%error, "expired answers could not be deleted");
            }
            if lease.is_held()
                && let Err(error) = services.telemetry.forget_old_logins().await
            {
                tracing::warn!(%error, "old telemetry could not be deleted");
            }
        }
        match lease.hold().await {
            Ok(true) => {
                consequences.draw(&services).await;
                silence.look(&services).await;
            }
            Ok(false) => {
                consequences.rest();
                silence.rest(now);
            }
            Err(error) => {
                tracing::warn!(%error, "the reactors' lease can't be had");
                silence.rest(now);
            }
        }
    }
}

/// What an operator wants on a dashboard.
fn measure(services: &Services) {
    let staleness = services.index.staleness().as_secs_f64();
    metrics::gauge!("gatekey_access_index_staleness_seconds").set(staleness);
    let state = services.index.read();
    let online = state.gateways.values().filter(|it| it.online).count();
    metrics::gauge!("gatekey_gateways").set(state.gateways.len() as f64);
    metrics::gauge!("gatekey_gateways_online").set(online as f64);
    let open = state.sessions.all().filter(|it| it.lost_at.is_none()).count();
    metrics::gauge!("gatekey_connections_open").set(open as f64);
    metrics::gauge!("gatekey_access_index_position").set(state.position as f64);
}
