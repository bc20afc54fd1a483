//! Gateways that fall silent: offline after 90 s, their connections lost 60 s later; and what they
//! say afterwards sets it right.

use super::{CLIENT_IP, SOON, Scene, VPN_IP};
use crate::harness::fixtures::{Gateway, merged};
use crate::harness::plane::Plane;
use crate::harness::server::ADMIN_PASSWORD;
use crate::harness::wait::eventually;
use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use gatekey::clock::Clock;
use serde_json::{Value, json};

on_both! {
    async fn a_silent_gateways_connections_are_lost_and_found(kind: Kind) {
        let plane = Plane::start(kind, Clock::system().now()).await;
        let scene = scene(&plane).await;
        let west = West::of(&scene).await;
        let pass = |seconds| plane.clock.advance(TimeDelta::seconds(seconds));
        let (east, session) = (&scene.gateway, scene.connected(json!({})).await);
        beat(east, json!({})).await;
        has_status(&scene, east, "online").await;
        has_status(&scene, &west.gateway, "online").await;

        // Polls of client-rules are evidence of life too: only the other one is lost.
        pass(80);
        scene.may_reach().await;
        pass(80);
        is_ended(&scene, &west.session, "gateway_lost").await;
        has_status(&scene, &west.gateway, "offline").await;
        assert_eq!(scene.open().await, [session.as_str()]);

        // Silent for 91 s: offline, and its connections are given another minute.
        pass(11);
        eventually("it went offline", SOON, || async {
            scene.history(&east.id).await.contains(&"gateway.went_offline".to_owned()).then_some(())
        }).await;
        has_status(&scene, east, "offline").await;
        assert_eq!(scene.open().await, [session.as_str()]);
        pass(60);
        is_ended(&scene, &session, "gateway_lost").await;
        assert_eq!(scene.open().await, Vec::<String>::new());

        // It was there all the while: a poll says so, and is answered as if nothing had been.
        assert_eq!(scene.may_reach().await.len(), 1);
        is_open(&scene, &session).await;
        assert_eq!(scene.connection(&session).await["disconnected_at"], Value::Null);

        // The same from a heartbeat that lists who is connected.
        pass(151);
        is_ended(&scene, &session, "gateway_lost").await;
        beat(east, json!({"connected_clients": [present(&scene)]})).await;
        is_open(&scene, &session).await;
        has_status(&scene, east, "online").await;

        // The same from a report of the connection that is sent once more.
        pass(151);
        is_ended(&scene, &session, "gateway_lost").await;
        let began = scene.connection(&session).await["connected_at"].clone();
        assert_eq!(scene.connected(json!({"occurred_at": began})).await, session);
        is_open(&scene, &session).await;

        // A disconnect that comes late tells the true end.
        pass(151);
        is_ended(&scene, &session, "gateway_lost").await;
        pass(3600);
        scene.disconnect(json!({"bytes_sent": 5678, "bytes_received": 1234})).await;
        let connection = scene.connection(&session).await;
        assert_eq!(connection["end_reason"], "disconnected");
        assert_eq!(connection["bytes_sent"], 5678);
        // And then it is over.
        scene.may_reach().await;
        beat(east, json!({"connected_clients": [present(&scene)]})).await;
        let mut expected = vec!["session.began"];
        expected.extend(["session.ended", "session.resumed"].repeat(3));
        expected.extend(["session.ended", "session.ended"]);
        assert_eq!(scene.history(&session).await, expected);
        assert_eq!(scene.history(&west.session).await, ["session.began", "session.ended"]);
    }

    /// What was lost does not come back where another has its address.
    async fn a_lost_connection_gives_its_address_away(kind: Kind) {
        let plane = Plane::start(kind, Clock::system().now()).await;
        let scene = scene(&plane).await;
        let phone = scene.connected(json!({"vpn_ipv4": "172.31.255.3"})).await;
        let lost = scene.connected(json!({})).await;
        plane.clock.advance(TimeDelta::seconds(151));
        is_ended(&scene, &lost, "gateway_lost").await;
        is_ended(&scene, &phone, "gateway_lost").await;

        let (bob, config) = scene.another("bob").await;
        let came = json!({
            "common_name": bob.email, "serial_number": config.serial, "client_ip": "192.0.2.9",
        });
        let his = scene.connected(came).await;
        // All three are on the list; the phone is the last that is taken back.
        let mut phones = present(&scene);
        phones["vpn_ipv4"] = json!("172.31.255.3");
        let hers = json!([present(&scene), phones, {"common_name": bob.email}]);
        beat(&scene.gateway, json!({ "connected_clients": hers })).await;
        is_open(&scene, &phone).await;
        // A poll for her name at that address is no evidence either.
        scene.may_reach().await;
        assert_eq!(scene.end_reason(&lost).await, "gateway_lost");
        assert_eq!(scene.end_reason(&his).await, Value::Null);

        // He leaves, and hers is still there, after all.
        let left = json!({"common_name": bob.email, "client_ip": "192.0.2.9"});
        scene.disconnect(left).await;
        assert_eq!(scene.end_reason(&his).await, "disconnected");
        scene.may_reach().await;
        is_open(&scene, &lost).await;
        // And makes way for the next one.
        let next = scene.connected(json!({"client_ip": "203.0.113.77"})).await;
        assert_eq!(scene.end_reason(&lost).await, "superseded");
        assert_eq!(scene.open().await.len(), 2);
        assert_eq!(scene.end_reason(&next).await, Value::Null);
    }

    /// A heartbeat's list ends what the gateway no longer has, but nothing that it can't know yet.
    async fn a_list_of_clients_reconciles(kind: Kind) {
        let plane = Plane::start(kind, Clock::system().now()).await;
        let scene = scene(&plane).await;
        let pass = || plane.clock.advance(TimeDelta::seconds(61));
        let first = scene.connected(json!({})).await;
        pass();
        // A list that was made just now and comes a minute late: it can't know the second.
        let made_at = plane.clock.now();
        let second = scene.connected(json!({"vpn_ipv4": "172.31.255.3"})).await;
        pass();
        let late = json!({"connected_clients": [], "occurred_at": made_at});
        ends(&scene, &first, &late).await;
        assert_eq!(scene.open().await, [second.as_str()]);
        let connection = scene.connection(&first).await;
        let disconnected_at: DateTime<Utc> =
            connection["disconnected_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(disconnected_at, made_at);

        // What began within the last minute may not be on the list yet. Without a list, or with one
        // that can't be had, nothing is said about clients.
        let third = scene.connected(json!({"vpn_ipv4": "172.31.255.4"})).await;
        beat(&scene.gateway, json!({"connected_clients": null})).await;
        ends(&scene, &second, &json!({"connected_clients": []})).await;
        assert_eq!(scene.open().await, [third.as_str()]);

        // By id, or by name and address.
        let fourth = scene.connected(json!({"vpn_ipv4": "172.31.255.5"})).await;
        let fifth = scene.connected(json!({"vpn_ipv4": "172.31.255.6"})).await;
        pass();
        let list = json!([
            {"common_name": scene.ada.email, "session_id": fourth},
            {"common_name": scene.ada.email, "client_ip": CLIENT_IP, "vpn_ipv4": "172.31.255.6",
             "connected_at": made_at, "real_address": "a field that nobody knows"},
            {"common_name": "nobody@example.com", "vpn_ipv4": "172.31.255.4"},
        ]);
        ends(&scene, &third, &json!({ "connected_clients": list })).await;
        let mut left = vec![fourth.clone(), fifth.clone()];
        left.sort();
        assert_eq!(scene.open().await, left);
        // That name at another address is another connection.
        let elsewhere = json!([
            {"common_name": scene.ada.email, "client_ip": "192.0.2.1"},
            {"common_name": scene.ada.email, "session_id": fifth},
        ]);
        ends(&scene, &fourth, &json!({ "connected_clients": elsewhere })).await;
        assert_eq!(scene.open().await, [fifth]);
    }

    /// A refused connect swallows the disconnect that follows it, but not for ever.
    async fn a_refused_connect_is_forgotten_in_time(kind: Kind) {
        let plane = Plane::start(kind, Clock::system().now()).await;
        let scene = scene(&plane).await;
        let session = scene.connected(json!({})).await;
        assert_eq!(scene.connect(json!({"serial_number": "5a0f3c"})).await["allow"], false);
        plane.clock.advance(TimeDelta::seconds(121));
        scene.disconnect(json!({})).await;
        assert_eq!(scene.end_reason(&session).await, "disconnected");
    }

    /// Server certificates are renewed at two thirds of their life, and clients' are refused once
    /// they have expired.
    async fn certificates_age(kind: Kind) {
        let plane = Plane::start(kind, Clock::system().now()).await;
        let scene = scene(&plane).await;
        let patient = json!({
            "gateway_offline_seconds": 3600, "gateway_lost_grace_seconds": 3600,
        });
        scene.admin.put("/admin/settings", &patient).await.ok();
        let session = scene.connected(json!({})).await;
        let provision =
            async || scene.gateway.agent.post("/gateway/provision", &json!({})).await.flat(200);
        let provisioned = provision().await;
        let version = provisioned["config_version"].clone();
        let known = json!({ "config_version": version });
        let pass = async |hours| {
            for _ in 0..hours {
                plane.clock.advance(TimeDelta::hours(1));
                let answer = beat(&scene.gateway, known.clone()).await;
                assert_eq!(answer["needs_reprovision"], false, "{answer}");
            }
        };

        pass(23).await;
        assert_eq!(scene.verify(json!({})).await["allowed"], true);
        pass(2).await;
        let answer = scene.verify(json!({})).await;
        assert_eq!(answer["code"], "certificate_expired", "{answer}");
        assert_eq!(scene.may_reach().await, Vec::<Value>::new());
        // A connection outlives its certificate until the next renegotiation, and not for ever.
        pass(1).await;
        assert_eq!(scene.open().await, [session.as_str()]);
        pass(2).await;
        is_ended(&scene, &session, "certificate_expired").await;

        plane.clock.advance(TimeDelta::days(58));
        assert_eq!(beat(&scene.gateway, known.clone()).await["needs_reprovision"], false);
        assert_eq!(provision().await, provisioned);
        plane.clock.advance(TimeDelta::days(2));
        assert_eq!(beat(&scene.gateway, known).await["needs_reprovision"], true);
        let renewed = provision().await;
        assert_ne!(renewed["server_cert"], provisioned["server_cert"]);
        assert_ne!(renewed["config_version"], version);
        let known = json!({"config_version": renewed["config_version"]});
        assert_eq!(beat(&scene.gateway, known).await["needs_reprovision"], false);
    }

    /// What a heartbeat finds is measured by the geo-fence like what is reported.
    async fn what_a_heartbeat_finds_is_fenced(kind: Kind) {
        let plane = Plane::start(kind, Clock::system().now()).await;
        let scene = scene(&plane).await;
        let gateway_id = scene.gateway.id.parse().unwrap();
        let began = plane.clock.now().trunc_subsecs(0) - TimeDelta::seconds(90);
        let client = merged(present(&scene), json!({"connected_at": began}));
        let lists = async || {
            beat(&scene.gateway, json!({"connected_clients": [client]})).await;
            plane.heartbeat_is_taken_in(&gateway_id).await;
            scene.open().await
        };
        let written = async |code: &str| {
            eventually(code, SOON, || async { scene.events(code).await.into_iter().next() }).await
        };
        scene.admin.set_fence(true, "enforce").await;
        assert_eq!(lists().await, Vec::<String>::new());
        let denied = written("attempt.connect_denied").await;
        assert_eq!(denied["payload"]["reason"], "outside_geo_fence");
        scene.admin.set_fence(true, "audit").await;
        assert_eq!(lists().await.len(), 1);
        let noted = written("attempt.fence_would_deny").await;
        assert_eq!(noted["payload"]["user_id"], scene.ada.id);
        assert_eq!(noted["payload"]["client_ip"], CLIENT_IP);
    }

    /// Its connect was lost on the way: a list of clients that says all of it begins the connection,
    /// once, if the whole decision says yes.
    async fn what_was_never_reported_is_found_by_a_heartbeat(kind: Kind) {
        let plane = Plane::start(kind, Clock::system().now()).await;
        let scene = scene(&plane).await;
        let gateway_id = scene.gateway.id.parse().unwrap();
        let lists = async |client: Value| {
            beat(&scene.gateway, json!({"connected_clients": [client]})).await;
            plane.heartbeat_is_taken_in(&gateway_id).await;
            scene.open().await
        };
        let nobody = Vec::<String>::new();
        let ago = |seconds| plane.clock.now().trunc_subsecs(0) - TimeDelta::seconds(seconds);
        let since = |at: DateTime<Utc>| merged(present(&scene), json!({"connected_at": at}));

        // Not all is said; its report may be on its way; it was reported, and is over.
        let began = ago(90);
        for missing in ["client_ip", "vpn_ipv4", "connected_at"] {
            let mut client = since(began);
            client.as_object_mut().unwrap().remove(missing);
            assert_eq!(lists(client).await, nobody, "{missing}");
        }
        assert_eq!(lists(since(ago(30))).await, nobody);
        let named = merged(since(began), json!({"session_id": "con-over"}));
        assert_eq!(lists(named).await, nobody);
        // A list of long ago.
        let old = json!({"connected_clients": [since(ago(900))], "occurred_at": ago(300)});
        beat(&scene.gateway, old).await;
        plane.heartbeat_is_taken_in(&gateway_id).await;
        assert_eq!(scene.open().await, nobody);

        let found = lists(since(began)).await;
        let [session] = found.as_slice() else { panic!("{found:?}") };
        let connection = scene.connection(session).await;
        assert_eq!(connection["connected_at"].as_str().unwrap().parse(), Ok(began));
        assert_eq!((&connection["client_ip"], &connection["vpn_ip"]), (&json!(CLIENT_IP), &json!(VPN_IP)));
        assert_eq!(connection["user"]["id"], scene.ada.id);
        assert_eq!(lists(since(began)).await, found);
        assert_eq!(scene.may_reach().await.len(), 1);
        // The report comes after all.
        let late = json!({"event_id": "e1", "occurred_at": began});
        assert_eq!(&scene.connected(late).await, session);
        assert_eq!(scene.history(session).await, ["session.began"]);

        // A list that was made before the disconnect brings nothing back; another connection is one.
        scene.disconnect(json!({})).await;
        assert_eq!(lists(since(began)).await, nobody);
        plane.clock.advance(TimeDelta::seconds(121));
        let another = lists(since(ago(61))).await;
        assert_eq!(another.len(), 1);
        ends(&scene, &another[0], &json!({"connected_clients": []})).await;
        plane.clock.advance(TimeDelta::seconds(121));

        // Whose certificate may be the revoked one is not let in by a list.
        let config = scene.ada.api.generate_config(&scene.gateway).await;
        let revoke = json!({"config_id": config.id, "reason": "key_compromise"});
        scene.admin.post("/admin/pki/revoke", &revoke).await.ok();
        let elsewhere = merged(since(ago(61)), json!({"vpn_ipv4": "172.31.255.9"}));
        assert_eq!(lists(elsewhere).await, nobody);
        assert_eq!(scene.events("attempt.connect_denied").await, Vec::<Value>::new());
        // Who may not be there is taken down.
        scene.ungrant().await;
        let (bob, _) = scene.another("bob").await;
        scene.admin.post(&format!("/admin/users/{}/disable", bob.id), &Value::Null).await.ok();
        let bob_is_there = merged(since(ago(61)), json!({"common_name": bob.email}));
        assert_eq!(lists(bob_is_there).await, nobody);
        let denied = eventually("the denial", SOON, || async {
            scene.events("attempt.connect_denied").await.into_iter().next()
        }).await;
        assert_eq!(denied["payload"]["reason"], "user_disabled");
        assert_eq!(denied["payload"]["user_id"], bob.id);
    }
}

/// A scene whose admin does not have to sign in again, however much time passes.
async fn scene(plane: &Plane) -> Scene {
    let admin = plane.serve().await.login("admin", ADMIN_PASSWORD).await;
    let key = admin.post("/api-keys", &json!({"name": "clockwork"})).await.created();
    Scene::by(admin.bearer(key["key"].as_str().expect("the key"))).await
}

/// Another gateway, which says nothing any more, with a connection.
struct West {
    gateway: Gateway,
    session: String,
}

impl West {
    async fn of(scene: &Scene) -> Self {
        let gateway = scene.admin.create_gateway("us-west-1").await;
        scene.admin.grant(&gateway, &scene.ada).await;
        let config = scene.ada.api.generate_config(&gateway).await;
        let came = json!({
            "common_name": scene.ada.email, "serial_number": config.serial,
            "client_ip": CLIENT_IP, "vpn_ipv4": VPN_IP,
        });
        beat(&gateway, json!({})).await;
        let answer = gateway.agent.post("/gateway/connect", &came).await.flat(200);
        let session = answer["session_id"].as_str().expect("a session").to_owned();
        Self { gateway, session }
    }
}

/// Ada, on a heartbeat's list.
fn present(scene: &Scene) -> Value {
    json!({"common_name": scene.ada.email, "client_ip": CLIENT_IP, "vpn_ipv4": VPN_IP})
}

async fn beat(gateway: &Gateway, body: Value) -> Value {
    gateway.agent.post("/gateway/heartbeat", &body).await.flat(200)
}

async fn has_status(scene: &Scene, gateway: &Gateway, status: &str) {
    let path = format!("/admin/gateways/{}", gateway.id);
    assert_eq!(scene.admin.get(&path).await.ok()["status"], status);
}

async fn is_ended(scene: &Scene, session: &str, reason: &str) {
    eventually(&format!("the connection ended: {reason}"), SOON, || async {
        (scene.end_reason(session).await == reason).then_some(())
    })
    .await;
}

/// A heartbeat ends a connection. It is taken in in the background, and one that comes meanwhile
/// is not: an agent sends the next one anyway.
async fn ends(scene: &Scene, session: &str, body: &Value) {
    eventually("the heartbeat ends the connection", SOON, || async {
        beat(&scene.gateway, body.clone()).await;
        (scene.end_reason(session).await == "disconnected").then_some(())
    })
    .await;
}

async fn is_open(scene: &Scene, session: &str) {
    eventually("the connection is open", SOON, || async {
        scene.open().await.contains(&session.to_owned()).then_some(())
    })
    .await;
}
