//! Many callers at once who write, and remember what they were told was written.

use super::client::Api;
use super::log::Node;
use super::seed::{Planted, Seed};
use super::server::ADMIN_PASSWORD;
use super::world::World;
use chrono::TimeDelta;
use gatekey::clock::Clock;
use gatekey_aggregates::{Event, Recorded, network, session};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// What a caller was told.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Told {
    /// This connection began.
    Began(String),
    /// This connection ended, with so many bytes received.
    Ended(String, u64),
    /// This network was created.
    Created(String),
}

/// Callers of a control plane: agents' connects and disconnects, and an admin who creates networks.
pub struct Load {
    gateway: Planted,
    admin: Api,
    told: Mutex<Vec<(Told, u32)>>,
    /// What goes with everything that callers are told from now on.
    pub round: AtomicU32,
    networks: AtomicU32,
    count: AtomicUsize,
}

/// What happens when a server does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// The caller stops.
    None,
    /// The caller asks again.
    Endless,
}

/// Callers at work.
pub struct Calling {
    callers: JoinSet<()>,
    enough: Arc<AtomicBool>,
}

impl Load {
    /// Plants `agents` clients in the world's log and signs the admin in.
    pub async fn prepare(world: &World, agents: usize) -> Arc<Self> {
        let node = Node::at(&world.database_url()).await;
        let now = Clock::system().now();
        let seed = Seed { bus: &node.running.bus, entropy: &node.entropy, now };
        let people = seed.people(agents).await;
        let gateway = seed.gateway(&people, now + TimeDelta::days(1)).await;
        node.running.stop(Duration::from_secs(10)).await;
        node.opened.db.close().await;
        node.opened.vital.close().await;
        let admin = world.anyone().login("admin", ADMIN_PASSWORD).await;
        // The servers learn of it within a second.
        let agent = world.anyone().gateway(&gateway.token);
        let last = gateway.clients.last().expect("a client").verify();
        super::wait::eventually("the gateway is known", Duration::from_secs(10), || async {
            let answer = agent.post("/gateway/verify", &last).await;
            (answer.status == 200 && answer.json()["allowed"] == true).then_some(())
        })
        .await;
        Arc::new(Self {
            gateway,
            admin,
            told: Mutex::default(),
            round: AtomicU32::new(0),
            networks: AtomicU32::new(0),
            count: AtomicUsize::new(0),
        })
    }

    /// These agents begin to call the servers at these URLs in turn, and an admin each of them.
    pub fn start(
        self: &Arc<Self>,
        agents: Range<usize>,
        servers: &[String],
        patience: Patience,
    ) -> Calling {
        let enough = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for n in agents {
            let (load, enough) = (self.clone(), enough.clone());
            let agent = self.admin.gateway(&self.gateway.token).at(&servers[n % servers.len()]);
            callers.spawn(async move { load.agent(n, &agent, patience, &enough).await });
        }
        for server in servers {
            let (load, enough, admin) = (self.clone(), enough.clone(), self.admin.at(server));
            callers.spawn(async move { load.creator(&admin, patience, &enough).await });
        }
        Calling { callers, enough }
    }

    /// How much callers have been told so far.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Waits until they have been told so much more.
    pub async fn goes_on(&self, more: usize, bound: Duration) {
        let goal = self.count() + more;
        super::wait::eventually("the load goes on", bound, || async {
            (self.count() >= goal).then_some(())
        })
        .await;
    }

    fn tell(&self, told: Told) {
        let round = self.round.load(Ordering::Relaxed);
        self.told.lock().expect("no panic").push((told, round));
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Connects and disconnects, over and over, always at the same VPN address.
    async fn agent(&self, n: usize, agent: &Api, patience: Patience, enough: &AtomicBool) {
        let client = &self.gateway.clients[n];
        let address = format!("10.200.{}.{}", n / 250, n % 250 + 1);
        for turn in 1_u64.. {
            let mut connect = client.connect(&address);
            // Each turn is another connection, whatever became of the one before.
            connect["event_id"] = json!(format!("{}-{turn}", self.round.load(Ordering::Relaxed)));
            let Some(answer) = ask(agent, "/gateway/connect", &connect, patience, enough).await
            else {
                return;
            };
            let id = answer["session_id"].as_str().expect("a session's id").to_owned();
            self.tell(Told::Began(id.clone()));
            let mut disconnect = client.disconnect();
            disconnect["session_id"] = json!(id);
            disconnect["bytes_received"] = json!(turn);
            if ask(agent, "/gateway/disconnect", &disconnect, patience, enough).await.is_none() {
                return;
            }
            self.tell(Told::Ended(id, turn));
        }
    }

    async fn creator(&self, admin: &Api, patience: Patience, enough: &AtomicBool) {
        loop {
            let n = self.networks.fetch_add(1, Ordering::Relaxed);
            let cidr = format!("{}.{}.{}.0/24", 100 + n / 65536, n / 256 % 256, n % 256);
            let body = json!({"name": format!("network {n}"), "cidr": cidr});
            let Some(answer) = ask(admin, "/admin/networks", &body, patience, enough).await else {
                return;
            };
            // A second try may find what the first one wrote without saying so.
            if let Some(id) = answer["data"]["id"].as_str() {
                self.tell(Told::Created(id.to_owned()));
            }
        }
    }

    /// Everything that anybody was told is in the log, and the log is whole: positions without a
    /// gap, each stream's sequence too, and nothing written twice.
    pub fn check(&self, events: &[Recorded]) {
        let positions: Vec<i64> = events.iter().map(|it| it.position).collect();
        let whole: Vec<i64> = (1..=i64::try_from(events.len()).expect("a number")).collect();
        assert!(positions == whole, "positions have a gap");
        let times: Vec<_> = events.iter().map(|it| it.recorded_at).collect();
        assert!(times.is_sorted(), "times go back");

        let mut lengths: BTreeMap<(&str, &str), i64> = BTreeMap::new();
        let mut written: HashMap<Told, usize> = HashMap::new();
        for it in events {
            let length = lengths.entry((&it.aggregate_type, &it.aggregate_id)).or_default();
            *length += 1;
            assert_eq!(it.sequence, *length, "{} {}", it.aggregate_type, it.aggregate_id);
            let id = it.aggregate_id.clone();
            let told = match &it.event {
                Event::Session(session::Event::Began(_)) => Told::Began(id),
                Event::Session(
                    session::Event::Ended { counters: Some(counters), .. }
                    | session::Event::CountersReported { counters },
                ) => Told::Ended(id, counters.bytes_received.unwrap_or_default()),
                Event::Network(network::Event::Created { .. }) => Told::Created(id),
                _ => continue,
            };
            *written.entry(told).or_default() += 1;
        }
        let twice: Vec<_> = written.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "written twice: {twice:?}");
        let told = self.told.lock().expect("no panic");
        let lost: Vec<_> = told.iter().filter(|(told, _)| !written.contains_key(told)).collect();
        assert!(lost.is_empty(), "{} of {} lost: {lost:?}", lost.len(), told.len());
        let distinct: HashSet<_> = told.iter().map(|(told, _)| told).collect();
        assert!(!distinct.is_empty(), "nobody was told anything");
    }
}

/// What is answered with a success or a conflict; none when the caller should stop.
async fn ask(
    api: &Api,
    path: &str,
    body: &Value,
    patience: Patience,
    enough: &AtomicBool,
) -> Option<Value> {
    while !enough.load(Ordering::Relaxed) {
        match api.try_send(Method::POST, path, |request| request.json(body)).await {
            Ok(answer) if answer.status.is_success() || answer.status == 409 => {
                return Some(answer.json());
            }
            Ok(answer) if patience == Patience::Endless => {
                assert_eq!(answer.status, 503, "{path}: {}", answer.text());
                assert_ne!(answer.header("retry-after"), "", "{path}");
            }
            Err(_) if patience == Patience::Endless => {}
            // The server may be about to be ended.
            Ok(_) | Err(_) => return None,
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    None
}

impl Calling {
    /// Waits for callers who stop by themselves.
    pub async fn ended(self) {
        let started = Instant::now();
        self.callers.join_all().await;
        assert!(started.elapsed() < Duration::from_mins(1), "callers went on");
    }

    /// Has the callers stop, and waits until they have.
    pub async fn stop(self) {
        self.enough.store(true, Ordering::Relaxed);
        self.callers.join_all().await;
    }
}
