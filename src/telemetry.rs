//! What is true now and is no event: heartbeats, and when a credential was last used.
//!
//! Kept in memory, and written to tables of their own every two seconds, where lists join them. A
//! crash loses two seconds of it, and no history.

use crate::clock::Clock;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::{GatewayId, from_micros, micros};
use gatekey_projections::{Db, Dialect};
use parking_lot::Mutex;
use serde_json::json;
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// How often what changed is written.
const FLUSH: Duration = Duration::from_secs(2);
/// Credentials remembered at once; past this, the half that was used longest ago is dropped.
const MAX_CREDENTIALS: usize = 100_000;
/// No setting makes a login last longer.
const LONGEST_LOGIN: TimeDelta = TimeDelta::days(8);
/// How far back other nodes' uses are read each time; more than a flush may be late.
const LATE: TimeDelta = TimeDelta::seconds(30);

/// What a gateway's agent last said.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Heartbeat {
    /// When it was last heard of, in any way.
    pub last_heard: DateTime<Utc>,
    /// When it last sent a heartbeat.
    pub last_heartbeat: Option<DateTime<Utc>>,
    /// How many clients it has.
    pub active_clients: Option<i64>,
    /// Whether OpenVPN runs.
    pub openvpn_running: Option<bool>,
    /// Which configuration it has.
    pub config_version: Option<String>,
}

/// When and from where a credential was last used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastUse {
    /// When.
    pub at: DateTime<Utc>,
    /// From where.
    pub ip: Option<IpAddr>,
}

#[derive(Default)]
struct Memory {
    gateways: HashMap<GatewayId, Heartbeat>,
    changed_gateways: HashSet<GatewayId>,
    credentials: HashMap<String, LastUse>,
    changed_credentials: HashSet<String>,
}

/// Takes telemetry in. Cheap to clone.
#[derive(Clone)]
pub struct Telemetry {
    db: Db,
    clock: Clock,
    memory: Arc<Mutex<Memory>>,
}

impl Telemetry {
    /// With what the tables hold.
    pub async fn load(db: Db, clock: Clock) -> Result<Self, sqlx::Error> {
        let gateways: Vec<(String, i64, Option<i64>)> = db
            .all("SELECT gateway_id, last_heard, last_heartbeat FROM gateway_telemetry", &[])
            .await?;
        let credentials: Vec<(String, i64, Option<String>)> =
            db.all("SELECT id, last_used, last_ip FROM credential_telemetry ORDER BY last_used DESC LIMIT 50000", &[]).await?;
        let mut memory = Memory::default();
        for (id, last_heard, last_heartbeat) in gateways {
            if let Ok(id) = id.parse() {
                let heartbeat = Heartbeat {
                    last_heard: from_micros(last_heard),
                    last_heartbeat: last_heartbeat.map(from_micros),
                    ..Heartbeat::default()
                };
                memory.gateways.insert(id, heartbeat);
            }
        }
        for (id, at, ip) in credentials {
            let ip = ip.and_then(|ip| ip.parse().ok());
            memory.credentials.insert(id, LastUse { at: from_micros(at), ip });
        }
        Ok(Self { db, clock, memory: Arc::new(Mutex::new(memory)) })
    }

    /// A gateway sent a heartbeat.
    pub fn heartbeat(
        &self,
        gateway_id: &GatewayId,
        active_clients: Option<i64>,
        openvpn_running: Option<bool>,
        config_version: Option<String>,
    ) {
        let now = self.clock.now();
        let mut memory = self.memory.lock();
        let entry = memory.gateways.entry(gateway_id.clone()).or_default();
        *entry = Heartbeat {
            last_heard: now,
            last_heartbeat: Some(now),
            active_clients,
            openvpn_running,
            config_version,
        };
        memory.changed_gateways.insert(gateway_id.clone());
    }

    /// A gateway asked or reported something else: evidence of life too.
    pub fn heard(&self, gateway_id: &GatewayId) {
        let now = self.clock.now();
        let mut memory = self.memory.lock();
        memory.gateways.entry(gateway_id.clone()).or_default().last_heard = now;
        memory.changed_gateways.insert(gateway_id.clone());
    }

    /// What a gateway last said to this node.
    pub fn gateway(&self, gateway_id: &GatewayId) -> Option<Heartbeat> {
        self.memory.lock().gateways.get(gateway_id).cloned()
    }

    /// A login or an API key was used.
    pub fn used(&self, credential_id: &str, ip: Option<IpAddr>) {
        let at = self.clock.now();
        let mut memory = self.memory.lock();
        memory.credentials.insert(credential_id.to_owned(), LastUse { at, ip });
        memory.changed_credentials.insert(credential_id.to_owned());
    }

    /// When a login or an API key was last used, as far as this node knows.
    pub fn last_use(&self, credential_id: &str) -> Option<LastUse> {
        self.memory.lock().credentials.get(credential_id).copied()
    }

    /// Writes what changed. What could not be written is tried again the next time.
    pub async fn flush(&self) -> Result<(), sqlx::Error> {
        let changed = {
            let mut memory = self.memory.lock();
            forget_oldest(&mut memory.credentials);
            (
                std::mem::take(&mut memory.changed_gateways),
                std::mem::take(&mut memory.changed_credentials),
            )
        };
        let written = self.write(&changed.0, &changed.1).await;
        if written.is_err() {
            let mut memory = self.memory.lock();
            memory.changed_gateways.extend(changed.0);
            memory.changed_credentials.extend(changed.1);
        }
        written
    }

    async fn write(
        &self,
        gateways: &HashSet<GatewayId>,
        credentials: &HashSet<String>,
    ) -> Result<(), sqlx::Error> {
        let (gateways, credentials) = self.rows(gateways, credentials);
        if !gateways.is_empty() {
            let boolean = match self.db.dialect() {
                Dialect::Postgres => "boolean",
                Dialect::Sqlite => "integer",
            };
            let each = self.db.dialect().each("$1", "k");
            let sql = format!(
                "INSERT INTO gateway_telemetry (gateway_id, last_heard, last_heartbeat, active_clients, \
                   openvpn_running, config_version) \
                 SELECT k.value->>0, CAST(k.value->>1 AS BIGINT), CAST(k.value->>2 AS BIGINT), \
                   CAST(k.value->>3 AS BIGINT), CAST(k.value->>4 AS {boolean}), k.value->>5 \
                 FROM {each} WHERE true \
                 ON CONFLICT (gateway_id) DO UPDATE SET last_heard = excluded.last_heard, \
                   last_heartbeat = COALESCE(excluded.last_heartbeat, gateway_telemetry.last_heartbeat), \
                   active_clients = COALESCE(excluded.active_clients, gateway_telemetry.active_clients), \
                   openvpn_running = COALESCE(excluded.openvpn_running, gateway_telemetry.openvpn_running), \
                   config_version = COALESCE(excluded.config_version, gateway_telemetry.config_version) \
                 WHERE gateway_telemetry.last_heard <= excluded.last_heard"
            );
            self.db.execute(&sql, &[json!(gateways).to_string().into()]).await?;
        }
        if !credentials.is_empty() {
            let each = self.db.dialect().each("$1", "k");
            let sql = format!(
                "INSERT INTO credential_telemetry (id, last_used, last_ip) \
                 SELECT k.value->>0, CAST(k.value->>1 AS BIGINT), k.value->>2 FROM {each} WHERE true \
                 ON CONFLICT (id) DO UPDATE SET last_used = excluded.last_used, last_ip = excluded.last_ip \
                 WHERE credential_telemetry.last_used <= excluded.last_used"
            );
            self.db.execute(&sql, &[json!(credentials).to_string().into()]).await?;
        }
        Ok(())
    }

    fn rows(
        &self,
        gateways: &HashSet<GatewayId>,
        credentials: &HashSet<String>,
    ) -> (Vec<serde_json::Value>, Vec<serde_json::Value>) {
        let memory = self.memory.lock();
        let gateway = |id: &GatewayId| {
            let it = memory.gateways.get(id)?;
            Some(json!([
                id,
                micros(it.last_heard),
                it.last_heartbeat.map(micros),
                it.active_clients,
                it.openvpn_running,
                it.config_version
            ]))
        };
        let credential = |id: &String| {
            let it = memory.credentials.get(id)?;
            Some(json!([id, micros(it.at), it.ip]))
        };
        (
            gateways.iter().filter_map(gateway).collect(),
            credentials.iter().filter_map(credential).collect(),
        )
    }

    /// Takes in when other nodes saw a credential used: a session that is busy there is not idle.
    async fn take_in_others(&self) -> Result<(), sqlx::Error> {
        let Db::Postgres(..) = &self.db else { return Ok(()) };
        let since = micros(self.clock.now() - LATE);
        let sql = "SELECT id, last_used, last_ip FROM credential_telemetry WHERE last_used > $1";
        let rows: Vec<(String, i64, Option<String>)> = self.db.all(sql, &[since.into()]).await?;
        let mut memory = self.memory.lock();
        for (id, at, ip) in rows {
            let at = from_micros(at);
            if memory.credentials.get(&id).is_none_or(|known| known.at < at) {
                let ip = ip.and_then(|ip| ip.parse().ok());
                memory.credentials.insert(id, LastUse { at, ip });
            }
        }
        Ok(())
    }

    /// Deletes when logins were used that can't be used any more.
    pub async fn forget_old_logins(&self) -> Result<(), sqlx::Error> {
        let before = micros(self.clock.now() - LONGEST_LOGIN);
        let sql = "DELETE FROM credential_telemetry WHERE id LIKE 'ses-%' AND last_used < $1";
        self.db.execute(sql, &[before.into()]).await.map(drop)
    }

    /// Writes every two seconds until dropped.
    pub async fn run(self) {
        let mut timer = interval(FLUSH);
        timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            if let Err(error) = self.flush().await {
                tracing::warn!(%error, "telemetry could not be written");
            }
            if let Err(error) = self.take_in_others().await {
                tracing::warn!(%error, "other nodes' telemetry could not be read");
            }
        }
    }
}

fn forget_oldest(credentials: &mut HashMap<String, LastUse>) {
    if credentials.len() <= MAX_CREDENTIALS {
        return;
    }
    let mut times: Vec<DateTime<Utc>> = credentials.values().map(|it| it.at).collect();
    let middle = times.len() / 2;
    let (_, median, _) = times.select_nth_unstable(middle);
    let median = *median;
    credentials.retain(|_, it| it.at >= median);
}
