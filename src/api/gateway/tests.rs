//! Agents' reports in one process, with the database and the clock in hand: late, in doubt, repeated.

use crate::access::SessionEntry;
use crate::app;
use crate::clock::Clock;
use crate::entropy::token_hash;
use crate::event_log::Request as Command;
use crate::testing::{self, TestPlane};
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::access_rule::{self, AccessRule, Definition, Target, TargetType};
use gatekey_aggregates::certificate::{self, Certificate, Issuance, Subject};
use gatekey_aggregates::gateway::{self, Configuration, Gateway};
use gatekey_aggregates::geo_fence::{self, GeoFence};
use gatekey_aggregates::geo_fence_rule::{self, GeoFenceRule};
use gatekey_aggregates::network::{self, Network};
use gatekey_aggregates::session::{self, EndReason, Session};
use gatekey_aggregates::user::{self, Profile, User};
use gatekey_aggregates::values::{
    CryptoProfile, GatewayId, RevocationReason, Role, SessionId, Transport, UserId,
};
use gatekey_aggregates::{Metadata, PersonId, Personal, Root};
use gatekey_projections::Db;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::future::Future;
use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;
use tower::ServiceExt;

const PATIENCE: Duration = Duration::from_secs(10);

fn value<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// Ada and Bob, who may use the gateways `gw-east` and `gw-west`; Ada has two configs for gw-east.
struct Agents {
    plane: TestPlane,
    clock: Clock,
    router: Router,
}

impl Agents {
    async fn new() -> Self {
        let clock = Clock::fixed(start());
        let plane = testing::start("", vec![], clock.clone()).await;
        let router = app::router(plane.state.clone()).unwrap();
        let it = Self { plane, clock, router };
        for (n, name) in ["east", "west"].into_iter().enumerate() {
            let configuration = Configuration {
                name: value(name),
                description: value(""),
                hostname: value("vpn.example.com"),
                public_ip: None,
                port: 1194,
                protocol: Transport::Udp,
                vpn_subnet: value(&format!("10.{n}.0.0/16")),
                crypto_profile: CryptoProfile::Modern,
                tls_auth: false,
                full_tunnel: false,
                push_dns: false,
                dns_servers: Vec::new(),
                active: true,
            };
            let command = gateway::Command::Register {
                configuration,
                token_hash: token_hash(name),
                tls_auth_key: value("sec-1"),
            };
            it.run::<Gateway>(&format!("gw-{name}"), command).await;
        }
        it.user("ada").await;
        it.user("bob").await;
        it.certificate("cfg-1", "ada", "a1").await;
        it.certificate("cfg-2", "ada", "a2").await;
        it.certificate("cfg-3", "bob", "b1").await;
        it
    }

    async fn run<A: Root>(&self, id: &str, command: A::Command) {
        let metadata = Metadata::system("test", PersonId::unknown_on(start().date_naive()));
        let request = Command::new::<A>(id, command, metadata);
        self.plane.state.services.bus.execute::<A>(request).await.unwrap();
    }

    async fn user(&self, name: &str) {
        let id: UserId = value(&format!("usr-{name}"));
        let person = PersonId::user(&id);
        let profile = Profile {
            username: Personal::new(person.clone(), value(name)),
            email: Personal::new(person, value(&format!("{name}@example.com"))),
            name: None,
        };
        let command = user::Command::Create {
            profile,
            role: Role::Member,
            groups: BTreeSet::from([value(&format!("{name}s"))]),
            password: None,
            must_change_password: false,
        };
        self.run::<User>(id.as_str(), command).await;
        for gateway in ["gw-east", "gw-west"] {
            self.run::<Gateway>(gateway, gateway::Command::GrantUser(id.clone())).await;
        }
    }

    async fn certificate(&self, id: &str, name: &str, serial: &str) {
        let user_id: UserId = value(&format!("usr-{name}"));
        let person = PersonId::user(&user_id);
        let subject = Subject::Client {
            user_id,
            gateway_id: value("gw-east"),
            common_name: Personal::new(person, value(&format!("{name}@example.com"))),
            token_hash: token_hash(id),
            bundle: value("sec-2"),
        };
        let issuance = Issuance {
            subject,
            serial: value(serial),
            not_before: start() - TimeDelta::days(1),
            not_after: start() + TimeDelta::days(30),
            fingerprint: "0".repeat(64),
        };
        self.run::<Certificate>(id, certificate::Command::Issue(issuance)).await;
    }

    /// A rule to one address in a network that is attached to gw-east.
    async fn rule(&self, id: &str, address: &str) {
        if self.plane.state.services.index.read().networks.is_empty() {
            let definition = network::Definition {
                name: value("office"),
                cidr: value("10.9.0.0/16"),
                description: value(""),
            };
            self.run::<Network>("net-1", network::Command::Create(definition)).await;
            self.run::<Gateway>("gw-east", gateway::Command::AttachNetwork(value("net-1"))).await;
        }
        let definition = Definition {
            name: value(id),
            description: value(""),
            target: Target::parse(TargetType::Ip, address).unwrap(),
            port_range: None,
            protocol: None,
            network_id: None,
            active: true,
        };
        self.run::<AccessRule>(id, access_rule::Command::Create(definition)).await;
    }

    /// How many rules a client that polls has.
    async fn polls(&self, name: &str, vpn_ip: &str) -> usize {
        let body = json!({"user_id": format!("{name}@example.com"), "client_ip": vpn_ip});
        self.post("client-rules", body).await["allowed"].as_array().unwrap().len()
    }

    /// An agent's call, as a future that borrows nothing.
    fn call(
        &self,
        gateway: &str,
        path: &str,
        mut body: Value,
    ) -> impl Future<Output = (StatusCode, Value)> + Send + use<> {
        body["token"] = gateway.into();
        let mut request = Request::post(format!("/api/v1/gateway/{path}"))
            .body(Body::from(body.to_string()))
            .unwrap();
        request.extensions_mut().insert(ConnectInfo(SocketAddr::from(([192, 0, 2, 1], 1))));
        let router = self.router.clone();
        async move {
            let (parts, body) = router.oneshot(request).await.unwrap().into_parts();
            let body = to_bytes(body, 1 << 20).await.unwrap();
            (parts.status, serde_json::from_slice(&body).unwrap())
        }
    }

    /// A call of the agent at gw-east that is answered with 200.
    #[track_caller]
    fn post(&self, path: &str, body: Value) -> impl Future<Output = Value> + Send + use<> {
        let call = self.call("east", path, body);
        async move {
            let (status, answer) = call.await;
            assert_eq!(status, StatusCode::OK, "{answer}");
            answer
        }
    }

    /// A granted connect: its session.
    async fn connect(&self, serial: &str, vpn_ip: &str, more: Value) -> SessionId {
        let answer = self.post("connect", connect(serial, vpn_ip, more)).await;
        assert_eq!(answer["allow"], true, "{answer}");
        value(answer["session_id"].as_str().unwrap())
    }

    async fn session(&self, id: &SessionId) -> Session {
        self.plane.state.services.bus.load::<Session>(id).await.unwrap().state
    }

    async fn ended(&self, id: &SessionId) -> Option<EndReason> {
        let session = self.session(id).await;
        assert!(session.began.is_some(), "{id} never began");
        session.ended
    }

    /// Ends a session because its gateway fell silent.
    async fn lose(&self, id: &SessionId) {
        let command = session::Command::End {
            reason: EndReason::GatewayLost,
            disconnected_at: self.clock.now(),
            counters: None,
        };
        self.run::<Session>(id.as_str(), command).await;
    }

    /// The sessions that the index has at gw-east.
    fn known(&self) -> Vec<SessionEntry> {
        let state = self.plane.state.services.index.read();
        state.sessions.of_gateway(&value::<GatewayId>("gw-east")).cloned().collect()
    }

    /// Every session that ever began, and why it ended.
    async fn history(&self) -> Vec<(String, Option<String>)> {
        let sql = "SELECT id, end_reason FROM connections ORDER BY position";
        self.plane.state.services.db.all(sql, &[]).await.unwrap()
    }

    /// Keeps the log from being written until this is dropped.
    async fn hold_the_log(&self) -> sqlx::pool::PoolConnection<sqlx::Sqlite> {
        let Db::Sqlite { write, .. } = &self.plane.state.services.db else { unreachable!() };
        let mut held = write.acquire().await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *held).await.unwrap();
        held
    }
}

async fn let_go(mut held: sqlx::pool::PoolConnection<sqlx::Sqlite>) {
    sqlx::query("ROLLBACK").execute(&mut *held).await.unwrap();
}

fn connect(serial: &str, vpn_ip: &str, more: Value) -> Value {
    let name = if serial.starts_with('a') { "ada" } else { "bob" };
    let mut body = json!({
        "common_name": format!("{name}@example.com"), "serial_number": serial,
        "client_ip": "192.0.2.7", "vpn_ipv4": vpn_ip,
    });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

fn disconnect(more: Value) -> Value {
    connect("a1", "10.0.0.9", more)
}

fn at(seconds: i64) -> Value {
    json!((start() + TimeDelta::seconds(seconds)).to_rfc3339())
}

/// Waits until it is so.
async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "never: {what}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_that_is_late_is_refused_and_ends_when_it_has_begun() {
    let agents = Agents::new().await;
    let older = agents.connect("a2", "10.0.0.2", json!({})).await;
    let held = agents.hold_the_log().await;
    let call = agents.call("east", "connect", connect("a1", "10.0.0.9", json!({})));
    let (status, answer) = call.await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((&answer["allow"], &answer["client_config"]), (&json!(false), &json!(["disable"])));
    // OpenVPN runs the hook of the disconnect at once.
    let disconnecting = tokio::spawn(agents.post("disconnect", disconnect(json!({}))));
    let_go(held).await;
    disconnecting.await.unwrap();
    until("the late one has begun and ended", async || {
        matches!(&agents.history().await[1..], [(_, Some(reason))] if reason == "disconnected")
    })
    .await;
    assert_eq!(agents.ended(&older).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connect_whose_agent_has_gone_ends_when_it_has_begun() {
    let agents = Agents::new().await;
    let held = agents.hold_the_log().await;
    let call = agents.call("east", "connect", connect("a1", "10.0.0.9", json!({})));
    let given_up = tokio::time::timeout(Duration::from_millis(300), call).await;
    assert!(given_up.is_err());
    let_go(held).await;
    until("it has begun and ended", async || {
        matches!(&agents.history().await[..], [(_, Some(reason))] if reason == "disconnected")
    })
    .await;
    // The same client, let in a little later, is not the one that nobody wanted.
    let id = agents.connect("a1", "10.0.0.9", json!({})).await;
    assert_eq!(agents.ended(&id).await, None);
}

/// The commit was done and its answer lost: the disconnect of the refused client ends just that one.
#[tokio::test(flavor = "multi_thread")]
async fn a_connect_in_doubt_ends_with_its_disconnect() {
    let agents = Agents::new().await;
    let older = agents.connect("a2", "10.0.0.2", json!({})).await;
    let doubtful = agents.connect("a1", "10.0.0.9", json!({})).await;
    let refused = |id: Option<&SessionId>| {
        let ip = Some(value("192.0.2.7"));
        let (gateway, now) = (value("gw-east"), agents.clock.now());
        let memory = &agents.plane.state.connects;
        memory.refused(&gateway, "ada@example.com", ip, id.cloned(), now);
    };
    refused(Some(&doubtful));
    agents.post("disconnect", disconnect(json!({}))).await;
    assert_eq!(agents.ended(&doubtful).await, Some(EndReason::Disconnected));
    // One that did not begin is no error, and ends nothing.
    refused(Some(&value("con-none")));
    agents.post("disconnect", disconnect(json!({}))).await;
    refused(None);
    agents.post("disconnect", disconnect(json!({}))).await;
    assert_eq!(agents.ended(&older).await, None);
    agents.post("disconnect", disconnect(json!({}))).await;
    assert_eq!(agents.ended(&older).await, Some(EndReason::Disconnected));
}

#[tokio::test]
async fn a_disconnect_ends_no_session_that_began_after_it() {
    let agents = Agents::new().await;
    let older = agents.connect("a1", "10.0.0.2", json!({"occurred_at": at(-60)})).await;
    let newer = agents.connect("a2", "10.0.0.3", json!({"occurred_at": at(-20)})).await;
    agents.post("disconnect", disconnect(json!({"occurred_at": at(-61)}))).await;
    assert_eq!(agents.ended(&older).await, None);
    agents.post("disconnect", disconnect(json!({"occurred_at": at(-30)}))).await;
    assert_eq!(agents.ended(&older).await, Some(EndReason::Disconnected));
    assert_eq!(agents.ended(&newer).await, None);
}

#[tokio::test]
async fn a_disconnect_means_open_sessions_before_lost_ones() {
    let agents = Agents::new().await;
    let open = agents.connect("a1", "10.0.0.2", json!({})).await;
    let lost = agents.connect("a2", "10.0.0.3", json!({})).await;
    agents.lose(&lost).await;
    agents.post("disconnect", disconnect(json!({}))).await;
    assert_eq!(agents.ended(&open).await, Some(EndReason::Disconnected));
    assert_eq!(agents.ended(&lost).await, Some(EndReason::GatewayLost));
    agents.post("disconnect", disconnect(json!({}))).await;
    assert_eq!(agents.ended(&lost).await, Some(EndReason::Disconnected));
}

#[tokio::test]
async fn a_named_session_is_ended_by_its_own_gateway() {
    let agents = Agents::new().await;
    let id = agents.connect("a1", "10.0.0.2", json!({})).await;
    agents.lose(&id).await;
    // Forgotten by the index, and still not another's.
    agents.plane.state.services.index.prune(start() + TimeDelta::days(2));
    assert_eq!(agents.known(), []);
    let body = disconnect(json!({"session_id": id, "bytes_sent": 5}));
    let (status, _) = agents.call("west", "disconnect", body.clone()).await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(agents.ended(&id).await, Some(EndReason::GatewayLost));
    agents.post("disconnect", body).await;
    let session = agents.session(&id).await;
    assert_eq!(
        (session.ended, session.counters.bytes_sent),
        (Some(EndReason::Disconnected), Some(5))
    );
}

#[tokio::test]
async fn a_named_report_that_comes_again_changes_nothing() {
    let agents = Agents::new().await;
    let named = json!({"event_id": "e-1", "occurred_at": at(-60)});
    let first = agents.connect("a1", "10.0.0.2", named.clone()).await;
    assert_eq!(agents.connect("a1", "10.0.0.2", named.clone()).await, first);
    let holder = agents.connect("b1", "10.0.0.2", json!({"occurred_at": at(-30)})).await;
    assert_eq!(agents.ended(&first).await, Some(EndReason::Superseded));
    let again = json!({"event_id": "e-1"});
    assert_eq!(agents.connect("a1", "10.0.0.2", again).await, first);
    assert_eq!(agents.ended(&holder).await, None);
    assert_eq!(agents.history().await.len(), 2);
}

#[tokio::test]
async fn a_late_connect_takes_no_address_from_a_later_one() {
    let agents = Agents::new().await;
    let holder = agents.connect("b1", "10.0.0.2", json!({"occurred_at": at(-30)})).await;
    for more in [json!({"occurred_at": at(-60)}), json!({"occurred_at": at(-50), "event_id": "e"})]
    {
        let late = agents.connect("a1", "10.0.0.2", more.clone()).await;
        let session = agents.session(&late).await;
        assert_eq!(session.ended, Some(EndReason::Superseded), "{more}");
    }
    assert_eq!(agents.ended(&holder).await, None);
    let sql = "SELECT disconnected_at FROM connections WHERE end_reason = 'superseded'";
    let ends: Vec<(i64,)> = agents.plane.state.services.db.all(sql, &[]).await.unwrap();
    let holder_began = (start() - TimeDelta::seconds(30)).timestamp_micros();
    assert_eq!(ends, [(holder_began,), (holder_began,)]);
}

#[tokio::test]
async fn a_repeat_of_a_lost_session_whose_address_is_taken_is_a_new_one() {
    let agents = Agents::new().await;
    let lost = agents.connect("a1", "10.0.0.2", json!({})).await;
    agents.lose(&lost).await;
    // Nobody has its address: it is back.
    assert_eq!(agents.connect("a1", "10.0.0.2", json!({})).await, lost);
    assert_eq!(agents.ended(&lost).await, None);
    agents.lose(&lost).await;
    let taker = agents.connect("b1", "10.0.0.2", json!({})).await;
    let new = agents.connect("a1", "10.0.0.2", json!({})).await;
    assert_ne!(new, lost);
    assert_eq!(agents.ended(&new).await, None);
    assert_eq!(agents.ended(&lost).await, Some(EndReason::GatewayLost));
    assert_eq!(agents.ended(&taker).await, Some(EndReason::Superseded));
}

/// Ada was lost, Bob took her address and left: the index, live and from the views, finds Ada again.
#[tokio::test]
async fn an_address_is_the_next_ones_when_its_holder_ends() {
    let agents = Agents::new().await;
    let ada = agents.connect("a1", "10.0.0.2", json!({})).await;
    agents.lose(&ada).await;
    let bob = agents.connect("b1", "10.0.0.2", json!({})).await;
    let holder = |state: &crate::access::State| {
        let ip = value("10.0.0.2");
        state.sessions.holder(&value("gw-east"), ip).map(|it| it.id.clone())
    };
    let index = &agents.plane.state.services.index;
    assert_eq!(holder(&index.read()), Some(bob.clone()));
    let body = disconnect(json!({"common_name": "bob@example.com"}));
    agents.post("disconnect", body).await;
    assert_eq!(agents.ended(&bob).await, Some(EndReason::Disconnected));
    assert_eq!(holder(&index.read()), Some(ada));
    let db = &agents.plane.state.services.db;
    let loaded = crate::access::load(db, agents.clock.now()).await.unwrap();
    assert_eq!(loaded.sessions, index.read().sessions);
}

#[tokio::test]
async fn a_heartbeat_finds_lost_sessions_again_but_not_in_place_of_open_ones() {
    let agents = Agents::new().await;
    let taken_in = async || {
        let turns = &agents.plane.state.heartbeats;
        until("it is taken in", async || turns.begin(&value("gw-east")).is_some()).await;
    };
    let list = |more: Value| {
        let mut body = json!({"connected_clients": [{"common_name": "ada@example.com"}]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let older = agents.connect("a1", "10.0.0.2", json!({"occurred_at": at(-60)})).await;
    let lost = agents.connect("a1", "10.0.0.3", json!({"occurred_at": at(-50)})).await;
    agents.lose(&older).await;
    agents.lose(&lost).await;
    // Made before they were lost.
    agents.post("heartbeat", list(json!({"occurred_at": at(-1)}))).await;
    taken_in().await;
    assert_eq!(agents.ended(&lost).await, Some(EndReason::GatewayLost));
    agents.clock.advance(TimeDelta::seconds(1));
    let open = agents.connect("a2", "10.0.0.4", json!({})).await;
    agents.post("heartbeat", list(json!({}))).await;
    taken_in().await;
    assert_eq!(agents.ended(&lost).await, Some(EndReason::GatewayLost));
    agents.post("disconnect", disconnect(json!({"session_id": open}))).await;
    // One client is one session: the newest.
    agents.post("heartbeat", list(json!({}))).await;
    taken_in().await;
    assert_eq!(agents.ended(&lost).await, None);
    assert_eq!(agents.ended(&older).await, Some(EndReason::GatewayLost));
    // A list that is too long ends nobody.
    agents.clock.advance(TimeDelta::seconds(70));
    let too_long = vec![json!({"common_name": "eve"}); 10_001];
    agents.post("heartbeat", json!({"connected_clients": too_long})).await;
    taken_in().await;
    assert_eq!(agents.ended(&lost).await, None);
    agents.post("heartbeat", json!({"connected_clients": []})).await;
    taken_in().await;
    assert_eq!(agents.ended(&lost).await, Some(EndReason::Disconnected));
}

#[tokio::test]
async fn what_a_heartbeat_says_wrongly_it_does_not_say() {
    let agents = Agents::new().await;
    let id = agents.connect("a1", "10.0.0.2", json!({"occurred_at": at(-90)})).await;
    let body = json!({
        "public_ip": "not yet known", "config_version": "v".repeat(129),
        "connected_clients": [
            {"common_name": "ada@example.com", "session_id": "?", "client_ip": "?", "vpn_ipv4": "10.0.0.2"},
        ],
    });
    let answer = agents.post("heartbeat", body).await;
    assert_eq!((&answer["status"], &answer["needs_reprovision"]), (&json!("ok"), &json!(true)));
    let turns = &agents.plane.state.heartbeats;
    until("it is taken in", async || turns.begin(&value("gw-east")).is_some()).await;
    assert_eq!(agents.ended(&id).await, None);
    let said = agents.plane.state.services.telemetry.gateway(&value("gw-east")).unwrap();
    assert_eq!(said.config_version, None);
}

/// Who polls is known by the certificate that they came in with, not by another of the same name.
#[tokio::test]
async fn a_revoked_certificate_reaches_nothing_through_another_of_the_same_name() {
    let agents = Agents::new().await;
    agents.rule("rule-1", "10.9.0.1").await;
    let assign = access_rule::Command::AssignUser(value("usr-ada"));
    agents.run::<AccessRule>("rule-1", assign).await;
    // Before the report of the connection there is no doubt who it is.
    assert_eq!(agents.polls("ada", "10.0.0.2").await, 1);
    agents.connect("a1", "10.0.0.2", json!({})).await;
    assert_eq!(agents.polls("ada", "10.0.0.2").await, 1);
    // It ended here and goes on there.
    agents.post("disconnect", disconnect(json!({}))).await;
    assert_eq!(agents.known(), []);
    assert_eq!(agents.polls("ada", "10.0.0.2").await, 1);
    let revoke = certificate::Command::Revoke(RevocationReason::KeyCompromise);
    agents.run::<Certificate>("cfg-1", revoke.clone()).await;
    assert_eq!(agents.polls("ada", "10.0.0.2").await, 0);
    // At an address where nobody was known it may be the revoked one.
    assert_eq!(agents.polls("ada", "10.0.0.3").await, 0);
    // The other one is good where it is known, also after the end; but not under another's name.
    agents.connect("a2", "10.0.0.3", json!({})).await;
    assert_eq!(agents.polls("ada", "10.0.0.3").await, 1);
    agents.post("disconnect", disconnect(json!({}))).await;
    assert_eq!(agents.polls("ada", "10.0.0.3").await, 1);
    assert_eq!(agents.polls("bob", "10.0.0.3").await, 0);
    agents.clock.advance(TimeDelta::hours(1) + TimeDelta::seconds(1));
    assert_eq!(agents.polls("ada", "10.0.0.3").await, 0);
}

/// From where a client came is known as long as with what: the fence measures it by that.
#[tokio::test]
async fn a_connection_that_ended_here_is_still_fenced_by_where_it_came_from() {
    let agents = Agents::new().await;
    agents.rule("rule-1", "10.9.0.1").await;
    let assign = access_rule::Command::AssignUser(value("usr-ada"));
    agents.run::<AccessRule>("rule-1", assign).await;
    let definition = geo_fence_rule::Definition {
        name: value("office"),
        cidr: value("192.0.2.0/24"),
        description: value(""),
    };
    let rule = "fence-1";
    agents.run::<GeoFenceRule>(rule, geo_fence_rule::Command::Create(definition.clone())).await;
    agents.run::<GeoFenceRule>(rule, geo_fence_rule::Command::AttachGlobally).await;
    let values = geo_fence::Values { enabled: true, mode: geo_fence::Mode::Enforce };
    agents.run::<GeoFence>(geo_fence::ID, geo_fence::Command::Change(values)).await;

    // Before the report of the connection nobody knows from where it comes.
    assert_eq!(agents.polls("ada", "10.0.0.2").await, 0);
    agents.connect("a1", "10.0.0.2", json!({"client_ip": "192.0.2.7"})).await;
    assert_eq!(agents.polls("ada", "10.0.0.2").await, 1);
    agents.post("disconnect", disconnect(json!({"client_ip": "192.0.2.7"}))).await;
    assert_eq!(agents.known(), []);
    assert_eq!(agents.polls("ada", "10.0.0.2").await, 1);
    let elsewhere = geo_fence_rule::Definition { cidr: value("203.0.113.0/24"), ..definition };
    agents.run::<GeoFenceRule>(rule, geo_fence_rule::Command::Update(elsewhere)).await;
    assert_eq!(agents.polls("ada", "10.0.0.2").await, 0);
}

#[tokio::test]
async fn all_rules_are_those_of_people_who_may_use_the_gateway() {
    let agents = Agents::new().await;
    for n in 1..=4 {
        agents.rule(&format!("rule-{n}"), &format!("10.9.0.{n}")).await;
    }
    let assign = |user: &str| access_rule::Command::AssignUser(value(user));
    let assign_group = |group: &str| access_rule::Command::AssignGroup(value(group));
    agents.run::<AccessRule>("rule-1", assign("usr-ada")).await;
    agents.run::<AccessRule>("rule-1", assign("usr-bob")).await;
    agents.run::<AccessRule>("rule-2", assign_group("adas")).await;
    agents.run::<AccessRule>("rule-3", assign_group("bobs")).await;
    let all = async || agents.post("all-rules", json!({})).await;
    let ids = |answer: &Value| -> Vec<String> {
        let rules = answer["rules"].as_array().unwrap().iter();
        rules.map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    let before = all().await;
    assert_eq!(ids(&before), ["rule-1", "rule-2", "rule-3"]);
    assert_eq!(before["user_rules"], json!({"usr-ada": ["rule-1"], "usr-bob": ["rule-1"]}));
    assert_eq!(before["group_rules"], json!({"adas": ["rule-2"], "bobs": ["rule-3"]}));

    agents.run::<Gateway>("gw-east", gateway::Command::RevokeUser(value("usr-bob"))).await;
    let after = all().await;
    assert_eq!(ids(&after), ["rule-1", "rule-2"]);
    assert_eq!(after["user_rules"], json!({"usr-ada": ["rule-1"]}));
    assert_eq!(after["group_rules"], json!({"adas": ["rule-2"]}));
    assert_ne!(after["hash"], before["hash"]);
    agents.run::<User>("usr-ada", user::Command::Disable).await;
    assert_eq!(ids(&all().await), Vec::<String>::new());
    agents.run::<User>("usr-ada", user::Command::Enable).await;
    assert_eq!(all().await["hash"], after["hash"]);

    let configuration = {
        let state = agents.plane.state.services.index.read();
        state.gateways[&value::<GatewayId>("gw-east")].configuration.clone()
    };
    let inactive = Configuration { active: false, ..configuration };
    agents.run::<Gateway>("gw-east", gateway::Command::Configure(inactive)).await;
    let nothing = all().await;
    assert_eq!(ids(&nothing), Vec::<String>::new());
    assert_eq!((&nothing["user_rules"], &nothing["group_rules"]), (&json!({}), &json!({})));
}
