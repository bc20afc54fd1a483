//! The geo-fence at the gateway's door: at verify, at connect, and for who is in already.

use super::{CLIENT_IP, SOON, Scene, VPN_IP, is_a_sentence};
use crate::harness::wait::eventually;
use serde_json::{Value, json};

const OFFICE: &str = "198.51.100.0/24";
const ELSEWHERE: &str = "203.0.113.9";

both! {
    /// The most specific level that has any rule is the only one that is looked at.
    async fn each_level_decides_alone(world: World) {
        let scene = Scene::of(&world).await;
        let admin = &scene.admin;
        let groups = format!("/admin/users/{}/groups", scene.ada.id);
        admin.put(&groups, &json!({"groups": ["staff", "travellers"]})).await.ok();
        let office = admin.create_fence_rule("office", OFFICE).await;
        let hotel = admin.create_fence_rule("hotel", "203.0.113.0/28").await;
        let abroad = admin.create_fence_rule("abroad", "2001:db8:1::/48").await;
        let own = format!("users/{}", scene.ada.id);
        admin.fence("global", &office).await;
        // Attached or not: a fence that is off is none.
        lets_in(&scene, &[CLIENT_IP, ELSEWHERE]).await;
        admin.set_fence(true, "enforce").await;
        lets_in(&scene, &[CLIENT_IP, "::ffff:198.51.100.2"]).await;
        shuts_out(&scene, &[ELSEWHERE, "::ffff:203.0.113.9", "2001:db8:1::9"]).await;

        admin.fence("groups/staff", &hotel).await;
        lets_in(&scene, &[ELSEWHERE]).await;
        shuts_out(&scene, &[CLIENT_IP, "203.0.113.16", "2001:db8:1::9"]).await;
        // The rules of all groups together.
        admin.fence("groups/travellers", &abroad).await;
        lets_in(&scene, &[ELSEWHERE, "2001:db8:1::9"]).await;
        shuts_out(&scene, &[CLIENT_IP, "2001:db8:2::9"]).await;

        admin.fence(&own, &office).await;
        lets_in(&scene, &[CLIENT_IP]).await;
        shuts_out(&scene, &[ELSEWHERE, "2001:db8:1::9"]).await;

        // And back again, level by level.
        admin.unfence(&own, &office).await;
        lets_in(&scene, &[ELSEWHERE, "2001:db8:1::9"]).await;
        admin.put(&groups, &json!({"groups": []})).await.ok();
        lets_in(&scene, &[CLIENT_IP]).await;
        shuts_out(&scene, &[ELSEWHERE, "2001:db8:1::9"]).await;
        // What a rule lists counts as soon as it is changed.
        let rule = format!("/admin/geo-fence/rules/{office}");
        admin.put(&rule, &json!({"name": "office", "cidr": "203.0.113.9/32"})).await.ok();
        lets_in(&scene, &[ELSEWHERE]).await;
        shuts_out(&scene, &[CLIENT_IP]).await;
        admin.delete(&rule).await.ok();
        shuts_out(&scene, &[CLIENT_IP, ELSEWHERE]).await;
        admin.set_fence(false, "enforce").await;
        lets_in(&scene, &[CLIENT_IP, ELSEWHERE]).await;
    }

    /// On without a rule it shuts everybody out; and who gives no address is outside.
    async fn without_a_rule_or_an_address_nobody_gets_in(world: World) {
        let scene = Scene::of(&world).await;
        scene.admin.set_fence(true, "enforce").await;
        shuts_out(&scene, &[CLIENT_IP, "2001:db8::1", "127.0.0.1"]).await;
        let everywhere = [("v4", "0.0.0.0/0"), ("v6", "::/0")];
        for (name, cidr) in everywhere {
            let rule = scene.admin.create_fence_rule(name, cidr).await;
            scene.admin.fence("global", &rule).await;
        }
        lets_in(&scene, &[CLIENT_IP, "2001:db8::1", "127.0.0.1"]).await;
        for nowhere in [json!(null), json!(""), json!("0.0.0.0"), json!("::")] {
            let more = json!({ "client_ip": nowhere });
            refused(&scene.verify(more.clone()).await, "allowed", "no_client_ip");
            refused(&scene.connect(more).await, "allow", "no_client_ip");
        }
        // It is the last check: who was granted nothing is told that.
        scene.ungrant().await;
        let more = json!({"client_ip": null});
        refused(&scene.verify(more).await, "allowed", "not_granted");
    }

    /// A refusal by the fence is written down like any other.
    async fn who_is_shut_out_is_written_down(world: World) {
        let scene = Scene::of(&world).await;
        scene.admin.set_fence(true, "enforce").await;
        shuts_out(&scene, &[CLIENT_IP]).await;
        for code in ["attempt.verify_denied", "attempt.connect_denied"] {
            let event = eventually(code, SOON, || async {
                scene.events(code).await.into_iter().next()
            }).await;
            let payload = &event["payload"];
            assert_eq!(payload["reason"], "outside_geo_fence", "{event}");
            assert_eq!(payload["user_id"], scene.ada.id);
            assert_eq!(payload["certificate_id"], scene.config.id);
            assert_eq!(payload["client_ip"], CLIENT_IP);
        }
        assert_eq!(scene.events("attempt.fence_would_deny").await, Vec::<Value>::new());
        assert_eq!(scene.open().await, Vec::<String>::new());
    }

    /// In audit everybody is let in, and the history says who would not have been.
    async fn an_audited_fence_only_writes_down(world: World) {
        let scene = Scene::of(&world).await;
        let office = scene.admin.create_fence_rule("office", OFFICE).await;
        scene.admin.fence("global", &office).await;
        scene.admin.set_fence(true, "audit").await;
        let session = scene.connected(json!({})).await;
        scene.disconnect(json!({})).await;
        assert_eq!(scene.end_reason(&session).await, "disconnected");
        for _ in 0..20 {
            let answer = scene.verify(json!({"client_ip": ELSEWHERE})).await;
            assert_eq!(answer["allowed"], true, "{answer}");
            assert_eq!(answer["code"], Value::Null, "{answer}");
        }
        scene.connected(json!({"client_ip": ELSEWHERE})).await;
        assert_eq!(scene.may_reach().await.len(), 1);
        let nowhere = json!({"client_ip": null, "password": null});
        assert_eq!(scene.verify(nowhere).await["allowed"], true);

        let written = eventually("both are written down", SOON, || async {
            let written = scene.events("attempt.fence_would_deny").await;
            written.iter().any(|it| it["payload"]["reason"] == "no_client_ip").then_some(written)
        }).await;
        let outside: Vec<_> = written
            .iter()
            .filter(|it| it["payload"]["reason"] == "outside_geo_fence")
            .collect();
        // Once at once, and the others counted, once a minute.
        assert!((1..=2).contains(&outside.len()), "{outside:?}");
        for event in outside {
            assert_eq!(event["actor"]["id"], scene.gateway.id);
            assert_eq!(event["payload"]["user_id"], scene.ada.id);
            assert_eq!(event["payload"]["gateway_id"], scene.gateway.id);
            assert_eq!(event["payload"]["client_ip"], ELSEWHERE);
        }
        assert_eq!(scene.events("attempt.verify_denied").await, Vec::<Value>::new());
    }

    /// Whom a new fence shuts out loses their rules at the next poll, and agents poll every ten
    /// seconds.
    async fn a_live_tunnel_is_cut_by_a_new_fence(world: World) {
        let scene = Scene::of(&world).await;
        let session = scene.connected(json!({})).await;
        let wiki = scene.may_reach().await;
        assert_eq!(wiki.len(), 1);
        let nothing = Vec::<Value>::new();

        scene.admin.set_fence(true, "enforce").await;
        assert_eq!(scene.may_reach().await, nothing);
        let office = scene.admin.create_fence_rule("office", OFFICE).await;
        scene.admin.fence("global", &office).await;
        assert_eq!(scene.may_reach().await, wiki);
        // Her own rules from now on, and they do not list where she is.
        let home = scene.admin.create_fence_rule("home", "192.0.2.7/32").await;
        let own = format!("users/{}", scene.ada.id);
        scene.admin.fence(&own, &home).await;
        assert_eq!(scene.may_reach().await, nothing);
        scene.admin.set_fence(true, "audit").await;
        assert_eq!(scene.may_reach().await, wiki);
        scene.admin.set_fence(true, "enforce").await;
        assert_eq!(scene.may_reach().await, nothing);
        scene.admin.unfence(&own, &home).await;
        assert_eq!(scene.may_reach().await, wiki);
        assert_eq!(scene.open().await, [session]);
    }

    /// What counts for a poll is from where the connection came.
    async fn a_poll_says_nothing_of_where_somebody_is(world: World) {
        let scene = Scene::of(&world).await;
        let vpn = scene.admin.create_fence_rule("vpn", "172.31.255.0/24").await;
        scene.admin.fence("global", &vpn).await;
        scene.connected(json!({})).await;
        scene.admin.set_fence(true, "enforce").await;
        // Her VPN address is no source address.
        assert!(VPN_IP.starts_with("172.31.255."));
        assert_eq!(scene.may_reach().await, Vec::<Value>::new());
        scene.disconnect(json!({})).await;
        scene.admin.set_fence(false, "enforce").await;

        // An agent that did not say from where a client came has connected nobody that is inside.
        scene.connected(json!({"client_ip": null})).await;
        assert_eq!(scene.may_reach().await.len(), 1);
        scene.admin.set_fence(true, "enforce").await;
        assert_eq!(scene.may_reach().await, Vec::<Value>::new());
    }
}

/// At verify and at connect.
async fn lets_in(scene: &Scene, addresses: &[&str]) {
    for ip in addresses {
        let answer = scene.verify(json!({"client_ip": ip})).await;
        assert_eq!(answer["allowed"], true, "{ip}: {answer}");
        scene.connected(json!({"client_ip": ip})).await;
        scene.disconnect(json!({"client_ip": ip})).await;
    }
}

/// At verify and at connect.
async fn shuts_out(scene: &Scene, addresses: &[&str]) {
    for ip in addresses {
        let more = json!({"client_ip": ip});
        refused(&scene.verify(more.clone()).await, "allowed", "outside_geo_fence");
        let answer = scene.connect(more.clone()).await;
        refused(&answer, "allow", "outside_geo_fence");
        assert_eq!(answer["client_config"], json!(["disable"]), "{answer}");
        // OpenVPN tells of its end nevertheless.
        scene.disconnect(more).await;
    }
}

#[track_caller]
fn refused(answer: &Value, field: &str, code: &str) {
    assert_eq!(answer[field], false, "{answer}");
    assert_eq!(answer["code"], code, "{answer}");
    is_a_sentence(if field == "allow" { &answer["message"] } else { &answer["reason"] });
}
