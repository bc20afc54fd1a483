//! Connections: begun, repeated, superseded and ended, as agents in the field report them.

use super::{CLIENT_IP, SOON, Scene, VPN_IP, is_a_sentence, sorted};
use crate::harness::fixtures::merged;
use crate::harness::wait::eventually;
use serde_json::{Value, json};

/// The same person's other address.
const OTHER_IP: &str = "203.0.113.77";

both! {
    async fn who_may_come_in_is_told_what_there_is(world: World) {
        let scene = Scene::of(&world).await;
        let answer = scene.connect(json!({})).await;
        assert_eq!(answer["allow"], true, "{answer}");
        assert_eq!(answer["client_config"], json!(["push \"route 10.77.0.10 255.255.255.255\""]));
        assert_eq!(answer["default_policy"], "deny");
        assert_eq!(answer["firewall_rules"], json!([{
            "action": "allow", "rule_type": "ip", "value": "10.77.0.10", "port_range": "443",
            "protocol": "tcp",
        }]));
        assert_eq!(answer["user_id"], scene.ada.id);
        assert_eq!(answer["user_email"], scene.ada.email);

        let id = answer["session_id"].as_str().unwrap();
        assert_eq!(scene.open().await, [id]);
        let connection = scene.connection(id).await;
        assert_eq!(connection["user"]["id"], scene.ada.id);
        assert_eq!(connection["gateway"]["id"], scene.gateway.id);
        assert_eq!(connection["client_ip"], CLIENT_IP);
        assert_eq!(connection["vpn_ip"], VPN_IP);
        assert_eq!(connection["serial"], scene.config.serial.replace(':', "").trim_start_matches('0'));
        let began = &scene.events("session.began").await[0];
        assert_eq!(began["actor"]["id"], scene.gateway.id);
        assert_eq!(began["payload"]["common_name"], scene.ada.email);
    }

    /// What a gateway's settings and each kind of rule become on the client.
    async fn lines_are_what_openvpn_reads(world: World) {
        let scene = Scene::of(&world).await;
        let admin = &scene.admin;
        let labs = admin.create_network("labs", "fd00:77::/64").await;
        admin.attach(&scene.gateway, &labs).await;
        for (name, kind, value, more) in [
            ("range", "cidr", "10.77.0.64/26", json!({"port_range": "8000-8100"})),
            ("six", "ip", "fd00:77::5", json!({"protocol": "udp"})),
            ("name", "hostname", "wiki.example.com", json!({"network_id": scene.offices})),
            ("names", "hostname_wildcard", "*.example.com", json!({"network_id": scene.offices})),
            ("ping", "ip", "10.77.0.10", json!({"protocol": "icmp"})),
        ] {
            let rule = admin.create_rule(name, kind, value, more).await;
            admin.assign(&rule, &scene.ada).await;
        }
        // Of a network that is not behind this gateway, and of nobody.
        let elsewhere = admin.create_network("elsewhere", "10.78.0.0/24").await;
        let out = json!({"network_id": elsewhere});
        let rule = admin.create_rule("out", "ip", "10.78.0.1", out).await;
        admin.assign(&rule, &scene.ada).await;
        admin.create_rule("nobody's", "ip", "10.77.0.99", json!({})).await;

        let routes = [
            "route 10.77.0.0 255.255.255.0", "route 10.77.0.10 255.255.255.255",
            "route 10.77.0.64 255.255.255.192", "route-ipv6 fd00:77::5/128",
        ];
        let answer = scene.connect(json!({})).await;
        assert_eq!(answer["client_config"], pushes(&routes));
        let rules = sorted(answer["firewall_rules"].as_array().unwrap().clone());
        let allow = |kind: &str, value: &str, more: Value| {
            merged(json!({"action": "allow", "rule_type": kind, "value": value}), more)
        };
        assert_eq!(rules, sorted(vec![
            allow("ip", "10.77.0.10", json!({"port_range": "443", "protocol": "tcp"})),
            allow("ip", "10.77.0.10", json!({"protocol": "icmp"})),
            allow("cidr", "10.77.0.64/26", json!({"port_range": "8000-8100"})),
            allow("ip", "fd00:77::5", json!({"protocol": "udp"})),
            allow("hostname", "wiki.example.com", json!({})),
            allow("hostname_wildcard", "*.example.com", json!({})),
        ]));

        let settings = json!({
            "name": "us-east-1", "hostname": "vpn.example.com", "full_tunnel": true,
            "push_dns": true, "dns_servers": ["10.77.0.53", "fd00:77::53"],
        });
        admin.put(&format!("/admin/gateways/{}", scene.gateway.id), &settings).await.ok();
        let answer = scene.connect(json!({})).await;
        let mut options = vec!["redirect-gateway def1 bypass-dhcp"];
        options.extend(routes);
        options.extend(["dhcp-option DNS 10.77.0.53", "dhcp-option DNS fd00:77::53"]);
        assert_eq!(answer["client_config"], pushes(&options));
    }

    /// Granted, without any rule: in, and nothing to reach.
    async fn without_a_rule_nothing_is_reached(world: World) {
        let scene = Scene::of(&world).await;
        let (bob, config) = scene.another("bob").await;
        let came = json!({"common_name": bob.email, "serial_number": config.serial});
        let answer = scene.connect(came).await;
        assert_eq!(answer["allow"], true);
        assert_eq!(answer["client_config"], json!([]));
        assert_eq!(answer["firewall_rules"], json!([]));
    }

    async fn a_repeated_report_is_the_same_connection(world: World) {
        let scene = Scene::of(&world).await;
        let first = scene.connected(json!({})).await;
        for more in [
            json!({}),
            json!({"serial_number": scene.config.serial.to_uppercase().replace(':', "")}),
            json!({"serial_number": null}),
            json!({"client_ip": format!("::ffff:{CLIENT_IP}")}),
        ] {
            assert_eq!(scene.connected(more).await, first);
        }
        assert_eq!(scene.history(&first).await, ["session.began"]);

        // All at once, as an agent that loses patience.
        let body = json!({
            "common_name": scene.ada.email, "serial_number": scene.config.serial,
            "client_ip": OTHER_IP, "vpn_ipv4": "172.31.255.3",
        });
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..8 {
            let (agent, body) = (scene.gateway.agent.clone(), body.clone());
            asking.spawn(async move { agent.post("/gateway/connect", &body).await.flat(200) });
        }
        let answers = asking.join_all().await;
        let second = answers[0]["session_id"].as_str().unwrap();
        assert!(answers.iter().all(|it| it["session_id"] == second), "{answers:?}");
        assert_eq!(scene.open().await.len(), 2);
    }

    /// Agents that don't send the serial mean the newest good certificate of that name.
    async fn without_a_serial_it_is_the_newest_certificate(world: World) {
        let scene = Scene::of(&world).await;
        let second = scene.ada.api.generate_config(&scene.gateway).await;
        let id = scene.connected(json!({"serial_number": null})).await;
        let serial = |it: &str| it.replace(':', "").trim_start_matches('0').to_owned();
        assert_eq!(scene.connection(&id).await["serial"], serial(&second.serial));
        scene.disconnect(json!({})).await;

        let revoke = |serial: &str| json!({ "serial": serial });
        scene.admin.post("/admin/pki/revoke", &revoke(&second.serial)).await.ok();
        let id = scene.connected(json!({"serial_number": null})).await;
        assert_eq!(scene.connection(&id).await["serial"], serial(&scene.config.serial));
        scene.disconnect(json!({})).await;

        scene.admin.post("/admin/pki/revoke", &revoke(&scene.config.serial)).await.ok();
        let answer = scene.connect(json!({"serial_number": null})).await;
        assert_eq!(answer["code"], "certificate_revoked", "{answer}");
        let unknown = json!({"serial_number": null, "common_name": "nobody@example.com"});
        assert_eq!(scene.connect(unknown).await["code"], "no_credentials");
    }

    async fn a_vpn_address_is_one_connections(world: World) {
        let scene = Scene::of(&world).await;
        let first = scene.connected(json!({})).await;
        // She roamed, and was given the same address.
        let second = scene.connected(json!({"client_ip": OTHER_IP})).await;
        assert_ne!(second, first);
        assert_eq!(scene.open().await, [second.as_str()]);
        let old = scene.connection(&first).await;
        assert_eq!(old["end_reason"], "superseded");
        assert_eq!(old["disconnected_at"], scene.connection(&second).await["connected_at"]);

        // Another person was given it.
        let (bob, config) = scene.another("bob").await;
        let came = json!({"common_name": bob.email, "serial_number": config.serial});
        let third = scene.connected(came).await;
        assert_eq!(scene.open().await, [third.as_str()]);

        // What is left of the older ones' reports ends nothing of his.
        scene.disconnect(json!({})).await;
        scene.disconnect(json!({"client_ip": OTHER_IP})).await;
        scene.disconnect(json!({"session_id": first})).await;
        assert_eq!(scene.open().await, [third.as_str()]);

        // The same address at another gateway is another address.
        let west = scene.admin.create_gateway("us-west-1").await;
        scene.admin.grant(&west, &scene.ada).await;
        let config = scene.ada.api.generate_config(&west).await;
        let came = json!({
            "common_name": scene.ada.email, "serial_number": config.serial,
            "client_ip": CLIENT_IP, "vpn_ipv4": VPN_IP,
        });
        let answer = west.agent.post("/gateway/connect", &came).await.flat(200);
        assert_eq!(answer["allow"], true, "{answer}");
        assert_eq!(scene.open().await.len(), 2);
    }

    /// An IPv6 address alone is one connection's too.
    async fn an_ipv6_vpn_address_as_well(world: World) {
        let scene = Scene::of(&world).await;
        let six = json!({"vpn_ipv4": null, "vpn_ipv6": "fd00:1::2"});
        let first = scene.connected(six.clone()).await;
        assert_eq!(scene.connected(six.clone()).await, first);
        let second = scene.connected(merged(six, json!({"client_ip": OTHER_IP}))).await;
        assert_eq!(scene.open().await, [second]);
        assert_eq!(scene.end_reason(&first).await, "superseded");
    }

    /// Disconnects bear no id: the newest of that name and address is meant.
    async fn a_disconnect_ends_the_one_that_is_meant(world: World) {
        let scene = Scene::of(&world).await;
        let at = |ip: &str, vpn: &str| json!({"client_ip": ip, "vpn_ipv4": vpn});
        let laptop = scene.connected(at(CLIENT_IP, "172.31.255.2")).await;
        let phone = scene.connected(at(OTHER_IP, "172.31.255.3")).await;
        let tablet = scene.connected(at(OTHER_IP, "172.31.255.4")).await;

        // Somebody else's, and from elsewhere: nothing is ended.
        scene.disconnect(json!({"common_name": "bob@example.com"})).await;
        scene.disconnect(json!({"client_ip": "192.0.2.1"})).await;
        assert_eq!(scene.open().await.len(), 3);

        scene.disconnect(json!({"client_ip": OTHER_IP})).await;
        assert_eq!(scene.end_reason(&tablet).await, "disconnected");
        assert_eq!(scene.end_reason(&phone).await, Value::Null);
        // Without an address: the newest of that name.
        scene.disconnect(json!({"client_ip": null})).await;
        assert_eq!(scene.end_reason(&phone).await, "disconnected");
        assert_eq!(scene.end_reason(&laptop).await, Value::Null);
        scene.disconnect(json!({"client_ip": format!("::ffff:{CLIENT_IP}")})).await;
        assert_eq!(scene.open().await, Vec::<String>::new());
        // And once more, of nothing that is left.
        scene.disconnect(json!({})).await;
        scene.disconnect(json!({"session_id": "con-none"})).await;
        assert_eq!(scene.history(&laptop).await, ["session.began", "session.ended"]);
    }

    /// Agents that number their reports say by the connect's number which connection ends.
    async fn a_disconnect_with_the_connects_event_id_ends_exactly_that_one(world: World) {
        let scene = Scene::of(&world).await;
        let event = |id: &str| json!({"event_id": id});
        let at = |id: &str, vpn: &str| merged(event(id), json!({"vpn_ipv4": vpn}));
        let first = scene.connected(at("e1", "172.31.255.2")).await;
        // She has another config by now, and came with it.
        let config = scene.ada.api.generate_config(&scene.gateway).await;
        let with = json!({"serial_number": config.serial});
        let second = scene.connected(merged(at("e2", "172.31.255.3"), with)).await;
        let third = scene.connected(json!({"vpn_ipv4": "172.31.255.4"})).await;

        scene.disconnect(event("e1")).await;
        assert_eq!(scene.end_reason(&first).await, "disconnected");
        assert_eq!(scene.open().await.len(), 2);
        // Once more, and with its counters: it is over, and no other is meant.
        scene.disconnect(merged(event("e1"), json!({"bytes_sent": 7}))).await;
        assert_eq!(scene.connection(&first).await["bytes_sent"], 7);
        assert_eq!(scene.open().await.len(), 2);
        scene.disconnect(merged(event("e2"), json!({"client_ip": null}))).await;
        assert_eq!(scene.end_reason(&second).await, "disconnected");
        assert_eq!(scene.open().await, [third.as_str()]);
        // A number that no connect had is the disconnect's own.
        scene.disconnect(event("e9")).await;
        assert_eq!(scene.end_reason(&third).await, "disconnected");
    }

    async fn counters_are_added_and_never_wiped(world: World) {
        let scene = Scene::of(&world).await;
        let counted = json!({"duration_seconds": 61, "bytes_received": 1234, "bytes_sent": 5678});
        let named = |id: &str, more: Value| merged(json!({ "session_id": id }), more);
        let counters = async |id: &str| {
            let it = scene.connection(id).await;
            ["duration_seconds", "bytes_received", "bytes_sent"].map(|name| it[name].clone())
        };
        let first = scene.connected(json!({})).await;
        scene.disconnect(counted.clone()).await;
        assert_eq!(counters(&first).await, [json!(61), json!(1234), json!(5678)]);
        // A second time without, with zeros, and with less: nothing is lost.
        let less = json!({"duration_seconds": 60, "bytes_received": 0, "bytes_sent": 0});
        for more in [json!({}), named(&first, json!({})), named(&first, less)] {
            scene.disconnect(more).await;
        }
        assert_eq!(scene.history(&first).await, ["session.began", "session.ended"]);
        assert_eq!(counters(&first).await, [json!(61), json!(1234), json!(5678)]);
        let ended_at = scene.connection(&first).await["disconnected_at"].clone();
        scene.disconnect(named(&first, json!({"bytes_sent": 6000}))).await;
        assert_eq!(counters(&first).await, [json!(61), json!(1234), json!(6000)]);
        assert_eq!(scene.connection(&first).await["disconnected_at"], ended_at);

        // The first time without, as agents in the field do.
        let second = scene.connected(json!({})).await;
        scene.disconnect(json!({})).await;
        assert_eq!(counters(&second).await, [Value::Null, Value::Null, Value::Null]);
        scene.disconnect(named(&second, counted)).await;
        assert_eq!(counters(&second).await, [json!(61), json!(1234), json!(5678)]);
        // The largest that can be said is not too large.
        scene.disconnect(named(&second, json!({"bytes_received": u64::MAX}))).await;
        assert_eq!(counters(&second).await, [json!(61), json!(i64::MAX), json!(5678)]);
    }

    /// Agents look at no status: what keeps a refused client out is the line `disable`, and the
    /// disconnect that follows it belongs to no connection.
    async fn a_refused_connect_ends_nothing(world: World) {
        let scene = Scene::of(&world).await;
        let laptop = scene.connected(json!({})).await;
        let wrong = json!({"serial_number": "5a:0f:3c", "vpn_ipv4": "172.31.255.3"});
        for _ in 0..2 {
            let answer = scene.connect(wrong.clone()).await;
            refused(&answer, "certificate_unknown");
        }
        for _ in 0..2 {
            scene.disconnect(json!({})).await;
            assert_eq!(scene.open().await, [laptop.as_str()]);
        }

        scene.ungrant().await;
        refused(&scene.connect(json!({"vpn_ipv4": "172.31.255.3"})).await, "not_granted");
        scene.disconnect(json!({})).await;
        assert_eq!(scene.open().await, [laptop.as_str()]);
        // The one that follows is the laptop's own.
        scene.disconnect(json!({})).await;
        assert_eq!(scene.end_reason(&laptop).await, "disconnected");

        let denied = eventually("in the audit", SOON, || async {
            let denied = scene.events("attempt.connect_denied").await;
            (denied.len() >= 2).then_some(denied)
        }).await;
        assert_eq!(denied[0]["payload"]["reason"], "not_granted");
        assert_eq!(denied[0]["payload"]["user_id"], scene.ada.id);
        assert_eq!(denied[0]["payload"]["client_ip"], CLIENT_IP);
    }

    /// No gateway has a say in another's connections.
    async fn another_gateway_ends_and_learns_nothing(world: World) {
        let scene = Scene::of(&world).await;
        let west = scene.admin.create_gateway("us-west-1").await;
        let session = scene.connected(json!({})).await;
        let by_west = async |more: Value| {
            let body = json!({"common_name": scene.ada.email, "client_ip": CLIENT_IP});
            let answer = west.agent.post("/gateway/disconnect", &merged(body, more)).await;
            assert_eq!(answer.flat(200)["gateway_id"], west.id);
        };
        let counted = json!({"session_id": session, "bytes_sent": 999, "bytes_received": 999});
        by_west(json!({})).await;
        by_west(counted.clone()).await;
        assert_eq!(scene.open().await, [session.as_str()]);
        // Nor when it is over.
        scene.disconnect(json!({"bytes_sent": 1, "bytes_received": 1})).await;
        by_west(counted).await;
        assert_eq!(scene.history(&session).await, ["session.began", "session.ended"]);
        assert_eq!(scene.connection(&session).await["bytes_sent"], 1);

        // Her config for here lets her in nowhere else.
        let came = json!({
            "common_name": scene.ada.email, "serial_number": scene.config.serial,
            "client_ip": CLIENT_IP, "vpn_ipv4": VPN_IP,
        });
        scene.admin.grant(&west, &scene.ada).await;
        let answer = west.agent.post("/gateway/connect", &came).await.flat(200);
        refused(&answer, "wrong_gateway");
    }

    async fn a_deleted_gateways_connections_end(world: World) {
        let scene = Scene::of(&world).await;
        let session = scene.connected(json!({})).await;
        scene.admin.delete(&format!("/admin/gateways/{}", scene.gateway.id)).await.ok();
        eventually("its end", SOON, || async {
            (scene.end_reason(&session).await == "gateway_deleted").then_some(())
        }).await;
        assert_eq!(scene.open().await, Vec::<String>::new());
    }
}

fn pushes(options: &[&str]) -> Value {
    options.iter().map(|option| format!("push \"{option}\"")).collect()
}

#[track_caller]
fn refused(answer: &Value, code: &str) {
    assert_eq!(answer["allow"], false, "{code}: {answer}");
    assert_eq!(answer["code"], code, "{answer}");
    assert_eq!(answer["client_config"], json!(["disable"]), "{answer}");
    assert_eq!(answer["firewall_rules"], json!([]), "{answer}");
    assert_eq!(answer["session_id"], Value::Null, "{answer}");
    is_a_sentence(&answer["message"]);
}
