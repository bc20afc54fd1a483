//! The history.

use super::SOON;
use crate::harness::fixtures::id;
use crate::harness::wait::eventually;
use gatekey_projections::{Location, Purpose};
use reqwest::Method;
use serde_json::json;

both! {
    /// The history: whole, in order, opened, and without anything that must not be in it.
    async fn the_audit_tells_what_happened(world: World) {
        let admin = world.admin().await;
        let me = id(&admin.get("/users/me").await.ok());
        let ada = admin.create_user_with("ada", json!({"name": "Ada Lovelace"})).await;
        let with_id = admin.send(Method::POST, "/admin/networks", |request| {
            request
                .header("x-request-id", "build-7")
                .header("user-agent", "terraform/1.9")
                .json(&json!({"name": "office", "cidr": "10.77.0.0/24"}))
        });
        let network = id(&with_id.await.created());
        ada.api.get("/admin/users").await.refused(403, "forbidden");

        let path = format!("/admin/audit?aggregate_type=network&aggregate_id={network}");
        let found = admin.get(&path).await.list();
        assert_eq!(found.len(), 1);
        let created = &found[0];
        let email = admin.get("/users/me").await.ok()["email"].clone();
        assert_eq!(created["event"], "network.created");
        assert_eq!(created["sequence"], 1);
        assert_eq!(created["actor"], json!({"kind": "user", "id": me, "label": email}));
        assert_eq!(created["credential"]["kind"], "session");
        assert_eq!(created["source_ip"], "127.0.0.1");
        assert_eq!(created["user_agent"], "terraform/1.9");
        assert_eq!(created["request_id"], "build-7");
        let definition = json!({"name": "office", "cidr": "10.77.0.0/24", "description": ""});
        assert_eq!(created["payload"], json!({"definition": definition}));

        let of_ada = admin.get("/admin/audit?event=user.created").await.list();
        let payload = &of_ada[0]["payload"];
        let profile =
            json!({"username": "ada", "email": "ada@example.com", "name": "Ada Lovelace"});
        assert_eq!((&payload["profile"], &payload["password"]), (&profile, &json!("changed")));
        let refusal = eventually("the refusal is written", SOON, || async {
            let path = format!("/admin/audit?actor={}&aggregate_type=attempt", ada.id);
            admin.get(&path).await.list().into_iter().next()
        })
        .await;
        assert_eq!(refusal["event"], "attempt.request_forbidden");
        assert_eq!(refusal["payload"]["target"], "GET /api/v1/admin/users");
        assert_eq!(refusal["payload"]["client_ip"], "127.0.0.1");

        // By cursor every event is seen once, the newest first; pages show the same.
        let total =
            admin.get("/admin/audit?per_page=1").await.flat(200)["meta"]["total"].as_i64().unwrap();
        let (mut seen, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = admin.get(&format!("/admin/audit?per_page=3{cursor}")).await.flat(200);
            seen.extend(
                page["data"].as_array().unwrap().iter().map(|it| it["position"].as_i64().unwrap()),
            );
            match page["meta"]["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        let newest = seen[0];
        assert!(newest >= total, "{seen:?}");
        assert_eq!(seen, (1..=newest).rev().collect::<Vec<_>>());
        let second = admin.get("/admin/audit?per_page=3&page=2").await.list();
        assert_eq!(second.len(), 3);
        for (query, field) in
            [("cursor=x", "cursor"), ("since=noon", "since"), ("sort=position", "sort")]
        {
            let error = admin.get(&format!("/admin/audit?{query}")).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field);
        }
        let all = admin.get("/admin/audit?per_page=100").await;
        for secret in ["sec-", "\"sealed\"", "\"of\""] {
            assert!(!all.text().contains(secret), "{secret} in {}", all.text());
        }
        let at = created["recorded_at"].as_str().unwrap();
        assert!(
            admin.get(&format!("/admin/audit?since={at}&event=network.created")).await.list().len()
                == 1
        );
        assert!(
            admin
                .get(&format!("/admin/audit?until={at}&event=network.created"))
                .await
                .list()
                .is_empty()
        );
    }

    /// Records that somebody edited, or that a newer server wrote, are shown as such.
    async fn a_record_that_cannot_be_read_spoils_no_other(world: World) {
        let admin = world.admin().await;
        for (name, cidr) in [("a", "10.1.0.0/16"), ("b", "10.2.0.0/16"), ("c", "10.3.0.0/16")] {
            admin.post("/admin/networks", &json!({"name": name, "cidr": cidr})).await.created();
        }
        let whole = admin.get("/admin/audit?event=network.created").await.list();
        let location = Location::parse(&world.database_url()).unwrap();
        let db = location.open(Purpose::Queries).await.unwrap();
        let damages = [
            r#"payload = '{"created": {"definition": {"name": "s3cret"}}}'"#,
            r#"metadata = '{"actor_id": 5, "reason": "s3cret"}'"#,
            "event_version = '2'",
        ];
        for (event, damage) in whole.iter().zip(damages) {
            let sql = format!("UPDATE events SET {damage} WHERE position = {}", event["position"]);
            assert_eq!(db.execute(&sql, &[]).await.unwrap(), 1);
        }

        let page = admin.get("/admin/audit?per_page=100").await;
        assert!(!page.text().contains("s3cret"), "{}", page.text());
        let page = page.list();
        let newest = page[0]["position"].as_i64().unwrap();
        let positions: Vec<i64> =
            page.iter().map(|it| it["position"].as_i64().unwrap()).collect();
        assert_eq!(positions, (1..=newest).rev().collect::<Vec<_>>());
        for before in &whole {
            let now = page.iter().find(|it| it["position"] == before["position"]).unwrap();
            for field in ["recorded_at", "event", "aggregate_type", "aggregate_id", "sequence"] {
                assert_eq!(now[field], before[field], "{field}");
            }
            assert_eq!(now["payload"], json!(null));
            assert_eq!((&before["undecodable"], &now["undecodable"]), (&json!(false), &json!(true)));
        }
        // Who did it is told where that can still be read.
        let found = |event: &serde_json::Value| {
            let path = format!("/admin/audit?aggregate_id={}", event["aggregate_id"].as_str().unwrap());
            let admin = admin.clone();
            async move { admin.get(&path).await.list().remove(0) }
        };
        assert_eq!(found(&whole[0]).await["actor"], whole[0]["actor"]);
        let nobody = json!({"kind": "unknown", "id": null, "label": null});
        assert_eq!(found(&whole[1]).await["actor"], nobody);
        assert_eq!(found(&whole[2]).await["actor"], whole[2]["actor"]);

        // What a newer server wrote is not decided on.
        let newer = format!("/admin/networks/{}", whole[2]["aggregate_id"].as_str().unwrap());
        // Nothing would change: that is said only after reading.
        let same = json!({"name": "a", "cidr": "10.1.0.0/16", "description": ""});
        let answer = admin.put(&newer, &same).await;
        assert!(answer.envelope(503)["message"].as_str().unwrap().contains("older"));
    }
}
