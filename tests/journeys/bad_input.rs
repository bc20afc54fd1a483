//! What is wrong is refused with the right 4xx in the envelope, the field named, and nothing stored.

use crate::harness::fixtures::{Gateway, PASSWORD};
use crate::harness::openapi::{Operation, operations};
use crate::harness::{Answer, Api};
use reqwest::Method;
use serde_json::{Value, json};

/// The bound on bodies.
const MAX_BODY: usize = 1 << 20;

both! {
    /// Every route of the OpenAPI document that takes JSON, with what no route may take.
    async fn no_json_route_takes_nonsense(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let operations = operations(&world.anyone()).await;
        let with_body: Vec<_> = operations.iter().filter(|it| it.body.is_some()).collect();
        assert!(with_body.len() >= 20, "the document has {} JSON bodies", with_body.len());
        let before = events(&admin).await;
        for operation in with_body {
            let caller = caller(operation, &admin, &gateway);
            for malformed in ["", "{", "nul", "{\"a\":1} x", "{\"a\":\"\\ud800\"}"] {
                // What an agent sends in a field that is not known is not looked at.
                let ignored = operation.is_an_agents() && malformed.contains("ud800");
                if ignored || (malformed.is_empty() && operation.may_have_no_body()) {
                    continue;
                }
                send(caller, operation, malformed).await.envelope(400);
            }
            for not_an_object in ["[]", "5", "null", "\"text\""] {
                send(caller, operation, not_an_object).await.envelope(400);
            }
            let deep = "[".repeat(100_000);
            send(caller, operation, &deep).await.envelope(400);
            let long = json!({"name": "a".repeat(MAX_BODY)}).to_string();
            send(caller, operation, &long).await.envelope(413);
            for (field, takes_object) in operation.fields() {
                let wrong = if takes_object { json!(5) } else { json!({"of": ["another", "shape"]}) };
                let answer = send(caller, operation, &json!({&field: wrong}).to_string()).await;
                names(&answer.envelope(400), &field);
            }
            if !operation.is_an_agents() {
                let unknown = json!({"no_such_field": 1}).to_string();
                let error = send(caller, operation, &unknown).await.envelope(400);
                names(&error, "no_such_field");
                let path = operation.path_to_nothing();
                let text = caller.send(operation.method.clone(), &path, |request| {
                    request.header("content-type", "text/plain").body("{}")
                });
                text.await.envelope(415);
            }
        }
        assert_eq!(events(&admin).await, before, "refused requests stored nothing");
    }

    /// Every route that names a thing, with the id of nothing and with what is no id.
    async fn ids_of_nothing_are_not_found(world: World) {
        let admin = world.admin().await;
        let before = events(&admin).await;
        let mut asked = 0;
        for operation in operations(&world.anyone()).await {
            let reads_or_takes = [Method::GET, Method::DELETE].contains(&operation.method);
            // A serial nobody knows has an answer, and a group is a name that somebody may bear.
            let any_name = ["/pki/check/", "/admin/groups/", "/geo-fence/groups/{name}"];
            if !reads_or_takes
                || !operation.has_parameters()
                || any_name.iter().any(|it| operation.template.contains(it))
            {
                continue;
            }
            let path = operation.path_to_nothing();
            admin.send(operation.method.clone(), &path, |request| request).await.envelope(404);
            let wrong = operation.template.replace('{', "%00").replace('}', "%0A");
            admin.send(operation.method.clone(), &wrong, |request| request).await.envelope(404);
            asked += 1;
        }
        assert!(asked >= 10, "the document names {asked} things");
        admin.put("/admin/gateways/gw-none", &gateway_body("x")).await.refused(404, "not_found");
        admin.put("/admin/networks/net-none", &json!({"name": "x", "cidr": "10.0.0.0/8"}))
            .await
            .refused(404, "not_found");
        let generate = json!({"gateway_id": "gw-none", "protocol": "openvpn"});
        admin.post("/configs/generate", &generate).await.envelope(404);
        let revoke = json!({"serial": "5a:0f:3c"});
        admin.post("/admin/pki/revoke", &revoke).await.envelope(404);
        assert_eq!(events(&admin).await, before);
    }

    /// Routes and methods that are not there wear the envelope too.
    async fn unknown_routes_and_methods(world: World) {
        let anyone = world.anyone();
        for path in ["/nothing", "/admin/nothing", "/api/v1", "/gateways/nothing/at/all"] {
            anyone.get(path).await.refused(404, "not_found");
        }
        let answer = anyone.put("/auth/local/login", &json!({})).await;
        answer.refused(405, "method_not_allowed");
        assert!(answer.header("allow").contains("POST"), "Allow: {:?}", answer.header("allow"));
    }

    /// Values of the right type that mean nothing.
    async fn values_are_checked_and_named(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let network = admin.create_network("offices", "10.77.0.0/24").await;
        let before = events(&admin).await;

        for (field, value) in [
            ("name", json!("")),
            ("name", json!("a\u{7}b")),
            ("name", json!("a\nb")),
            ("name", json!("a\u{0}b")),
            ("name", json!("a".repeat(65))),
            ("hostname", json!("a b")),
            ("hostname", json!("vpn.example.com\nremote evil")),
            ("public_ip", json!("1.2.3")),
            ("port", json!(0)),
            ("port", json!(65536)),
            ("port", json!(-1)),
            ("port", json!("1194")),
            ("protocol", json!("sctp")),
            ("vpn_subnet", json!("172.31.255.1/24")),
            ("vpn_subnet", json!("10.0.0.0/8")),
            ("vpn_subnet", json!("fd00::/64")),
            ("crypto_profile", json!("ancient")),
            ("dns_servers", json!(["10.0.0.53", "dns"])),
        ] {
            let mut body = gateway_body("x");
            body[field] = value;
            names(&admin.post("/admin/gateways", &body).await.envelope(400), field);
            let path = format!("/admin/gateways/{}", gateway.id);
            names(&admin.put(&path, &body).await.envelope(400), field);
        }

        for cidr in ["", "10.0.0.0", "10.0.0.0/33", "10.1.0.0/8", "10.0.0/8", "::ffff:10.0.0.0/104"] {
            let body = json!({"name": "x", "cidr": cidr});
            names(&admin.post("/admin/networks", &body).await.envelope(400), "cidr");
        }

        let rule = json!({"name": "x", "type": "ip", "value": "10.77.0.10", "network_id": network});
        for (field, value) in [
            ("type", json!("domain")),
            ("value", json!("10.77.0")),
            ("value", json!("10.77.0.0/24")),
            ("port_range", json!("0")),
            ("port_range", json!("65536")),
            ("port_range", json!("2-1")),
            ("port_range", json!("80,443")),
            ("protocol", json!("gre")),
            ("network_id", json!("gw-1")),
        ] {
            let mut body = rule.clone();
            body[field] = value;
            names(&admin.post("/admin/access-rules", &body).await.envelope(400), field);
        }

        let user = json!({"username": "x", "email": "x@example.com", "password": PASSWORD});
        for (field, value) in [
            ("username", json!("x@example.com")),
            ("username", json!("x\u{0}")),
            ("email", json!("x")),
            ("email", json!("x@example.com\r\nBcc: y@example.com")),
            ("password", json!("short")),
            ("role", json!("king")),
            ("groups", json!(["a/b"])),
        ] {
            let mut body = user.clone();
            body[field] = value;
            let error = admin.post("/admin/users", &body).await.envelope(400);
            assert!(error.to_string().contains(field), "{field}: {error}");
        }
        assert_eq!(events(&admin).await, before, "refused requests stored nothing");
    }

    /// What an agent sends that can't be, answered without repeating any of it.
    async fn agents_are_told_what_is_wrong(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let good = json!({"common_name": "ada@example.com", "client_ip": "198.51.100.2"});
        for route in ["/gateway/verify", "/gateway/connect", "/gateway/disconnect"] {
            for (field, value) in [
                ("common_name", json!("a".repeat(65))),
                ("common_name", json!("a\u{1}b")),
                ("common_name", json!(["s3cret"])),
                ("client_ip", json!("s3cret")),
            ] {
                let mut body = good.clone();
                body[field] = value;
                let answer = gateway.agent.post(route, &body).await;
                names(&answer.envelope(400), field);
                assert!(!answer.text().contains("s3cret"), "{}", answer.text());
            }
        }
        for (field, value) in [("vpn_ipv4", "fd00::1"), ("serial_number", "zz")] {
            let mut body = good.clone();
            body[field] = json!(value);
            names(&gateway.agent.post("/gateway/connect", &body).await.envelope(400), field);
        }
        let connections = admin.get("/admin/connections").await.list();
        assert_eq!(connections, Vec::<Value>::new());
    }

    /// A name, an address or an e-mail belongs to one.
    async fn what_is_taken_is_a_conflict(world: World) {
        let admin = world.admin().await;
        admin.create_gateway_with("us-east-1", json!({"vpn_subnet": "172.30.0.0/16"})).await;
        admin.create_network("offices", "10.77.0.0/24").await;
        admin.create_rule("wiki", "ip", "10.77.0.10", json!({})).await;
        admin.create_user("ada").await;
        let before = events(&admin).await;

        let mut overlapping = gateway_body("us-east-2");
        overlapping["vpn_subnet"] = json!("172.30.9.0/24");
        let rule = json!({"name": "wiki", "type": "ip", "value": "10.77.0.11"});
        for (path, body, field) in [
            ("/admin/gateways", gateway_body("US-East-1"), "name"),
            ("/admin/gateways", overlapping, "vpn_subnet"),
            ("/admin/networks", json!({"name": "offices", "cidr": "10.78.0.0/24"}), "name"),
            ("/admin/networks", json!({"name": "others", "cidr": "10.77.0.0/16"}), "cidr"),
            ("/admin/access-rules", rule, "name"),
            ("/admin/users", json!({"username": "ADA", "email": "b@example.com"}), "username"),
            ("/admin/users", json!({"username": "b", "email": "ADA@example.com"}), "email"),
        ] {
            names(&admin.post(path, &body).await.envelope(409), field);
        }
        assert_eq!(events(&admin).await, before, "refused requests stored nothing");
    }

    /// Nobody overwrites a change that they have not seen.
    async fn a_stale_if_match_is_refused(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let path = format!("/admin/gateways/{}", gateway.id);
        let seen = admin.get(&path).await.header("etag").to_owned();
        assert!(!seen.is_empty(), "an ETag");
        let mut body = gateway_body("us-east-1");
        body["description"] = json!("changed");
        let with = |seen: String, body: Value| {
            let admin = admin.clone();
            let path = path.clone();
            async move {
                admin.send(Method::PUT, &path, |it| it.header("if-match", seen).json(&body)).await
            }
        };
        let changed = with(seen.clone(), body.clone()).await;
        assert_eq!(changed.ok()["description"], "changed");
        assert_ne!(changed.header("etag"), seen);
        let before = events(&admin).await;

        body["description"] = json!("overwritten");
        with(seen.clone(), body.clone()).await.refused(412, "changed_meanwhile");
        let delete = admin.send(Method::DELETE, &path, |it| it.header("if-match", &seen));
        delete.await.refused(412, "changed_meanwhile");
        assert_eq!(admin.get(&path).await.ok()["description"], "changed");
        assert_eq!(events(&admin).await, before);

        // A grant is no change to anybody's edit form.
        let ada = admin.create_user("ada").await;
        admin.grant(&gateway, &ada).await;
        assert_eq!(admin.get(&path).await.header("etag"), changed.header("etag"));
        with(changed.header("etag").to_owned(), body).await.ok();
    }

    /// A common name has at most 64 characters: a longer e-mail address makes way for the user id.
    async fn a_long_email_is_no_common_name(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let email = format!("{}@{}.example.com", "a".repeat(40), "b".repeat(40));
        let ada = admin.create_user_with("ada", json!({"email": email})).await;
        admin.grant(&gateway, &ada).await;
        let config = ada.api.generate_config(&gateway).await;
        let asked = json!({"common_name": ada.id, "serial_number": config.serial});
        let verified = gateway.agent.post("/gateway/verify", &asked).await.flat(200);
        assert_eq!(verified["allowed"], true, "{verified}");
        assert_eq!(verified["user_email"], email.as_str());
    }
}

/// The least that a gateway is made of.
fn gateway_body(name: &str) -> Value {
    json!({"name": name, "hostname": "vpn.example.com"})
}

fn caller<'a>(operation: &Operation, admin: &'a Api, gateway: &'a Gateway) -> &'a Api {
    if operation.is_an_agents() { &gateway.agent } else { admin }
}

async fn send(caller: &Api, operation: &Operation, body: &str) -> Answer {
    let path = operation.path_to_nothing();
    let json = |request: reqwest::RequestBuilder| {
        request.header("content-type", "application/json").body(body.to_owned())
    };
    caller.send(operation.method.clone(), &path, json).await
}

/// The error's details have that field (or a part of it).
#[track_caller]
fn names(error: &Value, field: &str) {
    let details = error["details"].as_array().into_iter().flatten();
    let mut fields = details.filter_map(|detail| detail["field"].as_str());
    let is_it = |name: &str| {
        name.strip_prefix(field).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
    };
    assert!(fields.any(is_it), "`{field}` is not named in {error}");
}

/// How many events there are.
async fn events(admin: &Api) -> u64 {
    let page = admin.get("/admin/audit?per_page=1").await.flat(200);
    page["meta"]["total"].as_u64().expect("a total")
}
