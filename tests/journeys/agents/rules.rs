//! What connected clients may reach now: per client, and for the whole gateway.

use super::{Scene, VPN_IP, sorted};
use crate::harness::fixtures::{Gateway, PASSWORD, merged};
use serde_json::{Value, json};

both! {
    /// Polled every ten seconds: what was taken away is gone at the next poll, connected or not.
    async fn nothing_is_reached_by_who_would_not_be_let_in(world: World) {
        let scene = Scene::of(&world).await;
        let nothing = Vec::<Value>::new();
        let wiki = [destination("ip", "10.77.0.10", "443", "tcp")];
        // Also before the report of the connection arrives.
        assert_eq!(scene.may_reach().await, wiki);
        let session = scene.connected(json!({})).await;
        assert_eq!(scene.may_reach().await, wiki);

        scene.ungrant().await;
        assert_eq!(scene.may_reach().await, nothing);
        scene.admin.grant(&scene.gateway, &scene.ada).await;
        assert_eq!(scene.may_reach().await, wiki);

        let user = format!("/admin/users/{}", scene.ada.id);
        scene.admin.post(&format!("{user}/disable"), &json!({})).await.ok();
        assert_eq!(scene.may_reach().await, nothing);
        scene.admin.post(&format!("{user}/enable"), &json!({})).await.ok();
        assert_eq!(scene.may_reach().await, wiki);

        // The connection's own certificate counts, not another that is good.
        let signed_in = scene.admin.login("ada", PASSWORD).await;
        signed_in.generate_config(&scene.gateway).await;
        let revoke = json!({"serial": scene.config.serial});
        scene.admin.post("/admin/pki/revoke", &revoke).await.ok();
        assert_eq!(scene.may_reach().await, nothing);
        assert_eq!(scene.open().await, [session], "its gateway has not said that it ended");
    }

    async fn an_unknown_user_gets_an_empty_list(world: World) {
        let scene = Scene::of(&world).await;
        let west = scene.admin.create_gateway("us-west-1").await;
        scene.admin.attach(&west, &scene.offices).await;
        scene.admin.grant(&west, &scene.ada).await;
        for (agent, user) in [
            (&scene.gateway.agent, "nobody@example.com"),
            (&scene.gateway.agent, ""),
            (&scene.gateway.agent, "a b\u{1}'; --"),
            (&scene.gateway.agent, &"a".repeat(500)),
            // Granted there, but without a config for it.
            (&west.agent, &scene.ada.email),
        ] {
            let body = json!({"user_id": user, "client_ip": VPN_IP});
            let answer = agent.post("/gateway/client-rules", &body).await.flat(200);
            assert_eq!(answer["allowed"], json!([]), "{user:?}");
            assert_eq!(answer["user_id"], user);
            assert_eq!(answer["default"], "deny");
        }
    }

    /// Rules of the user and of the user's groups, kept to the networks of that gateway.
    async fn rules_are_the_users_and_their_groups_at_that_gateway(world: World) {
        let scene = Scene::of(&world).await;
        let admin = &scene.admin;
        let staff = admin.create_rule("staff", "cidr", "10.77.0.64/26", json!({})).await;
        let groups = format!("/admin/access-rules/{staff}/groups");
        admin.post(&groups, &json!({"group": "staff"})).await.created();
        assert_eq!(scene.may_reach().await.len(), 1);
        let set_groups = async |groups: Value| {
            let path = format!("/admin/users/{}/groups", scene.ada.id);
            admin.put(&path, &json!({ "groups": groups })).await.ok();
        };
        set_groups(json!(["staff"])).await;
        let wiki = destination("ip", "10.77.0.10", "443", "tcp");
        let range = destination("cidr", "10.77.0.64/26", "", "");
        assert_eq!(scene.may_reach().await, sorted(vec![wiki.clone(), range.clone()]));
        set_groups(json!([])).await;
        assert_eq!(scene.may_reach().await, std::slice::from_ref(&wiki));

        // What the agent says of groups counts for nothing.
        let body = json!({"user_id": scene.ada.email, "user_groups": ["staff"]});
        let answer = scene.gateway.agent.post("/gateway/client-rules", &body).await.flat(200);
        assert_eq!(answer["allowed"], json!([wiki]));

        // The same person at another gateway reaches what is behind that one.
        let labs = admin.create_network("labs", "10.78.0.0/24").await;
        let west = admin.create_gateway("us-west-1").await;
        admin.attach(&west, &labs).await;
        admin.grant(&west, &scene.ada).await;
        scene.ada.api.generate_config(&west).await;
        let more = json!({"protocol": "icmp"});
        let rule = admin.create_rule("labs", "ip", "10.78.0.1", more).await;
        admin.assign(&rule, &scene.ada).await;
        assert_eq!(scene.may_reach().await, [wiki]);
        let body = json!({"user_id": scene.ada.email, "client_ip": VPN_IP});
        let answer = west.agent.post("/gateway/client-rules", &body).await.flat(200);
        assert_eq!(answer["allowed"], json!([destination("ip", "10.78.0.1", "", "icmp")]));

        // A rule that is switched off, taken away or out of reach is none.
        let path = format!("/admin/access-rules/{}", scene.wiki);
        let rule = json!({"name": "wiki", "type": "ip", "value": "10.77.0.10"});
        admin.put(&path, &merged(rule.clone(), json!({"active": false}))).await.ok();
        assert_eq!(scene.may_reach().await, Vec::<Value>::new());
        admin.put(&path, &rule).await.ok();
        let changed = [destination("ip", "10.77.0.10", "", "")];
        assert_eq!(scene.may_reach().await, changed);
        let networks = format!("/admin/gateways/{}/networks", scene.gateway.id);
        admin.delete(&format!("{networks}/{}", scene.offices)).await.ok();
        assert_eq!(scene.may_reach().await, Vec::<Value>::new());
        admin.post(&networks, &json!({"network_id": scene.offices})).await.created();
        assert_eq!(scene.may_reach().await, changed);
        admin.delete(&format!("{path}/users/{}", scene.ada.id)).await.ok();
        assert_eq!(scene.may_reach().await, Vec::<Value>::new());
    }

    async fn the_hash_changes_exactly_when_the_rules_do(world: World) {
        let scene = Scene::of(&world).await;
        let admin = &scene.admin;
        let gateway = format!("/admin/gateways/{}", scene.gateway.id);
        let mut known = all(&scene.gateway).await;
        assert_eq!(known["rules"], json!([{
            "id": scene.wiki, "name": "wiki", "type": "ip", "value": "10.77.0.10", "port": "443",
            "protocol": "tcp", "is_active": true,
        }]));
        assert_eq!(known["user_rules"], json!({&scene.ada.id: [scene.wiki]}));
        assert_eq!(known["group_rules"], json!({}));

        // What is no rule here changes nothing.
        let renamed = json!({"name": "us-east-9", "hostname": "vpn9.example.com", "port": 1195});
        admin.put(&gateway, &renamed).await.ok();
        scene.gateway.agent.post("/gateway/heartbeat", &json!({})).await.flat(200);
        scene.gateway.agent.post("/gateway/provision", &json!({})).await.flat(200);
        scene.connected(json!({})).await;
        scene.another("bob").await;
        scene.ada.api.generate_config(&scene.gateway).await;
        let labs = admin.create_network("labs", "10.78.0.0/24").await;
        let out = json!({"network_id": labs});
        let elsewhere = admin.create_rule("labs", "ip", "10.78.0.1", out).await;
        admin.assign(&elsewhere, &scene.ada).await;
        admin.put(&format!("/admin/networks/{}", scene.offices), &network("branch", "10.77.0.0/24"))
            .await
            .ok();
        let same = all(&scene.gateway).await;
        assert_eq!(same["hash"], known["hash"]);
        assert_eq!(same["rules"], known["rules"]);
        assert_ne!(same["timestamp"], known["timestamp"]);

        // Neither does a rule of nobody who may use the gateway.
        let printer = admin.create_rule("printer", "ip", "10.77.0.20", json!({})).await;
        let staff = admin.create_user_with("cy", json!({"groups": ["staff"]})).await;
        let groups = format!("/admin/access-rules/{printer}/groups");
        admin.post(&groups, &json!({"group": "staff"})).await.created();
        assert_eq!(all(&scene.gateway).await["hash"], known["hash"]);

        // What is one does.
        admin.assign(&printer, &scene.ada).await;
        changed(&scene.gateway, &mut known).await;
        assert_eq!(known["rules"].as_array().unwrap().len(), 2);
        let mut both = vec![scene.wiki.as_str(), &printer];
        both.sort_unstable();
        assert_eq!(known["user_rules"], json!({&scene.ada.id: both}));
        assert_eq!(known["group_rules"], json!({}));
        admin.grant(&scene.gateway, &staff).await;
        changed(&scene.gateway, &mut known).await;
        assert_eq!(known["group_rules"], json!({"staff": [printer]}));
        let path = format!("/admin/access-rules/{printer}");
        let body = json!({"name": "printer", "type": "ip", "value": "10.77.0.20"});
        admin.put(&path, &merged(body.clone(), json!({"port_range": "631"}))).await.ok();
        changed(&scene.gateway, &mut known).await;
        admin.put(&path, &merged(body, json!({"active": false}))).await.ok();
        changed(&scene.gateway, &mut known).await;
        assert_eq!(known["group_rules"], json!({}));

        // A network that comes, shrinks and goes takes its rules along.
        admin.attach(&scene.gateway, &labs).await;
        changed(&scene.gateway, &mut known).await;
        admin.put(&format!("/admin/networks/{}", scene.offices), &network("branch", "10.77.0.0/29"))
            .await
            .ok();
        changed(&scene.gateway, &mut known).await;
        let ids: Vec<_> = known["rules"].as_array().unwrap().iter().map(|it| &it["id"]).collect();
        assert_eq!(ids, [&json!(elsewhere)]);
        admin.delete(&format!("{gateway}/networks/{labs}")).await.ok();
        changed(&scene.gateway, &mut known).await;
        assert_eq!(known["rules"], json!([]));

        // Back to what it was: the same hash, also from another start of the server.
        let empty = known["hash"].clone();
        admin.attach(&scene.gateway, &labs).await;
        changed(&scene.gateway, &mut known).await;
        world.server.restart();
        assert_eq!(all(&scene.gateway).await["hash"], known["hash"]);
        admin.delete(&format!("/admin/access-rules/{elsewhere}")).await.ok();
        assert_eq!(all(&scene.gateway).await["hash"], empty);
    }
}

fn destination(kind: &str, value: &str, port: &str, protocol: &str) -> Value {
    json!({"type": kind, "value": value, "port": port, "protocol": protocol})
}

fn network(name: &str, cidr: &str) -> Value {
    json!({"name": name, "cidr": cidr})
}

async fn all(gateway: &Gateway) -> Value {
    gateway.agent.post("/gateway/all-rules", &json!({})).await.flat(200)
}

/// Another hash than the last one, and the same each time it is asked.
async fn changed(gateway: &Gateway, known: &mut Value) {
    let now = all(gateway).await;
    assert_ne!(now["hash"], known["hash"], "{now}");
    assert_eq!(all(gateway).await["hash"], now["hash"]);
    *known = now;
}
