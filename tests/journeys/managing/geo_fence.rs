//! The geo-fence as admins manage it: its settings, its rules, what they are attached to, the dry run.

use super::{ids, put};
use crate::harness::Api;
use crate::harness::fixtures::id;
use reqwest::Method;
use serde_json::{Value, json};

const SETTINGS: &str = "/admin/geo-fence/settings";

both! {
    async fn the_fence_is_off_until_somebody_who_has_seen_it_switches_it_on(world: World) {
        let admin = world.admin().await;
        let off = admin.get(SETTINGS).await;
        assert_eq!(off.flat(200), json!({
            "data": {"enabled": false, "mode": "enforce"}, "meta": {"warnings": []},
        }));
        let audit = json!({"enabled": true, "mode": "audit"});
        let on = put(&admin, SETTINGS, off.header("etag"), &audit).await;
        assert_eq!(on.ok(), audit);
        assert_ne!(on.header("etag"), off.header("etag"));
        let read = admin.get(SETTINGS).await;
        assert_eq!((read.flat(200), read.header("etag")), (on.flat(200), on.header("etag")));
        put(&admin, SETTINGS, off.header("etag"), &audit).await.refused(412, "changed_meanwhile");
        let again = put(&admin, SETTINGS, on.header("etag"), &audit).await;
        assert_eq!((again.ok(), again.header("etag")), (audit, on.header("etag")));

        // A patch changes what it names.
        let patch = json!({"enabled": false});
        let patched = admin.send(Method::PATCH, SETTINGS, |it| it.json(&patch)).await;
        assert_eq!(patched.ok(), json!({"enabled": false, "mode": "audit"}));
        let patch = json!({"mode": null});
        let error = admin.send(Method::PATCH, SETTINGS, |it| it.json(&patch)).await.envelope(400);
        assert_eq!(error["details"][0]["field"], "mode");

        for (body, field) in [
            (json!({"enabled": true}), "mode"),
            (json!({"mode": "audit"}), "enabled"),
            (json!({"enabled": true, "mode": "block"}), "mode"),
            (json!({"enabled": "yes", "mode": "audit"}), "enabled"),
            (json!({"enabled": true, "mode": "audit", "countries": []}), "countries"),
        ] {
            let error = admin.put(SETTINGS, &body).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field, "{body}");
        }
        let history = admin.get("/admin/audit?event=geo_fence.changed").await.list();
        assert_eq!(history.len(), 2);
        assert_eq!(history[1]["payload"], json!({"values": {"enabled": true, "mode": "audit"}}));
    }

    /// Whoever switches it on is told whom that shuts out.
    async fn a_fence_that_shuts_people_out_warns(world: World) {
        let admin = world.admin().await;
        let rule = admin.create_fence_rule("office", "198.51.100.0/24").await;
        for mode in ["enforce", "audit"] {
            let on = admin.put(SETTINGS, &json!({"enabled": true, "mode": mode})).await;
            assert_eq!(warnings(&on.flat(200)), ["no_rules"], "{mode}");
            assert_eq!(warnings(&admin.get(SETTINGS).await.flat(200)), ["no_rules"]);
            admin.fence("groups/staff", &rule).await;
            assert_eq!(warnings(&admin.get(SETTINGS).await.flat(200)), ["no_global_rule"]);
            admin.fence("global", &rule).await;
            assert_eq!(warnings(&admin.get(SETTINGS).await.flat(200)), Vec::<String>::new());
            admin.unfence("global", &rule).await;
            admin.unfence("groups/staff", &rule).await;
        }
        let off = admin.put(SETTINGS, &json!({"enabled": false, "mode": "audit"})).await;
        assert_eq!(warnings(&off.flat(200)), Vec::<String>::new());
    }

    /// Attached twice is attached once; detached twice is detached.
    async fn rules_are_attached_and_detached(world: World) {
        let admin = world.admin().await;
        let ada = admin.create_user_with("ada", json!({"groups": ["Site Ops"]})).await;
        let rule = admin.create_fence_rule("office", "198.51.100.0/24").await;
        let path = format!("/admin/geo-fence/rules/{rule}");
        let seen = admin.get(&path).await.header("etag").to_owned();
        let body = json!({"rule_id": rule});
        for (list, field) in [
            ("/admin/geo-fence/global".to_owned(), "global"),
            ("/admin/geo-fence/groups/Site%20Ops".to_owned(), "groups"),
            (format!("/admin/geo-fence/users/{}", ada.id), "users"),
        ] {
            assert!(admin.get(&list).await.list().is_empty(), "{list}");
            admin.delete(&format!("{list}/{rule}")).await.refused(404, "not_found");
            let given = admin.post(&list, &body).await;
            assert_eq!(given.created(), json!({"id": rule}), "{list}");
            let reference = format!("{list}/{rule}");
            assert_eq!(given.header("location"), format!("/api/v1{reference}"));
            assert_eq!(admin.post(&list, &body).await.ok(), json!({"id": rule}));
            let listed = admin.get(&list).await.list();
            assert_eq!(ids(&listed), [&*rule], "{list}");
            assert_eq!((&listed[0]["name"], &listed[0]["cidr"]), (
                &json!("office"), &json!("198.51.100.0/24"),
            ));
            assert!(listed[0]["attached_at"].is_string());
            let attached = admin.get(&path).await.ok()[field].take();
            assert!(attached == json!(1) || attached == json!(true), "{field}: {attached}");
            assert_eq!(ids(&admin.get(&format!("{list}?q=OFF")).await.list()), [&*rule]);
            assert!(admin.get(&format!("{list}?q=hotel")).await.list().is_empty());

            // A rule that is not there can't be attached, one that never was not be detached.
            let nothing = json!({"rule_id": "fence-none"});
            let error = admin.post(&list, &nothing).await.envelope(400);
            assert_eq!(error["details"][0]["field"], "rule_id");
            admin.delete(&format!("{list}/fence-none")).await.refused(404, "not_found");
        }
        let users = admin.get(&format!("{path}/users")).await.list();
        assert_eq!(ids(&users), [&*ada.id]);
        let groups = admin.get(&format!("{path}/groups")).await.list();
        assert_eq!((&groups[0]["name"], &groups[0]["members"]), (&json!("Site Ops"), &json!(1)));
        let known = admin.get("/admin/groups?q=site").await.list();
        assert_eq!(known[0]["geo_fence_rules"], 1);
        // An attachment is no change to anybody's edit form.
        assert_eq!(admin.get(&path).await.header("etag"), seen);
        let nobody = "/admin/geo-fence/users/usr-none";
        admin.get(nobody).await.refused(404, "not_found");
        admin.post(nobody, &body).await.refused(404, "not_found");
        admin.delete(&format!("{nobody}/{rule}")).await.refused(404, "not_found");

        for list in [
            "/admin/geo-fence/global".to_owned(),
            "/admin/geo-fence/groups/Site%20Ops".to_owned(),
            format!("/admin/geo-fence/users/{}", ada.id),
        ] {
            let reference = format!("{list}/{rule}");
            for _ in 0..2 {
                assert_eq!(admin.delete(&reference).await.ok(), json!({"id": rule}));
            }
            assert!(admin.get(&list).await.list().is_empty(), "{list}");
            admin.post(&list, &body).await.created();
        }
        // What is deleted is detached from everything, and may still be detached.
        admin.delete(&path).await.ok();
        for list in ["/admin/geo-fence/global", "/admin/geo-fence/groups/Site%20Ops"] {
            assert!(admin.get(list).await.list().is_empty());
            assert_eq!(admin.delete(&format!("{list}/{rule}")).await.ok(), json!({"id": rule}));
            admin.post(list, &body).await.envelope(400);
        }
        // Whoever is deleted takes what was attached to them along.
        let other = admin.create_fence_rule("hotel", "203.0.113.0/24").await;
        admin.fence(&format!("users/{}", ada.id), &other).await;
        admin.delete(&format!("/admin/users/{}", ada.id)).await.ok();
        let path = format!("/admin/geo-fence/rules/{other}");
        assert_eq!(admin.get(&path).await.ok()["users"], 0);
        assert!(admin.get(&format!("{path}/users")).await.list().is_empty());
        admin.get(&format!("/admin/geo-fence/users/{}", ada.id)).await.refused(404, "not_found");
    }

    /// The dry run tells what the fence would say, and writes nothing.
    async fn the_dry_run_says_whose_rules_decide(world: World) {
        let admin = world.admin().await;
        let ada = admin.create_user_with("ada", json!({"groups": ["staff", "travellers"]})).await;
        admin.set_fence(true, "enforce").await;
        let before = events(&admin).await;
        assert_eq!(checked(&admin, "198.51.100.2", "ada").await, (
            false, "none".into(), Value::Null, "outside_geo_fence".into(),
        ));
        assert_eq!(events(&admin).await, before, "a dry run is no event");

        let world_wide = admin.create_fence_rule("everywhere", "0.0.0.0/0").await;
        let office = admin.create_fence_rule("office", "198.51.100.0/24").await;
        let hotel = admin.create_fence_rule("hotel", "2001:db8:1::/48").await;
        let home = admin.create_fence_rule("home", "192.0.2.7/32").await;
        let inside = |level: &str, rule: &str| {
            (true, Value::from(level), Value::from(rule), Value::from("inside_geo_fence"))
        };
        let outside = |level: &str| {
            (false, Value::from(level), Value::Null, Value::from("outside_geo_fence"))
        };
        admin.fence("global", &world_wide).await;
        // By name, e-mail or id; mapped IPv4 is IPv4.
        for user in ["ada", "ADA", "ada@example.com", &*ada.id] {
            for ip in ["203.0.113.9", "::ffff:203.0.113.9"] {
                assert_eq!(checked(&admin, ip, user).await, inside("global", &world_wide));
            }
        }
        assert_eq!(checked(&admin, "2001:db8::1", "ada").await, outside("global"));
        admin.fence("groups/staff", &office).await;
        assert_eq!(checked(&admin, "203.0.113.9", "ada").await, outside("group"));
        assert_eq!(checked(&admin, "203.0.113.9", "admin").await, inside("global", &world_wide));
        assert_eq!(checked(&admin, "198.51.100.2", "ada").await, inside("group", &office));
        admin.fence("groups/travellers", &hotel).await;
        assert_eq!(checked(&admin, "198.51.100.2", "ada").await, inside("group", &office));
        assert_eq!(checked(&admin, "2001:db8:1::9", "ada").await, inside("group", &hotel));
        admin.fence(&format!("users/{}", ada.id), &home).await;
        assert_eq!(checked(&admin, "198.51.100.2", "ada").await, outside("user"));
        assert_eq!(checked(&admin, "192.0.2.7", "ada").await, inside("user", &home));

        // In audit the rules say the same, and off they say how it would be.
        admin.set_fence(true, "audit").await;
        let body = json!({"ip": "198.51.100.2", "user": "ada"});
        let answer = admin.post("/admin/geo-fence/check", &body).await.ok();
        assert_eq!((&answer["allowed"], &answer["mode"]), (&json!(false), &json!("audit")));
        admin.set_fence(false, "enforce").await;
        let answer = admin.post("/admin/geo-fence/check", &body).await.ok();
        assert_eq!(answer["allowed"], true);
        assert_eq!((&answer["enabled"], &answer["reason"]), (
            &json!(false), &json!("geo_fence_disabled"),
        ));
        assert_eq!((&answer["level"], &answer["rule"]), (&json!("user"), &Value::Null));

        let unknown = json!({"ip": "198.51.100.2", "user": "eve"});
        let error =
            admin.post("/admin/geo-fence/check", &unknown).await.refused(404, "not_found");
        assert_eq!(error["details"][0]["field"], "user");
        assert!(error["message"].as_str().unwrap().contains("`eve`"), "{error}");
        for (body, field) in [
            (json!({"ip": "198.51.100", "user": "ada"}), "ip"),
            (json!({"user": "ada"}), "ip"),
            (json!({"ip": "198.51.100.2"}), "user"),
        ] {
            let error = admin.post("/admin/geo-fence/check", &body).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field);
        }
    }

    async fn rules_list_networks_of_either_kind(world: World) {
        let admin = world.admin().await;
        for cidr in ["198.51.100.7/32", "0.0.0.0/0", "::/0", "2001:db8::1/128"] {
            let body = json!({"name": format!("of {}", cidr.replace('/', " ")), "cidr": cidr});
            let made = admin.post("/admin/geo-fence/rules", &body).await.created();
            assert_eq!(made["cidr"], cidr);
            assert_eq!((&made["global"], &made["groups"], &made["users"]), (
                &json!(false), &json!(0), &json!(0),
            ));
        }
        for cidr in ["", "198.51.100.7", "198.51.100.7/24", "::ffff:198.51.100.0/120", "DE"] {
            let body = json!({"name": "x", "cidr": cidr});
            let error = admin.post("/admin/geo-fence/rules", &body).await.envelope(400);
            assert_eq!(error["details"][0]["field"], "cidr", "{cidr}");
        }
        let by_cidr = admin.get("/admin/geo-fence/rules?sort=-cidr&per_page=1").await.list();
        assert_eq!(by_cidr.len(), 1);
        let country = json!({"name": "x", "cidr": "198.51.100.0/24", "country": "DE"});
        let error = admin.post("/admin/geo-fence/rules", &country).await.envelope(400);
        assert_eq!(error["details"][0]["field"], "country");
    }
}

fn warnings(answer: &Value) -> Vec<String> {
    let warnings = answer["meta"]["warnings"].as_array().expect("warnings");
    for warning in warnings {
        assert!(warning["message"].as_str().is_some_and(|it| it.contains(' ')), "{warning}");
    }
    warnings.iter().map(|it| it["code"].as_str().expect("a code").to_owned()).collect()
}

/// The dry run's verdict: allowed, level, the rule's id, reason.
async fn checked(admin: &Api, ip: &str, user: &str) -> (bool, Value, Value, Value) {
    let body = json!({"ip": ip, "user": user});
    let mut answer = admin.post("/admin/geo-fence/check", &body).await.ok();
    let rule = answer.get("rule").map_or(Value::Null, |it| Value::from(id(it)));
    let allowed = answer["allowed"].as_bool().expect("allowed");
    (allowed, answer["level"].take(), rule, answer["reason"].take())
}

/// How many events there are.
async fn events(admin: &Api) -> u64 {
    let page = admin.get("/admin/audit?per_page=1").await.flat(200);
    page["meta"]["total"].as_u64().expect("a total")
}
