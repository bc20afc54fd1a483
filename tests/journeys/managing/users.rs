//! People: what they have, and that somebody must be left who can manage it all.

use super::{SOON, ids, put};
use crate::harness::fixtures::{PASSWORD, id};
use crate::harness::server::ADMIN_PASSWORD;
use crate::harness::wait::eventually;
use serde_json::{Value, json};

both! {
    /// Somebody must be left who can manage it all.
    async fn the_last_admin_stays(world: World) {
        let admin = world.admin().await;
        let me = id(&admin.get("/users/me").await.ok());
        let path = format!("/admin/users/{me}");
        let demote = json!({"username": "admin", "email": "admin@example.com", "role": "auditor"});
        let disable = format!("{path}/disable");
        for _ in 0..2 {
            admin.put(&path, &demote).await.refused(409, "last_admin");
            admin.post(&disable, &Value::Null).await.refused(409, "last_admin");
            admin.delete(&path).await.refused(409, "last_admin");
            // One who is disabled does not count.
            let vera = json!({"username": "vera", "email": "vera@example.com", "role": "admin"});
            let vera = admin.post("/admin/users", &vera).await.created();
            let vera = format!("/admin/users/{}", id(&vera));
            let disabled = admin.post(&format!("{vera}/disable"), &Value::Null).await.ok();
            assert_eq!(disabled["active"], false);
            admin.delete(&path).await.refused(409, "last_admin");
            admin.delete(&vera).await.ok();
        }
        let eva = admin.create_user_with("eva", json!({"role": "admin"})).await;
        assert_eq!(admin.put(&path, &demote).await.ok()["role"], "auditor");
        // Another role ends what was begun with the old one.
        admin.get("/users/me").await.refused(401, "unauthorized");
        let auditor = world.anyone().login("admin", ADMIN_PASSWORD).await;
        assert_eq!(auditor.get(&path).await.ok()["email"], "admin@example.com");
        auditor.delete(&format!("/admin/users/{}", eva.id)).await.refused(403, "forbidden");
        eva.api.delete(&format!("/admin/users/{}", eva.id)).await.refused(409, "last_admin");
    }

    /// When somebody signed in, and when they, or another, did not manage to.
    async fn a_users_logins_are_told(world: World) {
        let admin = world.admin().await;
        let ada = admin.create_user("ada").await;
        let bob = admin.create_user("bob").await;
        let wrong = world.anyone().try_login("ada@example.com", "wrong password").await;
        wrong.refused(401, "invalid_credentials");
        let path = format!("/admin/users/{}/logins", ada.id);
        let told = eventually("the failure is written", SOON, || async {
            let told = admin.get(&path).await.list();
            (told.len() == 2).then_some(told)
        })
        .await;
        let (failed, began) = (&told[0], &told[1]);
        for (field, value) in [
            ("result", json!("failed")),
            ("reason", json!("wrong_password")),
            ("count", json!(1)),
            ("client_ip", json!("127.0.0.1")),
            ("session_id", Value::Null),
            ("method", Value::Null),
            ("ended_at", Value::Null),
        ] {
            assert_eq!(failed[field], value, "{field}");
        }
        let session = id(&ada.api.get("/auth/sessions").await.list()[0]);
        for (field, value) in [
            ("result", json!("succeeded")),
            ("reason", Value::Null),
            ("method", json!("local")),
            ("session_id", json!(session)),
            ("ended_at", Value::Null),
        ] {
            assert_eq!(began[field], value, "{field}");
        }
        assert_eq!(ada.api.get("/auth/logins").await.list(), told);
        assert_eq!(bob.api.get("/auth/logins").await.list().len(), 1);
        ada.api.get(&path).await.refused(403, "forbidden");
        for (result, found) in [("failed", failed), ("succeeded", began)] {
            let listed = admin.get(&format!("{path}?result={result}")).await.list();
            assert_eq!(listed.first(), Some(found), "{result}");
            assert_eq!(listed.len(), 1, "{result}");
        }

        // What was ended is told as ended, even when the person is gone.
        ada.api.post("/auth/logout", &json!({})).await.ok();
        admin.delete(&format!("/admin/users/{}", ada.id)).await.ok();
        let told = admin.get(&path).await.list();
        assert_eq!(told[1]["end_reason"], "logout");
        assert!(told[1]["ended_at"].is_string(), "{told:?}");
    }

    /// A person, and what they have.
    async fn a_user_and_what_they_have(world: World) {
        let admin = world.admin().await;
        let body =
            json!({"username": "Ada", "email": "Ada@Example.com", "password": "ada@example.com"});
        let error = admin.post("/admin/users", &body).await.envelope(400);
        assert_eq!(error["details"][0]["field"], "password");

        let ada = admin
            .create_user_with("ada", json!({"name": "Ada Lovelace", "groups": ["b", "a"]}))
            .await;
        let path = format!("/admin/users/{}", ada.id);
        let read = admin.get(&path).await.ok();
        for (field, value) in [
            ("username", json!("ada")),
            ("name", json!("Ada Lovelace")),
            ("role", json!("member")),
            ("groups", json!(["a", "b"])),
            ("active", json!(true)),
            ("has_password", json!(true)),
            ("must_change_password", json!(false)),
        ] {
            assert_eq!(read[field], value, "{field}");
        }
        assert!(read["last_login_at"].is_string(), "{read}");
        let bob = json!({"username": "bob", "email": "bob@example.com"});
        assert_eq!(admin.post("/admin/users", &bob).await.created()["has_password"], false);

        // Groups are replaced, and are part of what an admin must have seen.
        let seen = admin.get(&path).await;
        let groups = format!("{path}/groups");
        let changed =
            put(&admin, &groups, seen.header("etag"), &json!({"groups": ["c", "c"]})).await;
        assert_eq!(changed.ok()["groups"], json!(["c"]));
        put(&admin, &groups, seen.header("etag"), &json!({"groups": []}))
            .await
            .refused(412, "changed_meanwhile");
        for (query, found) in
            [("role=member&group=c", 1), ("group=a", 0), ("role=admin", 1), ("active=false", 0)]
        {
            let listed = admin.get(&format!("/admin/users?{query}")).await.list();
            assert_eq!(listed.len(), found, "{query}");
        }

        // Their keys and sessions, which an admin can end.
        let key = ada.api.post("/api-keys", &json!({"name": "ci"})).await.created();
        let by_key = world.anyone().bearer(key["key"].as_str().unwrap());
        let keys = admin.get(&format!("{path}/api-keys")).await.list();
        assert_eq!(ids(&keys), [id(&key)]);
        assert!(keys[0].get("key").is_none() && keys[0].get("key_hash").is_none(), "{keys:?}");
        by_key.get("/users/me").await.ok();
        for _ in 0..2 {
            admin.delete(&format!("{path}/api-keys/{}", id(&key))).await.ok();
        }
        by_key.get("/users/me").await.refused(401, "unauthorized");
        assert!(admin.get(&format!("{path}/api-keys")).await.list().is_empty());
        let sessions = admin.get(&format!("{path}/sessions")).await.list();
        assert_eq!(sessions.len(), 1);
        let session = id(&sessions[0]);
        let own = id(&admin.get("/auth/sessions").await.list()[0]);
        admin.delete(&format!("{path}/sessions/{own}")).await.refused(404, "not_found");
        admin.delete(&format!("{path}/sessions/{session}")).await.ok();
        ada.api.get("/users/me").await.refused(401, "unauthorized");

        // Another password, which is good for nothing but choosing one's own.
        let reset = json!({"password": "a password from the admin"});
        assert_eq!(
            admin.put(&format!("{path}/password"), &reset).await.ok()["must_change_password"],
            true
        );
        world.anyone().try_login("ada", PASSWORD).await.refused(401, "invalid_credentials");
        let newcomer = world.anyone().login("ada", "a password from the admin").await;
        newcomer.get("/gateways").await.refused(403, "password_change_required");
        let weak = json!({"password": "short"});
        let error = admin.put(&format!("{path}/password"), &weak).await.envelope(400);
        assert_eq!(error["details"][0]["field"], "password");

        // What they were given and did.
        let gateway = admin.create_gateway("us-east-1").await;
        admin.grant(&gateway, &ada).await;
        let own =
            json!({"current_password": "a password from the admin", "new_password": PASSWORD});
        newcomer.post("/auth/local/change-password", &own).await.ok();
        let ada_again = world.anyone().login("ada", PASSWORD).await;
        let config = ada_again.generate_config(&gateway).await;
        let configs = admin.get(&format!("{path}/configs?status=active")).await.list();
        assert_eq!(ids(&configs), [&*config.id]);
        let came = json!({"common_name": ada.email, "serial_number": config.serial,
            "client_ip": "198.51.100.2", "vpn_ipv4": "172.31.255.2"});
        let connected = gateway.agent.post("/gateway/connect", &came).await.flat(200);
        let connection = connected["session_id"].as_str().unwrap();
        let connections = admin.get(&format!("{path}/connections?status=active")).await.list();
        assert_eq!(ids(&connections), [connection]);
        for query in [
            "",
            &*format!("?user={}", ada.id),
            &*format!("?gateway={}", gateway.id),
            &*format!("?config={}", config.id),
            "?q=ADA",
            "?status=active",
        ] {
            let listed = admin.get(&format!("/admin/connections{query}")).await.list();
            assert_eq!(listed, connections, "{query}");
        }
        for query in ["?user=usr-none", "?gateway=gw-none", "?config=cfg-none", "?status=ended"] {
            let listed = admin.get(&format!("/admin/connections{query}")).await.list();
            assert!(listed.is_empty(), "{query}");
        }
        let one = admin.get(&format!("/admin/connections/{connection}")).await.ok();
        assert_eq!(one, connections[0]);
        assert_eq!(one["gateway"], json!({"id": gateway.id, "name": "us-east-1"}));

        // Disabled they can do nothing; enabled they must come anew.
        assert_eq!(
            admin.post(&format!("{path}/disable"), &Value::Null).await.ok()["active"],
            false
        );
        ada_again.get("/users/me").await.refused(401, "unauthorized");
        world.anyone().try_login("ada", PASSWORD).await.refused(401, "invalid_credentials");
        assert_eq!(admin.post(&format!("{path}/enable"), &Value::Null).await.ok()["active"], true);
        world.anyone().login("ada", PASSWORD).await;

        // Deleted, but not out of the history.
        admin.delete(&path).await.ok();
        admin.get(&format!("{path}/sessions")).await.refused(404, "not_found");
        assert_eq!(ids(&admin.get(&format!("{path}/configs")).await.list()), [&*config.id]);
        assert_eq!(ids(&admin.get(&format!("{path}/connections")).await.list()), [connection]);
    }
}
