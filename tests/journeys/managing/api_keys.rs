//! API keys: what they may do, who makes them, and how they end.

use super::{SOON, ids};
use crate::harness::fixtures::{User, id};
use crate::harness::wait::eventually;
use crate::harness::{Answer, Api};
use chrono::{SecondsFormat, TimeDelta};
use gatekey::clock::Clock;
use reqwest::Method;
use serde_json::{Value, json};

/// Makes a key; its id, and a caller with it.
async fn make(by: &Api, path: &str, body: Value) -> (String, Api) {
    let made = by.post(path, &body).await;
    let data = made.created();
    let key = data["key"].as_str().expect("the key, this once");
    assert_eq!(made.header("location"), format!("/api/v1{path}/{}", id(&data)));
    assert!(by.get(made.header("location")).await.ok().get("key").is_none());
    (id(&data), by.bearer(key))
}

async fn with_scopes(by: &Api, scopes: &[&str]) -> Api {
    make(by, "/api-keys", json!({"name": "ci", "scopes": scopes})).await.1
}

fn keys_of(user: &User) -> String {
    format!("/admin/users/{}/api-keys", user.id)
}

/// Asks from an address, by way of a proxy.
async fn from(api: &Api, address: &str) -> Answer {
    let with = |request: reqwest::RequestBuilder| request.header("x-forwarded-for", address);
    api.send(Method::GET, "/users/me", with).await
}

both! {
    /// A pipeline that may only do what it is for.
    async fn a_key_may_do_what_it_is_for(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let ada = admin.create_user("ada").await;
        admin.grant(&gateway, &ada).await;

        // One that connects: it gets a profile with its key, and nothing else.
        let connect = with_scopes(&ada.api, &["vpn:connect", "read:gateways"]).await;
        assert_eq!(connect.get("/gateways").await.list().len(), 1);
        let config = connect.generate_config(&gateway).await;
        let lacks = |answer: Answer, scope: &str| {
            let error = answer.refused(403, "insufficient_scope");
            let message = format!("This API key lacks the scope `{scope}`");
            assert_eq!(error["message"], message);
        };
        lacks(connect.get("/configs").await, "read:configs");
        lacks(connect.post("/api-keys", &json!({"name": "x"})).await, "write:api-keys");

        // One that reads everything, but no profile: that is a key to the network.
        let read = with_scopes(&ada.api, &["read"]).await;
        assert_eq!(ids(&read.get("/configs").await.list()), [&*config.id]);
        let download = format!("/configs/download/{}", config.id);
        lacks(read.get(&download).await, "vpn:connect");
        let body = json!({"gateway_id": gateway.id});
        lacks(read.post("/configs/generate", &body).await, "vpn:connect");
        lacks(read.post(&format!("/configs/{}/revoke", config.id), &json!({})).await, "write:configs");
        // It reads what its owner may.
        read.get("/admin/gateways").await.refused(403, "forbidden");

        // One for Terraform: it changes networks, and sees what it changed.
        let terraform = with_scopes(&admin, &["write:networks"]).await;
        let network = terraform.create_network("office", "10.77.0.0/24").await;
        let path = format!("/admin/networks/{network}");
        assert_eq!(terraform.get(&path).await.ok()["name"], "office");
        lacks(terraform.get("/admin/access-rules").await, "read:access-rules");
        let attach = json!({"network_id": network});
        let networks = format!("/admin/gateways/{}/networks", gateway.id);
        lacks(terraform.post(&networks, &attach).await, "write:gateways");
        terraform.delete(&path).await.ok();

        // One for the archive.
        let archive = with_scopes(&admin, &["audit:read"]).await;
        assert!(!archive.get("/admin/audit").await.list().is_empty());
        lacks(archive.get("/admin/users").await, "read:users");

        // Nothing but a login, or a key that may all, changes who somebody is.
        let users = with_scopes(&admin, &["write:users", "read"]).await;
        let eva = json!({"username": "eva", "email": "eva@example.com", "role": "admin"});
        lacks(users.post("/admin/users", &eva).await, "*");
        let user = format!("/admin/users/{}", ada.id);
        lacks(users.put(&user, &eva).await, "*");
        lacks(users.put(&format!("{user}/password"), &json!({"password": "x"})).await, "*");
        let groups = users.put(&format!("{user}/groups"), &json!({"groups": ["a"]})).await.ok();
        assert_eq!(groups["groups"], json!(["a"]));
        let all = with_scopes(&admin, &["*"]).await;
        all.post("/admin/users", &eva).await.created();

        // What was refused is in the history.
        eventually("the refusals are written", SOON, || async {
            let path = "/admin/audit?event=attempt.request_forbidden&per_page=100";
            let refusals = admin.get(path).await.list();
            refusals
                .iter()
                .any(|it| {
                    it["payload"]["reason"] == "insufficient_scope"
                        && it["payload"]["target"] == "POST /api/v1/admin/users"
                        && it["credential"]["kind"] == "api_key"
                })
                .then_some(())
        })
        .await;
    }

    /// An admin's key makes keys for people; with it they end.
    async fn a_key_lasts_no_longer_than_what_it_was_made_with(world: World) {
        let admin = world.admin().await;
        let (ada, bob) = (admin.create_user("ada").await, admin.create_user("bob").await);
        let (of_ada, of_bob) = (keys_of(&ada), keys_of(&bob));
        let scopes = json!(["write:api-keys", "read:users"]);
        let (maker, issuing) =
            make(&admin, "/api-keys", json!({"name": "issuer", "scopes": scopes})).await;
        let narrow = json!({"name": "ci", "scopes": ["read:users"]});

        // Not more than itself, nor what its owner could give by a login.
        for (body, field) in [
            (json!({"name": "ci"}), "scopes"),
            (json!({"name": "ci", "scopes": ["vpn:connect"]}), "scopes"),
            (json!({"name": "ci", "scopes": ["read"]}), "scopes"),
        ] {
            let error = issuing.post(&of_ada, &body).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field, "{body}");
        }
        let (first, by_first) = make(&issuing, &of_ada, json!({"name": "ci", "scopes": scopes})).await;
        let (second, by_second) = make(&issuing, &of_bob, narrow.clone()).await;
        let (third, by_third) = {
            let made = by_first.post("/api-keys", &narrow).await.created();
            (id(&made), by_first.bearer(made["key"].as_str().unwrap()))
        };
        let (kept, by_kept) = make(&admin, &of_ada, narrow.clone()).await;
        for (key, name, made_by) in [
            (&by_first, "ada", Some(&maker)),
            (&by_second, "bob", Some(&maker)),
            (&by_third, "ada", Some(&first)),
            (&by_kept, "ada", None),
        ] {
            let valid = key.get("/auth/api-key/validate").await.ok();
            assert_eq!(valid["user"]["username"], name);
            assert_eq!(valid["key"]["expires_at"], Value::Null);
            let path = format!("{}/{}", keys_of(if name == "ada" { &ada } else { &bob }), id(&valid["key"]));
            assert_eq!(admin.get(&path).await.ok()["created_by"], json!(made_by));
        }
        // One's own key is nobody else's to show or to end.
        let elsewhere = format!("{of_bob}/{first}");
        admin.get(&elsewhere).await.refused(404, "not_found");
        admin.delete(&elsewhere).await.refused(404, "not_found");
        ada.api.post(&of_ada, &narrow).await.refused(403, "forbidden");
        admin.post("/admin/users/usr-none/api-keys", &narrow).await.refused(404, "not_found");

        for _ in 0..2 {
            admin.delete(&format!("/api-keys/{maker}")).await.ok();
            for key in [&issuing, &by_first, &by_second, &by_third] {
                key.get("/users/me").await.refused(401, "unauthorized");
            }
            by_kept.get("/users/me").await.ok();
        }
        // What follows from it is written, with its cause, for each of them.
        let revoked = async || {
            let events = admin.get("/admin/audit?event=user.api_key_revoked").await.list();
            (events.len() == 4).then_some(events)
        };
        let events = eventually("the keys are revoked", SOON, revoked).await;
        let named: Vec<_> = events.iter().map(|it| it["payload"]["id"].as_str().unwrap()).collect();
        for key in [&maker, &first, &second, &third] {
            assert!(named.contains(&key.as_str()), "{named:?}");
        }
        for event in events.iter().filter(|it| it["payload"]["id"] != maker.as_str()) {
            assert_eq!(event["actor"]["kind"], "system", "{event}");
            assert!(event["causation_id"].is_string(), "{event}");
        }
        assert_eq!(ids(&admin.get(&of_ada).await.list()), [kept.as_str()]);
        assert!(admin.get(&of_bob).await.list().is_empty());
        let shown = admin.get(&format!("{of_bob}/{second}")).await.ok();
        assert!(shown["revoked_at"].is_string(), "{shown}");

        // So it is after a restart.
        world.server.restart();
        by_third.get("/users/me").await.refused(401, "unauthorized");
        assert_eq!(by_kept.get("/auth/api-key/validate").await.ok()["key"]["scopes"], narrow["scopes"]);

        // And with the admin goes what their keys made.
        let eva = admin.create_user_with("eva", json!({"role": "admin"})).await;
        let (_, evas) = make(&eva.api, "/api-keys", json!({"name": "issuer"})).await;
        let (_, by_evas) = make(&evas, &of_bob, narrow).await;
        by_evas.get("/users/me").await.ok();
        admin.delete(&format!("/admin/users/{}", eva.id)).await.ok();
        by_evas.get("/users/me").await.refused(401, "unauthorized");
        eventually("the key is revoked", SOON, || async {
            admin.get(&of_bob).await.list().is_empty().then_some(())
        })
        .await;
    }

    /// From where, until when, and when and from where last.
    async fn a_key_is_bound_to_places_and_times(
        world: World,
        "GATEKEY_TRUSTED_PROXIES" = "127.0.0.1"
    ) {
        let admin = world.admin().await;
        let ada = admin.create_user("ada").await;
        let nets = json!(["192.0.2.0/24", "2001:db8:1::/48"]);
        let soon = (Clock::system().now() + TimeDelta::seconds(6)).to_rfc3339_opts(SecondsFormat::Micros, true);
        let body = json!({"name": "ci", "scopes": ["read:users", "write:api-keys"],
            "source_cidrs": nets, "expires_at": soon});
        let (key, by_key) = make(&admin, &keys_of(&ada), body.clone()).await;
        for (address, status) in [
            ("192.0.2.7", 200),
            ("::ffff:192.0.2.8", 200),
            ("2001:db8:1::7", 200),
            ("198.51.100.7", 401),
            ("2001:db8:2::7", 401),
            // What a client wrote itself stands further left, and is not believed.
            ("192.0.2.7, 198.51.100.7", 401),
        ] {
            assert_eq!(from(&by_key, address).await.status, status, "{address}");
        }
        by_key.get("/users/me").await.refused(401, "unauthorized");

        // A key that it makes is bound likewise.
        let send = |body: Value| {
            let with = move |request: reqwest::RequestBuilder| {
                request.header("x-forwarded-for", "192.0.2.7").json(&body)
            };
            by_key.send(Method::POST, "/api-keys", with)
        };
        for (field, value) in [
            ("source_cidrs", json!([])),
            ("source_cidrs", json!(["192.0.2.0/25", "::/0"])),
            ("expires_at", Value::Null),
            ("expires_at", json!("2999-01-01T00:00:00Z")),
        ] {
            let mut wider = body.clone();
            wider[field] = value;
            let error = send(wider).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field);
        }

        let used = eventually("its last use is shown", SOON, || async {
            let keys = admin.get(&keys_of(&ada)).await.list();
            let used = keys.into_iter().find(|it| id(it) == key).expect("the key");
            used["last_used_at"].is_string().then_some(used)
        })
        .await;
        assert_eq!((&used["source_cidrs"], &used["expires_at"]), (&nets, &json!(soon)));
        assert!(used["last_used_ip"].is_string(), "{used}");
        eventually("it ends by itself", SOON, || async {
            (from(&by_key, "192.0.2.7").await.status == 401).then_some(())
        })
        .await;
        // Somebody else may have it: that is written down.
        eventually("the other place is written down", SOON, || async {
            let refusals = admin.get("/admin/audit?event=attempt.request_forbidden").await.list();
            let elsewhere = |it: &Value| {
                it["payload"]["reason"] == "source_not_allowed"
                    && it["payload"]["client_ip"] == "198.51.100.7"
            };
            refusals.iter().any(elsewhere).then_some(())
        })
        .await;
    }
}
