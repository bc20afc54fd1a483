//! A request that creates something can be sent again until its answer has come, and creates it once:
//! by twins at the same time, at two servers, and when the server dies in between.

use crate::harness::fixtures::{PASSWORD, id};
use crate::harness::openapi::operations;
use crate::harness::{Answer, Api};
use gatekey_projections::{Db, Location, Purpose};
use reqwest::Method;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// Longer than any of it takes.
const SOON: Duration = Duration::from_secs(10);

async fn post(api: &Api, path: &str, key: &str, body: &Value) -> Answer {
    api.send(Method::POST, path, |request| request.header("idempotency-key", key).json(body)).await
}

/// What makes an answer the same.
fn told(answer: &Answer) -> (u16, String, String, Vec<u8>) {
    let header = |name: &str| answer.header(name).to_owned();
    (answer.status.as_u16(), header("location"), header("etag"), answer.body.clone())
}

async fn database(url: &str) -> Db {
    Location::parse(url).unwrap().open(Purpose::Queries).await.unwrap()
}

async fn total(api: &Api, list: &str) -> u64 {
    api.get(list).await.flat(200)["meta"]["total"].as_u64().unwrap()
}

both! {
    async fn the_same_request_has_the_same_answer(world: World) {
        let admin = world.admin().await;
        let ada = admin.create_user("ada").await;
        let gateway = admin.create_gateway("us-east-1").await;
        admin.grant(&gateway, &ada).await;
        let network = admin.create_network("office", "10.77.0.0/24").await;
        let grants = format!("/admin/gateways/{}", gateway.id);
        let hub = admin.create_hub("asia").await;
        admin.grant_hub(&hub, &ada).await;
        // Who makes it, where, of what, and a body that makes another.
        let cases = [
            (
                &admin,
                "/admin/networks",
                json!({"name": "lab", "cidr": "10.78.0.0/24"}),
                json!({"name": "lab", "cidr": "10.78.0.0/23"}),
            ),
            (
                &admin,
                "/admin/access-rules",
                json!({"name": "wiki", "type": "ip", "value": "10.77.0.10", "network_id": network}),
                json!({"name": "wikis", "type": "ip", "value": "10.77.0.10"}),
            ),
            (
                &admin,
                "/admin/gateways",
                json!({"name": "west", "hostname": "vpn.example.com"}),
                json!({"name": "west", "hostname": "vpn.example.com", "port": 443}),
            ),
            (
                &admin,
                "/admin/users",
                json!({"username": "bob", "email": "bob@example.com", "password": PASSWORD,
                    "groups": ["b", "a"]}),
                json!({"username": "bob", "email": "bob@example.com"}),
            ),
            (&ada.api, "/api-keys", json!({"name": "ci"}), json!({"name": "cd"})),
            (
                &ada.api,
                "/configs/generate",
                json!({"gateway_id": gateway.id}),
                json!({"gateway_id": gateway.id, "protocol": "openvpn"}),
            ),
            (
                &admin,
                "/admin/mesh/hubs",
                json!({"name": "europe", "public_endpoint": "hub.example.com"}),
                json!({"name": "europe", "public_endpoint": "hub.example.com", "port": 443}),
            ),
            (
                &admin,
                &*format!("/admin/mesh/hubs/{hub}/spokes"),
                json!({"name": "berlin", "local_networks": ["10.20.0.0/16"]}),
                json!({"name": "berlin"}),
            ),
            (&ada.api, "/mesh/generate-config", json!({"hub_id": hub}), json!({"hub_id": "hub-x"})),
            (
                &admin,
                &*format!("{grants}/groups"),
                json!({"group": "Site Ops"}),
                json!({"group": "Others"}),
            ),
            (
                &admin,
                &*format!("{grants}/networks"),
                json!({"network_id": network}),
                json!({"network_id": "net-other"}),
            ),
        ];
        let mut answers = Vec::new();
        for (n, (caller, path, body, other)) in cases.iter().enumerate() {
            let key = "the-same-for-all-routes";
            let events = total(&admin, "/admin/audit").await;
            let first = post(caller, path, key, body).await;
            first.has_status(201);
            assert!(!first.header("location").is_empty(), "{path}");
            // Written in another way, it is the same.
            let text = format!(" {body}\n");
            let again = caller.send(Method::POST, path, |request| {
                let request = request.header("content-type", "application/json; charset=utf-8");
                request.header("idempotency-key", key).body(text)
            });
            assert_eq!(told(&again.await), told(&first), "{path}");
            let reused = post(caller, path, key, other).await;
            reused.refused(409, "idempotency_key_reused");
            assert_eq!(total(&admin, "/admin/audit").await, events + 1, "{path}");
            answers.push((n, told(&first)));

            // What is answered is what is there.
            let found = caller.get(first.header("location")).await;
            if found.status == 200 {
                let mut data = first.json();
                let data = data.get_mut("data").map(Value::take);
                if let Some(Value::Object(mut data)) = data {
                    data.remove("token");
                    data.remove("key");
                    assert_eq!(Value::Object(data), found.ok(), "{path}");
                    assert_eq!(found.header("etag"), first.header("etag"), "{path}");
                }
            }
        }

        // It stays the same, whatever becomes of the thing.
        for path in ["/admin/networks", "/admin/users", "/admin/gateways"] {
            let list = admin.get(&format!("{path}?sort=-created_at")).await.list();
            admin.delete(&format!("{path}/{}", id(&list[0]))).await.ok();
        }
        world.server.restart();
        for (n, answer) in answers {
            let (caller, path, body, _) = &cases[n];
            let again = post(caller, path, "the-same-for-all-routes", body).await;
            assert_eq!(told(&again), answer, "{path}");
        }

        // Nothing of it can be read in the database.
        let db = database(&world.database_url()).await;
        let sql = "SELECT caller, route, key, sealed FROM idempotency_keys";
        let rows: Vec<(String, String, String, String)> = db.all(sql, &[]).await.unwrap();
        assert_eq!(rows.len(), cases.len());
        let key = "the-same-for-all-routes";
        let cast = |row: &(String, String, String, String)| {
            assert_eq!(row.2, key);
            assert!(row.1.starts_with("POST /api/v1/"), "{row:?}");
            assert!(row.0.starts_with("usr-"), "{row:?}");
            let sealed = &row.3;
            assert!(!sealed.contains("gk_") && !sealed.contains('{'), "{sealed}");
        };
        rows.iter().for_each(cast);
    }

    /// Whose key it is, and what it is for, tell it from others; what is refused keeps nothing.
    async fn keys_are_told_apart_and_errors_are_not_kept(world: World) {
        let admin = world.admin().await;
        let eva = admin.create_user_with("eva", json!({"role": "admin"})).await.api;
        let lab = json!({"name": "lab", "cidr": "10.78.0.0/24"});
        let first = post(&admin, "/admin/networks", "k", &lab).await;
        let network = id(&first.created());

        // Another's key is another key, and so is that of one's own API key.
        post(&eva, "/admin/networks", "k", &lab).await.refused(409, "already_taken");
        let ci = admin.post("/api-keys", &json!({"name": "ci"})).await.created();
        let by_key = world.anyone().bearer(ci["key"].as_str().unwrap());
        post(&by_key, "/admin/networks", "k", &lab).await.refused(409, "already_taken");
        // A new session is the same person.
        let again = post(&world.admin().await, "/admin/networks", "k", &lab).await;
        assert_eq!(told(&again), told(&first));

        // The refusal was not kept: when the name is free, the same request goes through.
        admin.delete(&format!("/admin/networks/{network}")).await.ok();
        let evas = post(&eva, "/admin/networks", "k", &lab).await;
        assert_ne!(id(&evas.created()), network);
        let bad = json!({"name": "lab", "cidr": "10.78.0.1/24"});
        post(&eva, "/admin/networks", "k2", &bad).await.envelope(400);
        let good = json!({"name": "other", "cidr": "10.79.0.0/24"});
        post(&eva, "/admin/networks", "k2", &good).await.created();

        // The same key on two things of the same route are two requests, of which one is made.
        let (east, west) = (admin.create_gateway("east").await, admin.create_gateway("west").await);
        let ops = json!({"group": "ops"});
        let grants = |id: &str| format!("/admin/gateways/{id}/groups");
        post(&admin, &grants(&east.id), "g", &ops).await.created();
        let reused = post(&admin, &grants(&west.id), "g", &ops).await;
        reused.refused(409, "idempotency_key_reused");
        // What was given already is no new thing, and nothing is kept of it.
        assert_eq!(post(&admin, &grants(&east.id), "h", &ops).await.ok(), json!({"id": "ops"}));
        admin.delete(&format!("{}/ops", grants(&east.id))).await.ok();
        post(&admin, &grants(&east.id), "h", &ops).await.created();
    }

    /// Every operation that creates takes a key, and says so.
    async fn whatever_creates_takes_a_key(world: World) {
        let admin = world.admin().await;
        let mut creating = 0;
        for operation in operations(&world.anyone()).await {
            let creates = operation.method == Method::POST
                && operation.document["responses"]["201"].is_object();
            let parameters = operation.document["parameters"].as_array().cloned();
            let documented = parameters
                .unwrap_or_default()
                .iter()
                .any(|it| it["in"] == "header" && it["name"] == "Idempotency-Key");
            let at = format!("{} {}", operation.method, operation.template);
            assert_eq!(creates, documented, "{at}");
            if !creates {
                continue;
            }
            creating += 1;
            assert!(operation.document["responses"]["409"].is_object(), "{at}");
            let long = "k".repeat(256);
            for wrong in ["", "a b", &long] {
                let path = operation.path_to_nothing();
                let error = post(&admin, &path, wrong, &json!({})).await.envelope(400);
                assert_eq!(error["details"][0]["field"], "Idempotency-Key", "{at}");
            }
        }
        assert!(creating >= 11, "{creating} operations create something");
    }

    /// Of twins at the same time one is carried out; the others are told so, or what it came to.
    async fn twins_create_one_thing(world: World) {
        let admin = world.admin().await;
        let data = tempfile::tempdir().unwrap();
        let second = world.second_server(data.path());
        assert_eq!(second.is_ok(), world.kind() == Kind::Postgres);
        let mut nodes = vec![admin.clone()];
        nodes.extend(second.as_ref().ok().map(|server| admin.at(&server.url())));
        let mut told_to_wait = 0;
        for round in 0..10 {
            let mut crowd = tokio::task::JoinSet::new();
            for n in 0..8 {
                let api = nodes[n % nodes.len()].clone();
                crowd.spawn(async move {
                    let body = json!({"name": format!("key-{round}")});
                    post(&api, "/api-keys", &format!("round-{round}"), &body).await
                });
            }
            let answers = crowd.join_all().await;
            let made: BTreeSet<_> =
                answers.iter().filter(|it| it.status == 201).map(told).collect();
            assert_eq!(made.len(), 1, "one answer");
            for refused in answers.iter().filter(|it| it.status != 201) {
                refused.refused(409, "in_progress");
                told_to_wait += 1;
            }
            assert_eq!(total(&admin, "/api-keys").await, round + 1);
            let body = json!({"name": format!("key-{round}")});
            for node in &nodes {
                let later = post(node, "/api-keys", &format!("round-{round}"), &body).await;
                assert_eq!(Some(&told(&later)), made.first(), "the same from each node");
            }
        }
        assert!(told_to_wait > 0, "nobody came while another was being carried out");
    }

    /// The server dies when the thing is there and nobody has been told: whoever asks again is told.
    async fn an_answer_survives_the_server(world: World) {
        let admin = world.admin().await;
        let db = database(&world.database_url()).await;
        for round in 0..5_u64 {
            let body = json!({"name": format!("gateway-{round}"), "hostname": "vpn.example.com"});
            let key = format!("round-{round}");
            let request = tokio::spawn({
                let (admin, key, body) = (admin.clone(), key.clone(), body.clone());
                async move {
                    let with = |request: reqwest::RequestBuilder| {
                        request.header("idempotency-key", key).json(&body)
                    };
                    admin.try_send(Method::POST, "/admin/gateways", with).await
                }
            });
            let written = async {
                // Without a pause: the answer is on its way.
                loop {
                    let sql = "SELECT COUNT(*) FROM gateways";
                    let (count,): (i64,) = db.one(sql, &[]).await.unwrap();
                    if count.unsigned_abs() > round {
                        break;
                    }
                }
            };
            tokio::time::timeout(SOON, written).await.expect("it is written");
            world.server.sigkill();
            let heard = request.await.unwrap().ok();
            world.server.start_again();

            let again = post(&admin, "/admin/gateways", &key, &body).await;
            let gateway = again.created();
            if let Some(heard) = heard {
                assert_eq!(told(&heard), told(&again));
            }
            assert_eq!(total(&admin, "/admin/gateways").await, round + 1);
            // The secret that is told once is good.
            let agent = world.anyone().gateway(gateway["token"].as_str().unwrap());
            agent.post("/gateway/heartbeat", &json!({})).await.flat(200);
            assert_eq!(told(&post(&admin, "/admin/gateways", &key, &body).await), told(&again));
        }
    }
}
