//! PATCH: what is named changes, the rest stays, and nobody's change is lost.

use crate::harness::fixtures::id;
use crate::harness::{Answer, Api};
use reqwest::Method;
use serde_json::{Value, json};

async fn patch(api: &Api, path: &str, body: &Value) -> Answer {
    api.send(Method::PATCH, path, |request| request.json(body)).await
}

both! {
    async fn what_is_named_changes_and_the_rest_stays(world: World) {
        let admin = world.admin().await;
        let network = admin.create_network("office", "10.77.0.0/24").await;
        for (path, body, change, field, default) in [
            (
                "/admin/gateways",
                json!({"name": "east", "hostname": "vpn.example.com", "public_ip": "203.0.113.10",
                    "port": 443, "vpn_subnet": "10.8.0.0/22", "full_tunnel": true,
                    "push_dns": true, "dns_servers": ["10.0.0.53"]}),
                json!({"description": "East coast"}),
                "port",
                json!(1194),
            ),
            (
                "/admin/mesh/hubs",
                json!({"name": "europe", "public_endpoint": "hub.example.com", "port": 443,
                    "vpn_subnet": "10.9.0.0/24", "local_networks": ["10.1.0.0/16"]}),
                json!({"description": "In Frankfurt", "local_networks": ["10.2.0.0/16"]}),
                "port",
                json!(1194),
            ),
            (
                "/admin/networks",
                json!({"name": "lab", "cidr": "10.78.0.0/24", "description": "The lab"}),
                json!({"cidr": "10.78.0.0/23"}),
                "description",
                json!(""),
            ),
            (
                "/admin/access-rules",
                json!({"name": "wiki", "type": "ip", "value": "10.77.0.10", "protocol": "tcp",
                    "port_range": "443", "network_id": network, "active": false}),
                json!({"type": "cidr", "value": "10.77.0.0/28"}),
                "network_id",
                Value::Null,
            ),
            (
                "/admin/users",
                json!({"username": "ada", "email": "ada@example.com", "name": "Ada Lovelace",
                    "role": "auditor"}),
                json!({"email": "ada.l@example.com"}),
                "name",
                Value::Null,
            ),
        ] {
            let path = format!("{path}/{}", id(&admin.post(path, &body).await.created()));
            let before = admin.get(&path).await;
            let changed = patch(&admin, &path, &change).await;
            let mut expected = before.ok();
            // These two follow from what was changed.
            let follows = ["updated_at", "config_version", "network_name"];
            expected.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            for (name, value) in expected.as_object().unwrap() {
                if !follows.contains(&name.as_str()) {
                    assert_eq!(&changed.ok()[name], value, "{path}: {name}");
                }
            }
            assert_ne!(changed.header("etag"), before.header("etag"), "{path}");

            // Null takes a field away: it has its default again.
            let merge_patch = admin.send(Method::PATCH, &path, |request| {
                request
                    .header("content-type", "application/merge-patch+json")
                    .header("if-match", changed.header("etag"))
                    .body(json!({field: null}).to_string())
            });
            let taken = merge_patch.await;
            assert_eq!(taken.ok()[field], default, "{path}: {field}");
            let stale = admin.send(Method::PATCH, &path, |request| {
                request.header("if-match", before.header("etag")).json(&change)
            });
            stale.await.refused(412, "changed_meanwhile");

            // Nothing to change is no change.
            for nothing in [json!({}), change.clone()] {
                let same = patch(&admin, &path, &nothing).await;
                assert_eq!((same.ok(), same.header("etag")), (taken.ok(), taken.header("etag")));
            }
            for (wrong, field) in [
                (json!({"id": "other"}), "id"),
                (json!({"no_such_field": null}), "no_such_field"),
            ] {
                let error = patch(&admin, &path, &wrong).await.envelope(400);
                assert_eq!(error["details"][0]["field"], field, "{path}");
            }
            assert_eq!(admin.get(&path).await.ok(), taken.ok());
        }
        // What PUT can't do without, can't be taken away; what it refuses is refused here too.
        let users = admin.get("/admin/users?q=ada").await.list();
        let ada = format!("/admin/users/{}", id(&users[0]));
        for (change, field) in [(json!({"email": null}), "email"), (json!({"role": null}), "role")] {
            let error = patch(&admin, &ada, &change).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field);
        }
        let taken = patch(&admin, &ada, &json!({"username": "admin"})).await;
        taken.refused(409, "already_taken");
        let me = format!("/admin/users/{}", id(&admin.get("/users/me").await.ok()));
        patch(&admin, &me, &json!({"role": "member"})).await.refused(409, "last_admin");

        let settings = patch(&admin, "/admin/settings", &json!({"login_idle_minutes": 30})).await;
        assert_eq!(settings.ok()["login_idle_minutes"], 30);
        let settings = patch(&admin, "/admin/settings", &json!({"config_lifetime_hours": 48})).await;
        assert_eq!(settings.ok()["login_idle_minutes"], 30);
        let settings = patch(&admin, "/admin/settings", &json!({"login_idle_minutes": null})).await;
        assert_eq!(
            (&settings.ok()["login_idle_minutes"], &settings.ok()["config_lifetime_hours"]),
            (&json!(60), &json!(48))
        );
        let error =
            patch(&admin, "/admin/settings", &json!({"login_idle_minutes": 1})).await.envelope(400);
        assert_eq!(error["details"][0]["field"], "login_idle_minutes");
    }

    /// Each changes a field of their own at the same time: all of it stands in the end.
    async fn nobodys_change_is_lost(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("east").await;
        let path = format!("/admin/gateways/{}", gateway.id);
        let changes = [
            json!({"name": "west"}),
            json!({"description": "West coast"}),
            json!({"port": 443}),
            json!({"protocol": "tcp"}),
            json!({"full_tunnel": true}),
            json!({"tls_auth": false}),
        ];
        for round in 0..3 {
            let mut crowd = tokio::task::JoinSet::new();
            for change in changes.clone() {
                let (admin, path) = (admin.clone(), path.clone());
                crowd.spawn(async move {
                    loop {
                        let answer = patch(&admin, &path, &change).await;
                        // So many at once may overtake one again and again: it is told to come back.
                        if answer.status != 503 {
                            return answer.ok();
                        }
                    }
                });
            }
            crowd.join_all().await;
            let now = admin.get(&path).await.ok();
            for change in &changes {
                for (name, value) in change.as_object().unwrap() {
                    assert_eq!(&now[name], value, "round {round}: {name}");
                }
            }
            let back = json!({"name": "east", "hostname": "vpn.example.com"});
            admin.put(&path, &back).await.ok();
        }
    }
}
