//! Reports of connections come repeated, late, out of order or never. Whatever comes, the history is
//! consistent: no two open connections for one VPN address of a gateway, none open for ever, no end
//! without a beginning, no count that shrinks, and nobody's report ends another gateway's connection.

use crate::harness::log::metadata;
use crate::harness::plane::Plane;
use crate::harness::seed::{Client, Person, Planted};
use crate::harness::wait::eventually;
use axum::http::StatusCode;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey::event_log::{CommandError, Request};
use gatekey_aggregates::Event;
use gatekey_aggregates::session::{self, EndReason, Session};
use gatekey_aggregates::settings::{self, Settings, Values};
use gatekey_aggregates::values::SessionId;
use gatekey_projections::Wanted;
use gatekey_projections::connections::{ConnectionRow, Filter, list};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::runtime::Handle;

const BOUND: Duration = Duration::from_secs(30);
const ADDRESSES: [&str; 3] = ["10.0.0.2", "10.0.0.3", "10.0.0.4"];
const ADDRESSES6: [&str; 2] = ["fd00::2", "fd00::3"];

/// Something that an agent reports, or that happens besides.
#[derive(Clone, Debug)]
enum Step {
    Connect(Connect),
    Disconnect(Disconnect),
    /// With the clients that are connected, by number and address, if the agent tells; and whether
    /// it tells since when.
    Heartbeat(Option<Vec<(usize, usize, bool)>>),
    /// The gateway falls silent for long enough.
    Silence,
    /// Seconds.
    Pass(i64),
}

#[derive(Clone, Debug)]
struct Connect {
    /// 3 is one whose certificate was revoked, of the same person and place as 0.
    client: usize,
    address: Option<usize>,
    address6: Option<usize>,
    event: Option<u8>,
    seconds_late: Option<i64>,
}

#[derive(Clone, Debug)]
struct Disconnect {
    client: usize,
    says_from_where: bool,
    names: Option<Named>,
    event: Option<u8>,
    seconds_late: Option<i64>,
    counters: Option<[Option<u32>; 3]>,
}

/// Which connection a disconnect names.
#[derive(Clone, Debug)]
enum Named {
    /// One of those that were begun before.
    Known(usize),
    /// One of another gateway.
    Elsewhere,
    /// One that there never was.
    Unheard,
}

fn step() -> impl Strategy<Value = Step> {
    let late = || option::of(0..100_000_i64);
    let connect = (
        0..4_usize,
        option::weighted(0.9, 0..3_usize),
        option::of(0..2_usize),
        option::of(0..6_u8),
        late(),
    )
        .prop_map(|(client, address, address6, event, seconds_late)| {
            Step::Connect(Connect { client, address, address6, event, seconds_late })
        });
    let names = prop_oneof![
        4 => (0..9_usize).prop_map(Named::Known),
        1 => Just(Named::Elsewhere),
        1 => Just(Named::Unheard),
    ];
    let count = || prop_oneof![Just(None), (0..9_u32).prop_map(Some), any::<u32>().prop_map(Some)];
    let counters = [count(), count(), count()];
    let event = option::of(0..6_u8);
    let disconnect =
        (0..4_usize, any::<bool>(), option::of(names), event, late(), option::of(counters))
            .prop_map(|(client, says_from_where, names, event, seconds_late, counters)| {
                Step::Disconnect(Disconnect {
                    client,
                    says_from_where,
                    names,
                    event,
                    seconds_late,
                    counters,
                })
            });
    prop_oneof![
        8 => connect,
        6 => disconnect,
        3 => option::of(vec((0..3_usize, 0..3_usize, any::<bool>()), 0..4)).prop_map(Step::Heartbeat),
        1 => Just(Step::Silence),
        2 => (0..400_i64).prop_map(Step::Pass),
    ]
}

/// Steps in any order, some of them more than once, up to three of them at the same time.
fn story() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let copies = prop_oneof![3 => Just(1_usize), 1 => Just(2), 1 => Just(3)];
    let steps = vec((step(), copies), 1..24)
        .prop_map(|steps| {
            steps.into_iter().flat_map(|(step, copies)| vec![step; copies]).collect::<Vec<_>>()
        })
        .prop_shuffle();
    (steps, vec(1..4_usize, 24 * 3)).prop_map(|(steps, sizes)| {
        let (mut rest, mut chunks) = (&steps[..], Vec::new());
        for size in sizes {
            let (chunk, others) = rest.split_at(size.min(rest.len()));
            chunks.push(chunk.to_vec());
            rest = others;
        }
        chunks.retain(|chunk| !chunk.is_empty());
        chunks
    })
}

/// One gateway's part of the story.
struct Stage {
    plane: Arc<Plane>,
    gateway: Planted,
    /// Ids that connects were answered.
    known: Mutex<Vec<String>>,
    /// A connection of another gateway.
    elsewhere: String,
    /// Duration, received, sent, by connection, as they were last seen.
    counters: Mutex<BTreeMap<String, [Option<i64>; 3]>>,
}

on_both! {
    async fn whatever_is_reported_the_history_is_consistent(kind: Kind) {
        let plane = Arc::new(Plane::start(kind, start()).await);
        let people = plane.seed().people(3).await;
        let in_years = start() + TimeDelta::days(3650);
        let neighbour = plane.seed().gateway(&people, in_years).await;
        let (_, answer) =
            plane.agent("connect", &neighbour.token, &neighbour.clients[0].connect("10.0.0.2")).await;
        let elsewhere = answer["session_id"].as_str().unwrap().to_owned();

        let cases = std::env::var("PROPTEST_CASES").map_or(40, |it| it.parse().unwrap());
        let config = Config { cases, max_shrink_iters: 300, failure_persistence: None, ..Config::default() };
        let plays = tokio::task::block_in_place(|| {
            TestRunner::new(config).run(&story(), |story| {
                Handle::current().block_on(async {
                    Stage::set(&plane, &people, &elsewhere).await.play(&story).await
                })
            })
        });
        plays.unwrap_or_else(|error| panic!("{error}"));
        let neighbours = plane.connections(&neighbour).await;
        assert_eq!(neighbours.len(), 1);
        assert!(neighbours[0].end_reason.as_deref().is_none_or(|it| it == "gateway_lost"));
        assert_eq!(counters_of(&neighbours[0]), [None; 3]);

        // Now all is silent. After the patience and the grace period nothing is open any more.
        let patience = Values::default();
        let patience = patience.gateway_offline_seconds + patience.gateway_lost_grace_seconds;
        plane.clock.advance(TimeDelta::seconds(i64::from(patience) + 2));
        eventually("every connection has ended", BOUND, || async {
            let sql = "SELECT COUNT(*) FROM connections WHERE disconnected_at IS NULL";
            let (open,): (i64,) = plane.services().db.one(sql, &[]).await.unwrap();
            (open == 0).then_some(())
        })
        .await;
    }

    /// A gateway lives, but its disconnect was lost, and it never tells who is connected.
    async fn no_connection_outlives_its_certificate_for_long(kind: Kind) {
        let plane = Plane::start(kind, start()).await;
        let values = Values {
            gateway_offline_seconds: 3600,
            gateway_lost_grace_seconds: 3600,
            ..Values::default()
        };
        let change = settings::Command::Change(values);
        let request = Request::new::<Settings>(settings::ID, change, metadata());
        plane.services().bus.execute::<Settings>(request).await.unwrap();
        let people = plane.seed().people(1).await;
        let gateway = plane.seed().gateway(&people, start() + TimeDelta::hours(24)).await;
        let report = gateway.clients[0].connect("10.0.0.2");
        plane.agent("connect", &gateway.token, &report).await;
        let mut hours = 0;
        eventually("the connection ends", BOUND, || {
            hours += 1;
            plane.clock.advance(TimeDelta::hours(1));
            let (plane, gateway) = (&plane, &gateway);
            async move {
                let (status, _) = plane.agent("heartbeat", &gateway.token, &json!({})).await;
                assert_eq!(status, StatusCode::OK);
                if hours < 24 {
                    return None;
                }
                // Time for the timers to look.
                tokio::time::sleep(Duration::from_millis(500)).await;
                let row = plane.connections(gateway).await.remove(0);
                row.disconnected_at.map(|_| assert_eq!(row.end_reason.unwrap(), "certificate_expired"))
            }
        })
        .await;
        assert!(hours >= 27, "ended after {hours} h");
    }

    /// The story that loses a connection to its gateway's silence and gives it back.
    async fn a_lost_connection_comes_back_with_its_address_unless_another_has_it(kind: Kind) {
        let plane = Arc::new(Plane::start(kind, start()).await);
        let people = plane.seed().people(3).await;
        let stage = Stage::set(&plane, &people, "con-elsewhere").await;
        let [ada, bob, cyd, ..] = &stage.gateway.clients[..] else { panic!("too few clients") };
        let connect = async |client: &Client| {
            let answer = stage.ask("connect", &client.connect("10.0.0.2")).await.unwrap();
            answer["session_id"].as_str().unwrap().to_owned()
        };
        let state_of = async |id: &str| {
            let rows = plane.connections(&stage.gateway).await;
            rows.into_iter().find(|row| row.id == id).unwrap().end_reason
        };
        // Ada is lost; Bob takes her address and leaves; she is back, and Cyd takes it from her.
        let adas = connect(ada).await;
        stage.fall_silent().await.unwrap();
        let bobs = connect(bob).await;
        let said = json!({"connected_clients": [
            {"common_name": ada.common_name, "client_ip": ada.client_ip},
            {"common_name": bob.common_name, "client_ip": bob.client_ip},
        ]});
        // While Bob has her address she can't be there, whatever is said.
        stage.ask("heartbeat", &said).await.unwrap();
        plane.heartbeat_is_taken_in(&stage.gateway.id).await;
        assert_eq!(state_of(&adas).await.as_deref(), Some("gateway_lost"));
        assert_eq!(state_of(&bobs).await, None);
        stage.ask("disconnect", &bob.disconnect()).await.unwrap();
        stage.ask("heartbeat", &said).await.unwrap();
        plane.heartbeat_is_taken_in(&stage.gateway.id).await;
        assert_eq!(state_of(&adas).await, None);
        let cyds = connect(cyd).await;
        assert_eq!(state_of(&adas).await.as_deref(), Some("superseded"));
        assert_eq!(state_of(&cyds).await, None);
    }
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn counters_of(row: &ConnectionRow) -> [Option<i64>; 3] {
    [row.duration_seconds, row.bytes_received, row.bytes_sent]
}

impl Plane {
    /// Every connection of a gateway, the newest first.
    async fn connections(&self, gateway: &Planted) -> Vec<ConnectionRow> {
        let filter = Filter { gateway_id: Some(gateway.id.to_string()), ..Filter::default() };
        let wanted = Wanted { limit: 10_000, ..Wanted::default() };
        let listed = list(&self.services().db, &wanted, &filter).await.unwrap();
        listed.rows.into_iter().map(|it| it.row).collect()
    }
}

impl Stage {
    /// A gateway of its own, with a client of each person, and one of the first that was revoked.
    async fn set(plane: &Arc<Plane>, people: &[Person], elsewhere: &str) -> Self {
        let seed = plane.seed();
        let in_years = start() + TimeDelta::days(3650);
        let mut gateway = seed.gateway(people, in_years).await;
        let first_from = gateway.clients[0].client_ip.clone();
        let revoked = seed.client(&gateway.id, &people[0], first_from, in_years).await;
        seed.revoke(&revoked).await;
        gateway.clients.push(revoked);
        Self {
            plane: plane.clone(),
            gateway,
            known: Mutex::default(),
            elsewhere: elsewhere.to_owned(),
            counters: Mutex::default(),
        }
    }

    async fn play(self, story: &[Vec<Step>]) -> Result<(), TestCaseError> {
        let stage = Arc::new(self);
        for chunk in story {
            let before = stage.open_or_lost().await;
            let mut running = tokio::task::JoinSet::new();
            for step in chunk.clone() {
                let stage = stage.clone();
                running.spawn(async move { stage.take(&step).await });
            }
            for taken in running.join_all().await {
                taken?;
            }
            stage.plane.heartbeat_is_taken_in(&stage.gateway.id).await;
            stage.is_consistent().await?;
            // A report that names what was reported before touches no other connection.
            if let [Step::Connect(Connect { client: 0..3, event: Some(_), .. })] = &chunk[..] {
                let known = stage.known.lock().unwrap().clone();
                let is_repeat =
                    known.last().is_some_and(|id| known[..known.len() - 1].contains(id));
                let still_open = stage.open_or_lost().await;
                prop_assert!(
                    !is_repeat || before.iter().all(|id| still_open.contains(id)),
                    "{:?} became {:?}",
                    before,
                    still_open
                );
            }
        }
        stage.streams_are_sound().await
    }

    async fn open_or_lost(&self) -> Vec<String> {
        let rows = self.plane.connections(&self.gateway).await;
        let is_over = |row: &ConnectionRow| {
            row.end_reason.as_ref().is_some_and(|reason| reason != "gateway_lost")
        };
        rows.into_iter().filter(|row| !is_over(row)).map(|row| row.id).collect()
    }

    async fn ask(&self, route: &str, body: &Value) -> Result<Value, TestCaseError> {
        let (status, answer) = self.plane.agent(route, &self.gateway.token, body).await;
        prop_assert_eq!(status, StatusCode::OK, "{} {}: {}", route, body, answer);
        Ok(answer)
    }

    fn occurred_at(&self, seconds_late: Option<i64>) -> Option<DateTime<Utc>> {
        seconds_late.map(|late| self.plane.clock.now() - TimeDelta::seconds(late))
    }

    async fn take(&self, step: &Step) -> Result<(), TestCaseError> {
        match step {
            Step::Connect(it) => self.connect(it).await,
            Step::Disconnect(it) => self.disconnect(it).await,
            Step::Heartbeat(clients) => {
                let connected = |(client, address, says_since): &(usize, usize, bool)| {
                    let client = &self.gateway.clients[*client];
                    let since = says_since.then_some(90);
                    json!({"common_name": client.common_name, "client_ip": client.client_ip,
                        "vpn_ipv4": ADDRESSES[*address], "connected_at": self.occurred_at(since)})
                };
                let clients: Option<Vec<Value>> =
                    clients.as_ref().map(|them| them.iter().map(connected).collect());
                self.ask("heartbeat", &json!({"connected_clients": clients})).await.map(drop)
            }
            Step::Silence => self.fall_silent().await,
            Step::Pass(seconds) => {
                self.plane.clock.advance(TimeDelta::seconds(*seconds));
                Ok(())
            }
        }
    }

    async fn connect(&self, it: &Connect) -> Result<(), TestCaseError> {
        let client = &self.gateway.clients[it.client];
        let body = json!({
            "common_name": client.common_name,
            "serial_number": client.serial,
            "client_ip": client.client_ip,
            "vpn_ipv4": it.address.map(|n| ADDRESSES[n]),
            "vpn_ipv6": it.address6.map(|n| ADDRESSES6[n]),
            "event_id": it.event.map(|n| format!("{}-{n}", it.client)),
            "occurred_at": self.occurred_at(it.seconds_late),
        });
        let answer = self.ask("connect", &body).await?;
        if it.client == 3 {
            prop_assert_eq!(&answer["allow"], false);
            prop_assert_eq!(&answer["client_config"], &json!(["disable"]));
            return Ok(());
        }
        prop_assert_eq!(&answer["allow"], true, "{}", answer);
        let id = answer["session_id"].as_str().unwrap_or_default();
        let rows = self.plane.connections(&self.gateway).await;
        let row = rows.iter().find(|row| row.id == id);
        prop_assert!(row.is_some_and(|row| row.certificate_id == client.id.as_str()), "{}", answer);
        self.known.lock().unwrap().push(id.to_owned());
        Ok(())
    }

    async fn disconnect(&self, it: &Disconnect) -> Result<(), TestCaseError> {
        let client = &self.gateway.clients[it.client];
        let named = match &it.names {
            None => None,
            Some(Named::Known(n)) => {
                let known = self.known.lock().unwrap();
                known.get(n % known.len().max(1)).cloned()
            }
            Some(Named::Elsewhere) => Some(self.elsewhere.clone()),
            Some(Named::Unheard) => Some("con-unheard".to_owned()),
        };
        let [duration, received, sent] = it.counters.unwrap_or_default();
        let body = json!({
            "common_name": client.common_name,
            "client_ip": it.says_from_where.then_some(&client.client_ip),
            "session_id": named,
            "event_id": it.event.map(|n| format!("{}-{n}", it.client)),
            "occurred_at": self.occurred_at(it.seconds_late),
            "duration_seconds": duration, "bytes_received": received, "bytes_sent": sent,
        });
        self.ask("disconnect", &body).await.map(drop)
    }

    /// What the timers do when a gateway was not heard of for long enough.
    async fn fall_silent(&self) -> Result<(), TestCaseError> {
        let services = self.plane.services();
        let open: Vec<SessionId> = {
            let state = services.index.read();
            let open =
                state.sessions.of_gateway(&self.gateway.id).filter(|it| it.lost_at.is_none());
            open.map(|it| it.id.clone()).collect()
        };
        for id in open {
            let command = session::Command::End {
                reason: EndReason::GatewayLost,
                disconnected_at: self.plane.clock.now(),
                counters: None,
            };
            let request = Request::new::<Session>(&id, command, metadata());
            let ended = services.bus.execute::<Session>(request).await;
            prop_assert!(matches!(ended, Ok(_) | Err(CommandError::Contended)), "{:?}", ended);
        }
        Ok(())
    }

    async fn is_consistent(&self) -> Result<(), TestCaseError> {
        let rows = self.plane.connections(&self.gateway).await;
        let mut held = BTreeMap::new();
        for row in rows.iter().filter(|row| row.disconnected_at.is_none()) {
            for ip in [&row.vpn_ip, &row.vpn_ipv6].into_iter().flatten() {
                let other = held.insert(ip.clone(), row.id.clone());
                prop_assert!(other.is_none(), "{} is {}'s and {:?}'s", ip, row.id, other);
            }
        }
        let mut counters = self.counters.lock().unwrap();
        for row in &rows {
            prop_assert!(row.disconnected_at.is_none_or(|at| at >= row.connected_at), "{:?}", row);
            prop_assert_eq!(row.disconnected_at.is_some(), row.end_reason.is_some());
            let now = counters_of(row);
            let before = counters.insert(row.id.clone(), now).unwrap_or_default();
            let shrunk = before.iter().zip(now).any(|(before, now)| *before > now);
            prop_assert!(!shrunk, "{}: {:?} became {:?}", row.id, before, now);
        }
        Ok(())
    }

    /// Each stream begins once, ends only what is open, and resumes only what was lost.
    async fn streams_are_sound(&self) -> Result<(), TestCaseError> {
        for row in self.plane.connections(&self.gateway).await {
            let events = self.plane.services().reader.stream("session", &row.id).await.unwrap();
            let mut ended: Option<EndReason> = None;
            for (n, it) in events.iter().enumerate() {
                let Event::Session(event) = &it.event else { panic!("{it:?}") };
                let sound = match event {
                    session::Event::Began(_) => n == 0,
                    session::Event::Ended { reason, .. } => {
                        let corrects = ended == Some(EndReason::GatewayLost)
                            && *reason == EndReason::Disconnected;
                        let may = n > 0 && (ended.is_none() || corrects);
                        ended = Some(*reason);
                        may
                    }
                    session::Event::Resumed { .. } => ended.take() == Some(EndReason::GatewayLost),
                    session::Event::CountersReported { .. } => n > 0,
                };
                prop_assert!(sound, "{}: event {} of {:#?}", row.id, n + 1, events);
            }
        }
        Ok(())
    }
}
