//! A gateway's subnet, its agent's token, and its signs of life.

use super::SOON;
use crate::harness::fixtures::id;
use crate::harness::wait::eventually;
use crate::harness::{Answer, Api};
use serde_json::{Value, json};
use std::collections::BTreeSet;

both! {
    /// A gateway that names no subnet gets the next that is free, whoever asks at the same time.
    async fn gateways_get_subnets_of_their_own(world: World) {
        let admin = world.admin().await;
        let make = |name: String, more: Value| {
            let admin = admin.clone();
            async move {
                let mut body = json!({"name": name, "hostname": "vpn.example.com"});
                body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
                admin.post("/admin/gateways", &body).await
            }
        };
        let subnet = |answer: Answer| answer.created()["vpn_subnet"].as_str().unwrap().to_owned();
        assert_eq!(subnet(make("a".into(), json!({})).await), "172.31.255.0/24");
        let second = make("b".into(), json!({})).await.created();
        assert_eq!(second["vpn_subnet"], "172.31.254.0/24");
        make("c".into(), json!({"vpn_subnet": "172.31.252.0/23"})).await.created();
        assert_eq!(subnet(make("d".into(), json!({})).await), "172.31.251.0/24");
        let overlapping = make("e".into(), json!({"vpn_subnet": "172.31.253.128/25"})).await;
        let overlapping = overlapping.refused(409, "overlaps");
        assert_eq!(overlapping["details"][0]["field"], "vpn_subnet");
        assert!(overlapping["message"].as_str().unwrap().contains("`c`"), "{overlapping}");

        // It keeps what it has, until it is told otherwise.
        let path = format!("/admin/gateways/{}", id(&second));
        let body = json!({"name": "b2", "hostname": "vpn.example.com"});
        assert_eq!(admin.put(&path, &body).await.ok()["vpn_subnet"], "172.31.254.0/24");
        admin.delete(&path).await.ok();
        assert_eq!(subnet(make("f".into(), json!({})).await), "172.31.254.0/24");

        let mut crowd = tokio::task::JoinSet::new();
        for n in 0..12 {
            crowd.spawn(make(format!("crowd-{n}"), json!({})));
        }
        let subnets: BTreeSet<String> = crowd.join_all().await.into_iter().map(subnet).collect();
        let expected: BTreeSet<String> = (239..=250).map(|n| format!("172.31.{n}.0/24")).collect();
        assert_eq!(subnets, expected);
    }

    /// A gateway's agent: its token, its signs of life, and what it is told to do.
    async fn a_gateway_is_heard_of(world: World) {
        let admin = world.admin().await;
        let ada = admin.create_user_with("ada", json!({"groups": ["ops"]})).await;
        let gateway = admin.create_gateway("us-east-1").await;
        let path = format!("/admin/gateways/{}", gateway.id);
        let fresh = admin.get(&path).await.ok();
        for (field, value) in [
            ("port", json!(1194)),
            ("protocol", json!("udp")),
            ("crypto_profile", json!("modern")),
            ("tls_auth", json!(true)),
            ("full_tunnel", json!(false)),
            ("push_dns", json!(false)),
            ("dns_servers", json!([])),
            ("active", json!(true)),
            ("status", json!("offline")),
            ("last_heartbeat", json!(null)),
            ("needs_reprovision", json!(false)),
            ("token", json!(null)),
        ] {
            assert_eq!(fresh[field], value, "{field}");
        }
        assert_eq!(admin.get("/admin/gateways?status=offline").await.list().len(), 1);

        // Members see those that were granted to them, in the shape that is promised to them.
        assert!(ada.api.get("/gateways").await.list().is_empty());
        admin.post(&format!("{path}/groups"), &json!({"group": "ops"})).await.created();
        let seen = ada.api.get("/gateways").await.list();
        let expected = json!([{
            "id": gateway.id, "name": "us-east-1", "description": "", "hostname": "vpn.example.com",
            "port": 1194, "protocol": "udp", "status": "offline", "last_heartbeat": null,
        }]);
        assert_eq!(json!(seen), expected);

        let version = fresh["config_version"].as_str().unwrap();
        let beat = |api: Api, version: String| async move {
            let body = json!({"public_ip": "203.0.113.10", "active_clients": 3,
                "openvpn_running": true, "config_version": version});
            api.post("/gateway/heartbeat", &body).await
        };
        beat(gateway.agent.clone(), version.to_owned()).await.flat(200);
        let heard = admin.get(&path).await.ok();
        assert_eq!((&heard["status"], &heard["active_clients"]), (&json!("online"), &json!(3)));
        assert!(heard["last_heartbeat"].as_str().unwrap().ends_with('Z'), "{heard}");
        assert_eq!(
            ada.api.get("/gateways").await.list()[0]["last_heartbeat"],
            heard["last_heartbeat"]
        );
        assert_eq!(admin.get("/admin/gateways?status=online").await.list().len(), 1);
        assert!(admin.get("/admin/gateways?status=offline").await.list().is_empty());
        eventually("its address is known", SOON, || async {
            (admin.get(&path).await.ok()["reported_ip"] == "203.0.113.10").then_some(())
        })
        .await;

        // All of it outlasts a restart, after which the agent polls before it sends a heartbeat.
        world.server.restart();
        gateway.agent.post("/gateway/all-rules", &json!({})).await.flat(200);
        assert_eq!(admin.get("/admin/gateways?status=online").await.list().len(), 1);
        let still = admin.get(&path).await.ok();
        for field in ["status", "last_heartbeat", "active_clients", "openvpn_running"] {
            assert_eq!(still[field], heard[field], "{field}");
        }

        // What it should have is no longer what it has.
        let asked = admin.post(&format!("{path}/reprovision"), &Value::Null).await.ok();
        assert_ne!(asked["config_version"], version);
        assert_eq!(asked["needs_reprovision"], true);
        let told = beat(gateway.agent.clone(), version.to_owned()).await.flat(200);
        assert_eq!(told["needs_reprovision"], true);

        // Another token; the old one is worth nothing.
        let rotated = admin.post(&format!("{path}/rotate-token"), &Value::Null).await.ok();
        let token = rotated["token"].as_str().unwrap();
        assert_ne!(token, gateway.token);
        beat(gateway.agent.clone(), version.to_owned()).await.refused(401, "invalid_gateway_token");
        beat(world.anyone().gateway(token), version.to_owned()).await.flat(200);

        // An inactive gateway is offered to nobody.
        let inactive = json!({"name": "us-east-1", "hostname": "vpn.example.com", "active": false});
        admin.put(&path, &inactive).await.ok();
        assert!(ada.api.get("/gateways").await.list().is_empty());
        assert_eq!(admin.get("/admin/gateways?active=false").await.list().len(), 1);
        admin.delete(&path).await.ok();
        beat(world.anyone().gateway(token), version.to_owned())
            .await
            .refused(401, "invalid_gateway_token");

        // The history tells that the token changed, and neither what from nor what to.
        let history = admin.get(&format!("/admin/audit?aggregate_id={}", gateway.id)).await;
        let events: Vec<Value> = history.list();
        let event = |code: &str| events.iter().find(|it| it["event"] == code).unwrap();
        assert_eq!(event("gateway.token_rotated")["payload"], json!({"token_hash": "changed"}));
        assert_eq!(event("gateway.registered")["payload"]["tls_auth_key"], "changed");
        assert!(!history.text().contains("sec-"), "{}", history.text());
    }
}
