//! Heartbeats and provisioning: an agent learns whether it is up to date, and catches up.

use super::verify::serial_of;
use super::{SOON, Scene};
use crate::harness::Api;
use crate::harness::fixtures::{Gateway, merged};
use crate::harness::wait::eventually;
use serde_json::{Value, json};

both! {
    async fn an_agent_is_told_when_to_provision_anew(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let path = format!("/admin/gateways/{}", gateway.id);

        // The first one after the installation has no version yet.
        let first = beat(&gateway, json!({})).await;
        assert_eq!(first["needs_reprovision"], true, "{first}");
        let provisioned = provision(&gateway).await;
        let version = &provisioned["config_version"];
        let answer = beat(&gateway, json!({"config_version": version})).await;
        assert_eq!(answer["needs_reprovision"], false, "{answer}");
        assert_eq!(&answer["config_version"], version);

        // Asked again, it is the same.
        let again = provision(&gateway).await;
        assert_eq!(again, provisioned);
        // One that has another version is told so each time, whatever it has.
        for wrong in ["x", "0"] {
            let answer = beat(&gateway, json!({"config_version": wrong})).await;
            assert_eq!(answer["needs_reprovision"], true);
        }

        // What does not shape the server's configuration is no reason.
        let body = |more: Value| {
            let least = json!({"name": "us-east-1", "hostname": "vpn.example.com"});
            merged(least, more)
        };
        for more in [
            json!({"name": "us-east-2"}),
            json!({"hostname": "vpn2.example.com"}),
            json!({"description": "moved", "push_dns": true, "dns_servers": ["10.0.0.53"]}),
            json!({"full_tunnel": true}),
            json!({"active": false}),
        ] {
            admin.put(&path, &body(more.clone())).await.ok();
            let answer = beat(&gateway, json!({"config_version": version})).await;
            assert_eq!(answer["needs_reprovision"], false, "{more}");
        }

        // What does is one, until the agent has caught up.
        let mut version = version.clone();
        for more in [
            json!({"port": 1195}),
            json!({"port": 1195, "protocol": "tcp"}),
            json!({"vpn_subnet": "172.30.0.0/24"}),
            json!({"crypto_profile": "fips"}),
            json!({"tls_auth": false}),
        ] {
            admin.put(&path, &body(more.clone())).await.ok();
            version = catches_up(&gateway, &version).await;
        }
        admin.post(&format!("{path}/reprovision"), &json!({})).await.ok();
        let told = beat(&gateway, json!({"config_version": version})).await;
        assert_eq!(told["needs_reprovision"], true, "{told}");
        let provisioned = provision(&gateway).await;
        let known = json!({"config_version": provisioned["config_version"]});
        assert_eq!(beat(&gateway, known).await["needs_reprovision"], false);
        let shown = admin.get(&path).await.ok();
        assert_eq!(shown["needs_reprovision"], false, "{shown}");
    }

    /// Against a stolen host: a new token locks it out, a reprovision makes its key worthless.
    async fn a_reprovision_replaces_the_servers_certificate_and_key(world: World) {
        let admin = world.admin().await;
        let mut gateway = admin.create_gateway("us-east-1").await;
        let path = format!("/admin/gateways/{}", gateway.id);
        let stands = async |provisioned: &Value| {
            let serial = serial_of(provisioned["server_cert"].as_str().unwrap());
            world.anyone().get(&format!("/pki/check/{serial}")).await.ok()
        };
        let first = provision(&gateway).await;

        let rotated = admin.post(&format!("{path}/rotate-token"), &json!({})).await.ok();
        gateway.agent = world.anyone().gateway(rotated["token"].as_str().unwrap());
        assert_eq!(provision(&gateway).await, first, "another token is another token only");

        admin.post(&format!("{path}/reprovision"), &json!({})).await.ok();
        assert_eq!(stands(&first).await["status"], "good", "it serves until there is another");
        let second = provision(&gateway).await;
        for field in ["server_cert", "server_key", "config_version"] {
            assert_ne!(second[field], first[field], "{field}");
        }
        assert_eq!(second["ca_cert"], first["ca_cert"]);
        assert_eq!(provision(&gateway).await, second, "one reprovision is one new certificate");
        let old = stands(&first).await;
        assert_eq!((&old["status"], &old["reason"]), (&json!("revoked"), &json!("superseded")));
        assert_eq!(stands(&second).await["status"], "good");

        // Asked for twice before the agent comes, it is still one.
        for _ in 0..2 {
            admin.post(&format!("{path}/reprovision"), &json!({})).await.ok();
        }
        let third = provision(&gateway).await;
        assert_eq!(provision(&gateway).await, third);
        assert_eq!(stands(&second).await["status"], "revoked");
        let known = json!({"config_version": third["config_version"]});
        assert_eq!(beat(&gateway, known).await["needs_reprovision"], false);
    }

    async fn a_rotated_token_is_the_only_one_that_counts(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let path = format!("/admin/gateways/{}/rotate-token", gateway.id);
        beat(&gateway, json!({})).await;
        let rotated = admin.post(&path, &json!({})).await.ok();
        let token = rotated["token"].as_str().expect("the new token");
        let answer = gateway.agent.post("/gateway/heartbeat", &json!({})).await;
        answer.refused(401, "invalid_gateway_token");
        let renewed = world.anyone().gateway(token);
        renewed.post("/gateway/heartbeat", &json!({})).await.flat(200);
    }

    async fn a_gateway_comes_online_and_tells_of_itself(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let path = format!("/admin/gateways/{}", gateway.id);
        let shown = admin.get(&path).await.ok();
        assert_eq!(shown["status"], "offline");
        assert_eq!(shown["last_heartbeat"], Value::Null);

        let said = json!({
            "public_ip": "203.0.113.10", "active_clients": 3, "openvpn_running": true,
            "config_version": "x", "cpu_usage": 0.25, "memory_usage": 0.5,
        });
        beat(&gateway, said.clone()).await;
        let shown = admin.get(&path).await.ok();
        assert_eq!(shown["status"], "online");
        assert_eq!(shown["active_clients"], 3);
        assert_eq!(shown["openvpn_running"], true);
        assert_eq!(shown["needs_reprovision"], true);
        assert!(shown["last_heartbeat"].is_string(), "{shown}");
        eventually("its address", SOON, || async {
            let shown = admin.get(&path).await.ok();
            (shown["reported_ip"] == "203.0.113.10").then_some(())
        }).await;

        // Saying it again is no news; another address is.
        beat(&gateway, said).await;
        let codes = eventually("the other address", SOON, || async {
            beat(&gateway, json!({"public_ip": "::ffff:203.0.113.11"})).await;
            let codes = history(&admin, &gateway).await;
            (codes.len() > 3).then_some(codes)
        }).await;
        assert_eq!(codes, [
            "gateway.registered", "gateway.came_online", "gateway.address_changed",
            "gateway.address_changed",
        ]);
        assert_eq!(admin.get(&path).await.ok()["reported_ip"], "203.0.113.11");
    }

    /// Agents come and go by the log, not by the process: what a gateway was told holds after a
    /// restart of the control plane.
    async fn a_restart_changes_nothing_for_an_agent(world: World) {
        let scene = Scene::of(&world).await;
        let provisioned = provision(&scene.gateway).await;
        let session = scene.connected(json!({})).await;
        world.server.restart();
        assert_eq!(provision(&scene.gateway).await, provisioned);
        let known = json!({"config_version": provisioned["config_version"]});
        assert_eq!(beat(&scene.gateway, known).await["needs_reprovision"], false);
        assert_eq!(scene.verify(json!({})).await["allowed"], true);
        assert_eq!(scene.may_reach().await.len(), 1);
        assert_eq!(scene.connected(json!({})).await, session, "the same connection");
        scene.disconnect(json!({})).await;
        assert_eq!(scene.end_reason(&session).await, "disconnected");
    }
}

async fn beat(gateway: &Gateway, body: Value) -> Value {
    gateway.agent.post("/gateway/heartbeat", &body).await.flat(200)
}

async fn provision(gateway: &Gateway) -> Value {
    gateway.agent.post("/gateway/provision", &json!({})).await.flat(200)
}

/// The agent has `version`, is told to provision, does so, and is left in peace. Gives the new one.
async fn catches_up(gateway: &Gateway, version: &Value) -> Value {
    let told = beat(gateway, json!({"config_version": version})).await;
    assert_eq!(told["needs_reprovision"], true, "{told}");
    assert_ne!(&told["config_version"], version);
    let provisioned = provision(gateway).await;
    assert_eq!(provisioned["config_version"], told["config_version"]);
    let known = json!({"config_version": provisioned["config_version"]});
    let answer = beat(gateway, known).await;
    assert_eq!(answer["needs_reprovision"], false, "{answer}");
    answer["config_version"].clone()
}

async fn history(admin: &Api, gateway: &Gateway) -> Vec<String> {
    let path = format!("/admin/audit?aggregate_id={}&per_page=100", gateway.id);
    let events = admin.get(&path).await.list();
    events.iter().rev().map(|it| it["event"].as_str().unwrap().to_owned()).collect()
}
