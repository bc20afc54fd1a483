//! Gateways that fall silent: offline after a while, their connections ended as `gateway_lost`
//! after a grace period more.
//!
//! A connection also ends when its certificate has been expired for so long that OpenVPN, which asks
//! again at each renegotiation, can't have kept it. So none is open for ever.
//!
//! Silence counts only while this control plane could hear: the clock restarts when this node takes
//! over and after every outage of the database.

use crate::event_log::Request;
use crate::services::Services;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::gateway::{self, Gateway};
use gatekey_aggregates::session::{self, EndReason, Session};
use gatekey_aggregates::values::{GatewayId, SessionId, from_micros};
use gatekey_aggregates::{Metadata, PersonId};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// An index this stale means that nothing could be heard.
const DEAF: Duration = Duration::from_secs(5);
/// The same, of the calendar.
const DEAF_BY_CALENDAR: TimeDelta = TimeDelta::seconds(5);

/// Renegotiation is hourly by default, and refused after expiry; with room.
const RENEGOTIATED: TimeDelta = TimeDelta::hours(3);

/// Watches for silence.
pub struct Silence {
    /// Since when everything could be heard.
    listening_since: DateTime<Utc>,
    /// When it last looked, by the calendar and by the machine: a gap in either means that this
    /// process stood still or that its clock jumped, and that nothing was heard meanwhile.
    looked_at: (DateTime<Utc>, Instant),
}

impl Silence {
    /// Listens from now on.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self { listening_since: now, looked_at: (now, Instant::now()) }
    }

    /// Another node watches.
    pub fn rest(&mut self, now: DateTime<Utc>) {
        self.listening_since = now;
        self.looked_at = (now, Instant::now());
    }

    /// Looks at every gateway.
    pub async fn look(&mut self, services: &Services) {
        let now = services.clock.now();
        let (calendar, machine) = self.looked_at;
        let jumped = services.clock.runs() && (now - calendar).abs() > DEAF_BY_CALENDAR;
        let stood_still = jumped || machine.elapsed() > DEAF;
        if stood_still || services.index.staleness() > DEAF {
            self.rest(now);
            return;
        }
        self.looked_at = (now, Instant::now());
        let heard = match heard(services).await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::warn!(%error, "telemetry can't be read");
                self.rest(now);
                return;
            }
        };
        let (offline, ended) = self.silent(services, &heard, now);
        for id in offline {
            let request = Request::new::<Gateway>(&id, gateway::Command::GoOffline, by(now));
            if let Err(error) = services.bus.execute::<Gateway>(request).await {
                tracing::warn!(%error, gateway = %id, "a silent gateway could not be marked offline");
            }
        }
        for (id, reason) in ended {
            let command = session::Command::End { reason, disconnected_at: now, counters: None };
            let request = Request::new::<Session>(&id, command, by(now));
            if let Err(error) = services.bus.execute::<Session>(request).await {
                tracing::warn!(%error, connection = %id, "a connection could not be ended");
            }
        }
    }

    /// Gateways to mark offline, and connections to end.
    fn silent(
        &self,
        services: &Services,
        heard: &HashMap<GatewayId, DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> (Vec<GatewayId>, Vec<(SessionId, EndReason)>) {
        let state = services.index.read();
        let patience = TimeDelta::seconds(state.settings.gateway_offline_seconds.into());
        let grace = TimeDelta::seconds(state.settings.gateway_lost_grace_seconds.into());
        let last = |id: &GatewayId| {
            let here = services.telemetry.gateway(id).map(|it| it.last_heard);
            let anywhere = heard.get(id).copied().max(here);
            anywhere.map_or(self.listening_since, |at| at.max(self.listening_since))
        };
        let offline = state
            .gateways
            .iter()
            .filter(|(id, entry)| entry.online && now - last(id) > patience)
            .map(|(id, _)| id.clone())
            .collect();
        let ended = state
            .sessions
            .all()
            .filter(|it| it.lost_at.is_none())
            .filter_map(|it| {
                let expired = state
                    .certificates
                    .get(&it.serial)
                    .is_none_or(|certificate| now > certificate.not_after + RENEGOTIATED);
                let reason = if now - last(&it.gateway_id) > patience + grace {
                    EndReason::GatewayLost
                } else if expired {
                    EndReason::CertificateExpired
                } else {
                    return None;
                };
                Some((it.id.clone(), reason))
            })
            .collect();
        (offline, ended)
    }
}

/// When each gateway was last heard of by any node.
async fn heard(services: &Services) -> Result<HashMap<GatewayId, DateTime<Utc>>, sqlx::Error> {
    let sql = "SELECT gateway_id, last_heard FROM gateway_telemetry";
    let rows: Vec<(String, i64)> = services.vital.all(sql, &[]).await?;
    let parse = |(id, at): (String, i64)| Some((id.parse().ok()?, from_micros(at)));
    Ok(rows.into_iter().filter_map(parse).collect())
}

fn by(now: DateTime<Utc>) -> Metadata {
    Metadata::system("silence", PersonId::unknown_on(now.date_naive()))
}
