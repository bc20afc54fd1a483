//! What is true of every kind of thing that admins manage; lists; and the settings.

use super::{delete, ids, put, without};
use crate::harness::Api;
use crate::harness::fixtures::{PASSWORD, User, id};
use serde_json::{Value, json};

both! {
    /// What is true of gateways, mesh hubs, networks, access rules and users alike.
    async fn a_thing_is_made_read_listed_changed_and_removed(world: World) {
        let admin = world.admin().await;
        for thing in things() {
            let made = admin.post(thing.path, &thing.body).await;
            let data = made.created();
            let path = made.header("location").to_owned();
            assert_eq!(path, format!("/api/v1{}/{}", thing.path, id(&data)));
            let read = admin.get(&path).await;
            assert_eq!(without(&data, "token"), read.ok(), "{path}");
            assert_eq!(made.header("etag"), read.header("etag"));
            for (field, value) in thing.body.as_object().unwrap() {
                if field != "password" {
                    assert_eq!(&data[field], value, "{path}: {field}");
                }
            }

            // Found by its name, and by no other.
            let name = thing.body[thing.named].as_str().unwrap();
            let found =
                admin.get(&format!("{}?q={}", thing.path, name.to_uppercase())).await.list();
            assert_eq!(ids(&found), [id(&data)], "{path}");
            assert_eq!(found[0], read.ok());
            assert!(admin.get(&format!("{}?q=no-such-name", thing.path)).await.list().is_empty());

            // Its name belongs to it: the other's id is named.
            let taken = admin.post(thing.path, &thing.body).await.refused(409, "already_taken");
            assert_eq!(taken["details"][0]["field"], thing.named);
            assert!(taken["message"].as_str().unwrap().contains(&id(&data)), "{taken}");

            // Changed by those who have seen it. The same again is no change.
            let changed = put(&admin, &path, read.header("etag"), &thing.change).await;
            for (field, value) in thing.change.as_object().unwrap() {
                assert_eq!(&changed.ok()[field], value, "{path}: {field}");
            }
            assert_ne!(changed.header("etag"), read.header("etag"));
            let again = admin.put(&path, &thing.change).await;
            assert_eq!((again.ok(), again.header("etag")), (changed.ok(), changed.header("etag")));
            let stale = put(&admin, &path, read.header("etag"), &thing.change).await;
            stale.refused(412, "changed_meanwhile");
            delete(&admin, &path, read.header("etag")).await.refused(412, "changed_meanwhile");
            assert_eq!(admin.get(&path).await.ok(), changed.ok());

            // What a PUT must have, it must have.
            for field in thing.required {
                let less = without(&thing.change, field);
                let error = admin.put(&path, &less).await.envelope(400);
                assert_eq!(error["details"][0]["field"], *field, "{path}");
            }

            // Gone, once and for all; the name is free.
            let gone = delete(&admin, &path, changed.header("etag")).await.ok();
            assert_eq!(gone, json!({"id": id(&data)}));
            assert_eq!(admin.delete(&path).await.ok(), gone);
            assert_eq!(delete(&admin, &path, read.header("etag")).await.ok(), gone);
            admin.get(&path).await.refused(404, "not_found");
            admin.put(&path, &thing.change).await.refused(404, "not_found");
            assert!(admin.get(&format!("{}?q={name}", thing.path)).await.list().is_empty());
            let second = admin.post(thing.path, &thing.body).await.created();
            assert_ne!(id(&second), id(&data));
            // Whoever bears the name now, what the first did stays told.
            let history = admin.get(&format!("/admin/audit?aggregate_id={}", id(&data))).await.list();
            let event = |it: &Value| it["event"].as_str().unwrap().to_owned();
            assert!(event(&history[0]).ends_with(".deleted"), "{history:?}");
            assert!(history.len() >= 3, "{history:?}");
            let first = history.last().unwrap()["payload"].to_string();
            assert!(first.contains(name), "{first}");
        }
    }

    /// Lists go by what was asked, a page at a time, each with the total.
    async fn lists_are_paged_and_sorted(world: World) {
        let admin = world.admin().await;
        for name in ["Delta", "alpha", "charlie", "Bravo"] {
            admin.create_gateway(name).await;
        }
        let names = |page: &Value| -> Vec<String> {
            let items = page["data"].as_array().unwrap();
            items.iter().map(|it| it["name"].as_str().unwrap().to_owned()).collect()
        };
        let page = admin.get("/admin/gateways?per_page=3").await.flat(200);
        assert_eq!(names(&page), ["alpha", "Bravo", "charlie"]);
        assert_eq!(page["meta"], json!({"total": 4, "page": 1, "per_page": 3}));
        let page = admin.get("/admin/gateways?per_page=3&page=2").await.flat(200);
        assert_eq!((names(&page), &page["meta"]["total"]), (vec!["Delta".to_owned()], &json!(4)));
        let page = admin.get("/admin/gateways?sort=-name").await.flat(200);
        assert_eq!(names(&page), ["Delta", "charlie", "Bravo", "alpha"]);
        let page = admin.get("/admin/gateways?sort=created_at").await.flat(200);
        assert_eq!(names(&page), ["Delta", "alpha", "charlie", "Bravo"]);
        for (query, field) in [("sort=token_hash", "sort"), ("user=ada", "user"), ("x=1", "x")] {
            let error = admin.get(&format!("/admin/gateways?{query}")).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field);
        }
    }

    async fn settings_are_changed_by_those_who_have_seen_them(world: World) {
        let admin = world.admin().await;
        let seen = admin.get("/admin/settings").await;
        let defaults = json!({
            "config_lifetime_hours": 24, "login_lifetime_hours": 12, "login_idle_minutes": 60,
            "gateway_offline_seconds": 90, "gateway_lost_grace_seconds": 60,
            "api_key_idle_days": 30,
        });
        assert_eq!(seen.ok(), defaults);
        let shorter = json!({"config_lifetime_hours": 8});
        let changed = put(&admin, "/admin/settings", seen.header("etag"), &shorter).await;
        assert_eq!(changed.ok()["config_lifetime_hours"], 8);
        assert_eq!(changed.ok()["login_lifetime_hours"], 12);
        put(&admin, "/admin/settings", seen.header("etag"), &defaults)
            .await
            .refused(412, "changed_meanwhile");
        for (field, value) in [
            ("config_lifetime_hours", 0),
            ("login_idle_minutes", 4),
            ("gateway_offline_seconds", 3601),
        ] {
            let error = admin.put("/admin/settings", &json!({field: value})).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field);
        }
        assert_eq!(admin.get("/admin/settings").await.header("etag"), changed.header("etag"));
        let again = put(&admin, "/admin/settings", changed.header("etag"), &defaults).await;
        assert_eq!(again.ok(), defaults);
    }

    /// A list takes as many statements for forty things as for one.
    async fn no_list_asks_for_each_of_its_things(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("gateway").await;
        let network = admin.create_network("network", "10.0.0.0/24").await;
        admin.attach(&gateway, &network).await;
        let me = User {
            id: id(&admin.get("/users/me").await.ok()),
            email: "admin@example.com".to_owned(),
            api: admin.clone(),
        };
        let hub = admin.create_hub("hub").await;
        admin.grant_hub(&hub, &me).await;
        admin.create_spoke(&hub, "spoke", &["10.1.0.0/24"]).await;
        let rule =
            admin.create_rule("rule", "ip", "10.0.0.1", json!({"network_id": network})).await;
        let fence = id(&admin
            .post("/admin/geo-fence/rules", &json!({"name": "rule", "cidr": "10.0.0.0/24"}))
            .await
            .created());
        for n in 1..40 {
            let user = json!({"username": format!("user-{n}"),
                "email": format!("user-{n}@example.com"),
                "groups": [format!("group-{n}"), "everybody"]});
            let user = id(&admin.post("/admin/users", &user).await.created());
            let other = admin.create_gateway(&format!("gateway-{n}")).await;
            let network =
                admin.create_network(&format!("network-{n}"), &format!("10.0.{n}.0/24")).await;
            let ranges = json!({"name": format!("rule-{n}"), "cidr": format!("10.0.{n}.0/24")});
            let range = admin.post("/admin/geo-fence/rules", &ranges).await.created();
            let (of_user, of_group) = (
                format!("/admin/geo-fence/users/{user}"),
                format!("/admin/geo-fence/groups/group-{n}"),
            );
            for (list, rule) in [
                ("/admin/geo-fence/global", id(&range)),
                ("/admin/geo-fence/groups/everybody", id(&range)),
                (&*of_user, fence.clone()),
                (&*of_group, fence.clone()),
            ] {
                admin.post(list, &json!({"rule_id": rule})).await.created();
            }
            admin.attach(&gateway, &network).await;
            admin.attach(&other, &network).await;
            admin.grant_hub(&admin.create_hub(&format!("hub-{n}")).await, &me).await;
            admin.create_spoke(&hub, &format!("spoke-{n}"), &[&format!("10.1.{n}.0/24")]).await;
            admin
                .create_rule(
                    &format!("rule-{n}"),
                    "ip",
                    &format!("10.0.{n}.1"),
                    json!({"network_id": network}),
                )
                .await;
            for list in
                [format!("/admin/gateways/{}", gateway.id), format!("/admin/access-rules/{rule}")]
            {
                admin.post(&format!("{list}/users"), &json!({"user_id": user})).await.created();
                admin
                    .post(&format!("{list}/groups"), &json!({"group": format!("group-{n}")}))
                    .await
                    .created();
            }
        }
        for list in [
            "/admin/users".to_owned(),
            "/admin/gateways".to_owned(),
            "/admin/networks".to_owned(),
            "/admin/mesh/hubs".to_owned(),
            "/mesh/hubs".to_owned(),
            format!("/admin/mesh/hubs/{hub}/spokes"),
            "/admin/access-rules".to_owned(),
            "/admin/groups".to_owned(),
            "/admin/groups/everybody/members".to_owned(),
            "/admin/audit".to_owned(),
            format!("/admin/gateways/{}/users", gateway.id),
            format!("/admin/gateways/{}/groups", gateway.id),
            format!("/admin/gateways/{}/networks", gateway.id),
            format!("/admin/access-rules/{rule}/users"),
            format!("/admin/access-rules/{rule}/groups"),
            "/admin/geo-fence/rules".to_owned(),
            "/admin/geo-fence/global".to_owned(),
            "/admin/geo-fence/groups/everybody".to_owned(),
            format!("/admin/geo-fence/rules/{fence}/users"),
            format!("/admin/geo-fence/rules/{fence}/groups"),
        ] {
            let cost = |per_page: u32| {
                let (admin, list) = (admin.clone(), list.clone());
                async move {
                    let before = statements(&admin).await;
                    let listed = admin.get(&format!("{list}?per_page={per_page}")).await.list();
                    (listed.len(), statements(&admin).await - before)
                }
            };
            let ((few, for_few), (many, for_many)) = (cost(1).await, cost(100).await);
            assert!(few == 1 && many >= 39, "{list}: {few}, {many}");
            // What runs in the background counts too.
            assert!(
                for_many < for_few + 20,
                "{list}: {for_few} statements for 1, {for_many} for {many}"
            );
        }
    }
}

/// One of each kind.
struct Thing {
    path: &'static str,
    /// The field that must be unique.
    named: &'static str,
    body: Value,
    change: Value,
    required: &'static [&'static str],
}

fn things() -> [Thing; 6] {
    [
        Thing {
            path: "/admin/gateways",
            named: "name",
            body: json!({
                "name": "us-east-1", "description": "US East Coast Gateway",
                "hostname": "vpn-us-east.example.com", "public_ip": "203.0.113.10", "port": 443,
                "protocol": "tcp", "vpn_subnet": "10.8.0.0/22", "crypto_profile": "fips",
                "tls_auth": false, "full_tunnel": true, "push_dns": true,
                "dns_servers": ["10.0.0.53", "fd00::53"], "active": false,
            }),
            change: json!({"name": "us-east-2", "hostname": "192.0.2.1", "description": ""}),
            required: &["name", "hostname"],
        },
        Thing {
            path: "/admin/mesh/hubs",
            named: "name",
            body: json!({
                "name": "europe", "description": "In Frankfurt", "public_endpoint": "192.0.2.7",
                "port": 443, "protocol": "tcp", "vpn_subnet": "10.9.0.0/22",
                "crypto_profile": "compatible", "tls_auth": false,
                "local_networks": ["10.1.0.0/16", "fd00:1::/32"],
            }),
            change: json!({"name": "eu", "public_endpoint": "hub.example.com", "description": ""}),
            required: &["name", "public_endpoint"],
        },
        Thing {
            path: "/admin/networks",
            named: "name",
            body: json!({"name": "office", "cidr": "10.77.0.0/24", "description": "The office"}),
            change: json!({"name": "offices", "cidr": "fd00:77::/64", "description": ""}),
            required: &["name", "cidr"],
        },
        Thing {
            path: "/admin/access-rules",
            named: "name",
            body: json!({
                "name": "wiki", "description": "The wiki", "type": "ip", "value": "10.77.0.10",
                "port_range": "8000-8100", "protocol": "tcp", "active": false,
            }),
            change: json!({"name": "wikis", "type": "cidr", "value": "10.77.0.0/28"}),
            required: &["name", "type", "value"],
        },
        Thing {
            path: "/admin/geo-fence/rules",
            named: "name",
            body: json!({
                "name": "office", "cidr": "198.51.100.0/24", "description": "Where we sit",
            }),
            change: json!({"name": "offices", "cidr": "2001:db8::/32", "description": ""}),
            required: &["name", "cidr"],
        },
        Thing {
            path: "/admin/users",
            named: "username",
            body: json!({
                "username": "ada", "email": "ada@example.com", "name": "Ada Lovelace",
                "password": PASSWORD, "role": "auditor", "groups": ["engineering"],
            }),
            change: json!({"username": "ada.l", "email": "ada.l@example.com", "role": "member"}),
            required: &["username", "email", "role"],
        },
    ]
}

/// How many statements the server has run, but for the log writer's.
async fn statements(api: &Api) -> u64 {
    let metrics = api.get("/metrics").await.has_status(200).text();
    let line = metrics.lines().find(|it| it.starts_with("gatekey_database_statements_total"));
    line.and_then(|it| it.rsplit(' ').next()?.parse().ok()).expect("the count of statements")
}
