//! Tokens, bodies and the shapes of answers, on all seven routes.

use super::{CLIENT_IP, Scene, VPN_IP, count, turned_away};
use crate::harness::fixtures::merged;
use crate::harness::{Answer, Api};
use reqwest::Method;
use serde_json::{Map, Value, json};

both! {
    async fn the_token_comes_in_the_body_or_in_the_header(world: World) {
        let scene = Scene::of(&world).await;
        let (anyone, token) = (world.anyone(), scene.gateway.token.as_str());
        for (route, body) in calls(&scene) {
            let with_token = |token: &str| merged(body.clone(), json!({"token": token}));
            anyone.post(route, &with_token(token)).await.flat(200);
            anyone.gateway(token).post(route, &body).await.flat(200);
            // The header wins, whatever the body says.
            anyone.gateway(token).post(route, &with_token("gw_wrong")).await.flat(200);
            let refused = [
                anyone.gateway("gw_wrong").post(route, &with_token(token)).await,
                anyone.gateway("").post(route, &with_token(token)).await,
                anyone.post(route, &with_token("gw_wrong")).await,
                anyone.post(route, &with_token(&token.to_uppercase())).await,
                anyone.post(route, &with_token("")).await,
                anyone.post(route, &with_token(&"a".repeat(300))).await,
                anyone.post(route, &body).await,
                // Even if the body is no JSON at all.
                raw(&anyone.gateway("gw_wrong"), route, None, "{").await,
                // A person's credential is no gateway's.
                scene.admin.post(route, &body).await,
            ];
            for answer in &refused {
                let error = turned_away(route, answer, 401);
                assert_eq!(error["code"], "invalid_gateway_token", "{route}");
                assert!(!answer.text().contains("gw_wrong"), "{}", answer.text());
            }
        }
    }

    async fn any_content_type_and_unknown_fields_will_do(world: World) {
        let scene = Scene::of(&world).await;
        for (route, body) in calls(&scene) {
            let more = json!({
                "token": scene.gateway.token, "cpu_usage": 0.25, "memory_usage": 17.5,
                "user_groups": null, "user_email": null, "hostname": "vpn", "version": "1.4.2",
                "nested": {"of": [{"any": "depth"}]}, "gateway_name": 5,
            });
            let body = merged(body, more).to_string();
            let urlencoded = "application/x-www-form-urlencoded";
            for content_type in [None, Some("text/plain"), Some(urlencoded), Some("x")] {
                raw(&world.anyone(), route, content_type, &body).await.flat(200);
            }
        }
    }

    async fn empty_strings_are_absent(world: World) {
        let scene = Scene::of(&world).await;
        let agent = &scene.gateway.agent;
        let beat = json!({"public_ip": "", "config_version": "", "occurred_at": ""});
        let answer = agent.post("/gateway/heartbeat", &beat).await.flat(200);
        assert_eq!(answer["needs_reprovision"], true);

        let by_password = json!({"serial_number": "", "username": "", "client_ip": ""});
        assert_eq!(scene.verify(by_password).await["allowed"], true);
        assert_eq!(scene.verify(json!({"password": ""})).await["allowed"], true);
        let neither = json!({"serial_number": "", "password": ""});
        assert_eq!(scene.verify(neither).await["code"], "no_credentials");

        let empty = json!({"serial_number": "", "vpn_ipv6": "", "event_id": "", "occurred_at": ""});
        let first = scene.connected(empty.clone()).await;
        assert_eq!(scene.connected(empty).await, first);
        let other = json!({"client_ip": "", "vpn_ipv4": "", "vpn_ipv6": ""});
        let second = scene.connected(other).await;
        let connection = scene.connection(&second).await;
        assert_eq!(connection["client_ip"], Value::Null);
        assert_eq!(connection["vpn_ip"], Value::Null);

        let rules = json!({"user_id": scene.ada.email, "client_ip": ""});
        let answer = agent.post("/gateway/client-rules", &rules).await.flat(200);
        assert_eq!(answer["allowed"].as_array().unwrap().len(), 1);

        scene.disconnect(json!({"session_id": "", "occurred_at": ""})).await;
        assert_eq!(scene.open().await, [second]);
        scene.disconnect(json!({"client_ip": ""})).await;
        assert_eq!(scene.open().await, Vec::<String>::new());
    }

    async fn answers_have_the_shapes_that_agents_read(world: World) {
        let scene = Scene::of(&world).await;
        let agent = &scene.gateway.agent;
        let (id, name) = (scene.gateway.id.as_str(), "us-east-1");
        let text = "string";

        let beat = json!({"active_clients": 3, "openvpn_running": true});
        let answer = agent.post("/gateway/heartbeat", &beat).await.flat(200);
        assert_eq!(shape(&answer), json!({
            "status": text, "gateway_id": text, "gateway_name": text, "config_version": text,
            "needs_reprovision": "boolean", "ca_fingerprint": text,
        }));
        assert_eq!(answer["status"], "ok");
        is_of(&answer, id, name);
        let ca_pem = world.anyone().get("/pki/ca.pem").await.text();
        let (_, ca) = x509_parser::pem::parse_x509_pem(ca_pem.as_bytes()).unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, &ca.contents);
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(answer["ca_fingerprint"], hex);

        let answer = agent.post("/gateway/provision", &json!({})).await.flat(200);
        let provisioned = json!({
            "gateway_id": text, "gateway_name": text, "ca_cert": text, "server_cert": text,
            "server_key": text, "vpn_subnet": text, "vpn_network": text, "vpn_netmask": text,
            "vpn_port": "number", "vpn_protocol": text, "crypto_profile": text,
            "tls_auth_enabled": "boolean", "tls_auth_key": text, "config_version": text,
        });
        assert_eq!(shape(&answer), provisioned);
        is_of(&answer, id, name);
        assert_eq!(answer["ca_cert"], ca_pem);
        for (field, label) in [("server_cert", "CERTIFICATE"), ("server_key", "PRIVATE KEY")] {
            let pem = answer[field].as_str().unwrap();
            assert!(pem.starts_with(&format!("-----BEGIN {label}-----\n")), "{field}: {pem}");
        }
        let key = answer["tls_auth_key"].as_str().unwrap();
        let hex = |line: &&str| line.len() == 32 && line.bytes().all(|b| b.is_ascii_hexdigit());
        assert_eq!(key.lines().filter(hex).count(), 16, "{key}");
        for (field, value) in [
            ("vpn_subnet", json!("172.31.255.0/24")), ("vpn_network", json!("172.31.255.0")),
            ("vpn_netmask", json!("255.255.255.0")), ("vpn_port", json!(1194)),
            ("vpn_protocol", json!("udp")), ("crypto_profile", json!("modern")),
            ("tls_auth_enabled", json!(true)),
        ] {
            assert_eq!(answer[field], value, "{field}");
        }

        let answer = scene.verify(json!({})).await;
        assert_eq!(shape(&answer), json!({
            "allowed": "boolean", "gateway_id": text, "gateway_name": text,
            "user_id": text, "user_email": text,
        }));
        is_of(&answer, id, name);
        assert_eq!(answer["user_id"], scene.ada.id);
        assert_eq!(answer["user_email"], scene.ada.email);
        let answer = scene.verify(json!({"username": "eve"})).await;
        assert_eq!(shape(&answer), json!({
            "allowed": "boolean", "code": text, "reason": text,
            "gateway_id": text, "gateway_name": text,
        }));

        // One rule with a port and a protocol, one without.
        let all = scene.admin.create_rule("all", "cidr", "10.77.0.0/28", json!({})).await;
        scene.admin.assign(&all, &scene.ada).await;
        let answer = scene.connect(json!({})).await;
        assert_eq!(shape(&answer), json!({
            "allow": "boolean", "client_config": [text], "session_id": text, "gateway_id": text,
            "gateway_name": text, "user_id": text, "user_email": text, "default_policy": text,
            "firewall_rules": [
                {"action": text, "rule_type": text, "value": text},
                {"action": text, "rule_type": text, "value": text, "port_range": text,
                 "protocol": text},
            ],
        }));
        is_of(&answer, id, name);
        let answer = scene.connect(json!({"serial_number": "0f"})).await;
        assert_eq!(shape(&answer), json!({
            "allow": "boolean", "code": text, "message": text, "client_config": [text],
            "gateway_id": text, "gateway_name": text, "default_policy": text, "firewall_rules": [],
        }));
        assert_eq!(answer["client_config"], json!(["disable"]));

        let rules = json!({
            "user_id": scene.ada.email, "user_email": scene.ada.email, "user_groups": null,
            "client_ip": VPN_IP,
        });
        let answer = agent.post("/gateway/client-rules", &rules).await.flat(200);
        assert_eq!(shape(&answer), json!({
            "user_id": text, "client_ip": text, "default": text,
            "allowed": [{"type": text, "value": text, "port": text, "protocol": text}],
        }));
        assert_eq!(answer["user_id"], scene.ada.email);
        assert_eq!(answer["client_ip"], VPN_IP);
        assert_eq!(answer["default"], "deny");

        let answer = agent.post("/gateway/all-rules", &json!({})).await.flat(200);
        let ids = json!([text]);
        assert_eq!(shape(&answer), json!({
            "rules": [{
                "id": text, "name": text, "type": text, "value": text, "port": text,
                "protocol": text, "is_active": "boolean",
            }],
            "user_rules": {&scene.ada.id: ids}, "group_rules": {}, "hash": text, "timestamp": text,
        }));
        assert!(answer["timestamp"].as_str().unwrap().ends_with('Z'), "{answer}");

        let body = json!({"common_name": scene.ada.email, "client_ip": CLIENT_IP});
        let answer = agent.post("/gateway/disconnect", &body).await.flat(200);
        assert_eq!(shape(&answer), json!({
            "status": text, "gateway_id": text, "gateway_name": text,
        }));
        assert_eq!(answer["status"], "disconnected");
        is_of(&answer, id, name);

        // Without tls-auth there is no key.
        let bare = scene.admin.create_gateway_with("bare", json!({"tls_auth": false})).await;
        let answer = bare.agent.post("/gateway/provision", &json!({})).await.flat(200);
        let mut without_key = provisioned;
        without_key.as_object_mut().unwrap().remove("tls_auth_key");
        assert_eq!(shape(&answer), without_key);
        assert_eq!(answer["tls_auth_enabled"], false);
    }

    /// 400 that names the field and never the value, and lets nobody in.
    async fn malformed_bodies_are_refused_without_repeating_them(world: World) {
        let scene = Scene::of(&world).await;
        let agent = &scene.gateway.agent;
        let before = count(&scene.admin).await;
        for (route, good) in calls(&scene) {
            for text in ["", "{", "s3cret", "[\"s3cret\"]", "{\"s3cret\"", "\"s3cret\"", "null"] {
                let answer = raw(agent, route, None, text).await;
                turned_away(route, &answer, 400);
                assert!(!answer.text().contains("s3cret"), "{}", answer.text());
            }
            let long = json!({"token": "a".repeat(1 << 20)}).to_string();
            turned_away(route, &raw(agent, route, None, &long).await, 413);
            turned_away(route, &agent.get(route).await, 405);

            for (field, values) in wrong(route) {
                for value in values {
                    let (outer, named) = match field {
                        "connected_clients[0].common_name" => {
                            ("connected_clients", json!([{"common_name": value}]))
                        }
                        field => (field, value),
                    };
                    let body = merged(good.clone(), json!({ outer: named }));
                    let answer = agent.post(route, &body).await;
                    let error = turned_away(route, &answer, 400);
                    assert_eq!(error["code"], "invalid_request", "{route} {body}");
                    assert_eq!(error["details"][0]["field"], field, "{route} {body}: {error}");
                    let said = error["details"][0]["message"].as_str().unwrap();
                    assert!(said.starts_with("must be"), "{body}: {said}");
                    let text = answer.text();
                    assert!(!text.contains("s3cret") && !text.contains("987654"), "{text}");
                }
            }
        }
        for route in ["/gateway/verify", "/gateway/connect", "/gateway/disconnect"] {
            let error = turned_away(route, &agent.post(route, &json!({})).await, 400);
            assert_eq!(error["details"][0]["field"], "common_name");
            assert_eq!(error["details"][0]["message"], "is required");
        }
        let answer = agent.post("/gateway/client-rules", &json!({})).await;
        assert_eq!(answer.envelope(400)["details"][0]["field"], "user_id");
        assert_eq!(count(&scene.admin).await, before, "refused bodies stored nothing");
    }
}

/// Each route with what an agent sends there, but for its token.
fn calls(scene: &Scene) -> Vec<(&'static str, Value)> {
    let name = scene.ada.email.as_str();
    vec![
        ("/gateway/heartbeat", json!({"active_clients": 0, "openvpn_running": true})),
        ("/gateway/provision", json!({})),
        ("/gateway/verify", scene.asks(json!({}))),
        (
            "/gateway/connect",
            json!({
                "common_name": name, "serial_number": scene.config.serial,
                "client_ip": CLIENT_IP, "vpn_ipv4": VPN_IP,
            }),
        ),
        ("/gateway/client-rules", json!({"user_id": name, "client_ip": VPN_IP})),
        ("/gateway/all-rules", json!({})),
        ("/gateway/disconnect", json!({"common_name": name, "client_ip": CLIENT_IP})),
    ]
}

/// Fields of a route, and what can't be in them.
fn wrong(route: &str) -> Vec<(&'static str, Vec<Value>)> {
    let no_text = || vec![json!(987_654), json!(["s3cret"]), json!({"s3cret": 1})];
    let no_name = || [no_text(), vec![json!("s3cret name"), json!("s3cret".repeat(11))]].concat();
    let no_serial = || vec![json!("s3cret"), json!("98:76:54x"), json!(987_654), json!(["s3cret"])];
    let no_address = || vec![json!("s3cret"), json!("987654"), json!(987_654), json!(["s3cret"])];
    let no_count = || vec![json!("s3cret"), json!(-987_654), json!(0.987_654), json!(["s3cret"])];
    let no_time = || vec![json!("s3cret"), json!(987_654), json!("2026-13-01T00:00:00Z s3cret")];
    let mut fields = vec![("token", no_text())];
    fields.extend(match route {
        "/gateway/heartbeat" => vec![
            // A text that is no address is as if it were not there.
            ("public_ip", no_text()),
            ("active_clients", vec![json!("s3cret"), json!(0.987_654), json!(["s3cret"])]),
            ("openvpn_running", vec![json!("s3cret"), json!(987_654)]),
            ("config_version", no_text()),
            ("connected_clients", vec![json!("s3cret"), json!({"s3cret": 1})]),
            ("connected_clients[0].common_name", no_text()),
            ("occurred_at", no_time()),
        ],
        "/gateway/verify" => vec![
            ("common_name", no_name()),
            ("username", no_text()),
            ("password", no_text()),
            ("serial_number", no_serial()),
            ("client_ip", no_address()),
        ],
        "/gateway/connect" => vec![
            ("common_name", no_name()),
            ("client_ip", no_address()),
            ("vpn_ipv4", no_address()),
            ("vpn_ipv6", no_address()),
            ("serial_number", no_serial()),
            ("event_id", no_text()),
            ("occurred_at", no_time()),
        ],
        "/gateway/disconnect" => vec![
            ("common_name", no_name()),
            ("client_ip", no_address()),
            ("duration_seconds", no_count()),
            ("bytes_sent", no_count()),
            ("bytes_received", no_count()),
            ("session_id", vec![json!("s3cret"), json!(987_654)]),
            ("occurred_at", no_time()),
        ],
        "/gateway/client-rules" => vec![("user_id", no_text()), ("client_ip", no_address())],
        _ => Vec::new(),
    });
    fields
}

async fn raw(caller: &Api, route: &str, content_type: Option<&str>, body: &str) -> Answer {
    let send = |request: reqwest::RequestBuilder| {
        let request = request.body(body.to_owned());
        match content_type {
            Some(content_type) => request.header("content-type", content_type),
            None => request,
        }
    };
    caller.send(Method::POST, route, send).await
}

#[track_caller]
fn is_of(answer: &Value, id: &str, name: &str) {
    assert_eq!(answer["gateway_id"], id);
    assert_eq!(answer["gateway_name"], name);
}

/// The types of JSON in the places of its values; of a list, each kind of item once.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "boolean".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(items) => {
            let mut shapes: Vec<Value> = items.iter().map(shape).collect();
            shapes.sort_by_key(|it| it.as_object().map_or(0, Map::len));
            shapes.dedup();
            shapes.into()
        }
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| (name.clone(), shape(value))).collect()
        }
    }
}
