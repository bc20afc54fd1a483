//! What is given to users and groups, and where rules lead.

use super::ids;
use serde_json::json;

both! {
    /// Given twice is given once; taken twice is taken, and what is deleted has nothing left to be
    /// taken. What was never given can't be.
    async fn grants_are_idempotent(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let network = admin.create_network("office", "10.77.0.0/24").await;
        let rule = admin.create_rule("wiki", "ip", "10.77.0.10", json!({})).await;
        let hub = admin.create_hub("europe").await;
        let ada = admin.create_user_with("ada", json!({"groups": ["Site Ops"]})).await;
        let (gateway, rule) =
            (format!("/admin/gateways/{}", gateway.id), format!("/admin/access-rules/{rule}"));
        let hub = format!("/admin/mesh/hubs/{hub}");
        let things = [
            (format!("{gateway}/users"), "user_id", "id", &*ada.id, &*ada.id, "usr-none"),
            (format!("{gateway}/groups"), "group", "name", "Site Ops", "Site%20Ops", "none"),
            (format!("{gateway}/networks"), "network_id", "id", &*network, &*network, "net-none"),
            (format!("{rule}/users"), "user_id", "id", &*ada.id, &*ada.id, "usr-none"),
            (format!("{rule}/groups"), "group", "name", "Site Ops", "Site%20Ops", "none"),
            (format!("{hub}/users"), "user_id", "id", &*ada.id, &*ada.id, "usr-none"),
            (format!("{hub}/groups"), "group", "name", "Site Ops", "Site%20Ops", "none"),
            (format!("{hub}/networks"), "network_id", "id", &*network, &*network, "net-none"),
        ];
        for (list, key, field, who, segment, nothing) in things.clone() {
            assert!(admin.get(&list).await.list().is_empty(), "{list}");
            let path = format!("{list}/{segment}");
            admin.delete(&path).await.refused(404, "not_found");
            let body = json!({key: who});
            let given = admin.post(&list, &body).await;
            assert_eq!(given.created(), json!({"id": who}), "{list}");
            assert_eq!(given.header("location"), format!("/api/v1{path}"));
            assert_eq!(admin.post(&list, &body).await.ok(), json!({"id": who}), "{list}");
            let listed = admin.get(&list).await.list();
            assert_eq!((listed.len(), &listed[0][field]), (1, &json!(who)), "{list}");

            for _ in 0..2 {
                assert_eq!(admin.delete(&path).await.ok(), json!({"id": who}), "{path}");
            }
            assert!(admin.get(&list).await.list().is_empty(), "{list}");
            admin.delete(&format!("{list}/{nothing}")).await.refused(404, "not_found");
            if key != "group" {
                let error = admin.post(&list, &json!({key: nothing})).await.envelope(400);
                assert_eq!(error["details"][0]["field"], key, "{error}");
            }
            admin.post(&list, &body).await.created();
        }
        let groups = admin.get("/admin/groups").await.list();
        assert_eq!(
            groups,
            [json!({
                "name": "Site Ops", "members": 1, "gateways": 1, "access_rules": 1,
                "geo_fence_rules": 0, "mesh_hubs": 1,
            })]
        );
        let members = admin.get("/admin/groups/Site%20Ops/members").await.list();
        assert_eq!(ids(&members), [&*ada.id]);
        assert!(admin.get("/admin/groups/none/members").await.list().is_empty());

        // Who is gone has nothing, and can be given nothing.
        admin.delete(&format!("/admin/users/{}", ada.id)).await.ok();
        for list in [format!("{gateway}/users"), format!("{rule}/users"), format!("{hub}/users")] {
            assert!(admin.get(&list).await.list().is_empty(), "{list}");
            admin.post(&list, &json!({"user_id": ada.id})).await.envelope(400);
            admin.delete(&format!("{list}/{}", ada.id)).await.ok();
        }
        // What is gone can't be given, and is taken from whoever had it.
        admin.delete(&gateway).await.ok();
        admin.delete(&rule).await.ok();
        admin.delete(&hub).await.ok();
        for (list, key, _, who, segment, nothing) in things {
            admin.get(&list).await.refused(404, "not_found");
            admin.post(&list, &json!({key: who})).await.refused(404, "not_found");
            let path = format!("{list}/{segment}");
            assert_eq!(admin.delete(&path).await.ok(), json!({"id": who}), "{path}");
            admin.delete(&format!("{list}/{nothing}")).await.refused(404, "not_found");
        }
    }

    /// Rules lead into networks.
    async fn rules_and_networks(world: World) {
        let admin = world.admin().await;
        let gateway = admin.create_gateway("us-east-1").await;
        let network = admin.create_network("office", "10.77.0.0/24").await;
        admin.attach(&gateway, &network).await;
        let more = json!({"network_id": network, "port_range": "443", "protocol": "tcp"});
        let wiki = admin.create_rule("wiki", "ip", "10.77.0.10", more).await;
        for (kind, value) in [("ip", "10.78.0.1"), ("cidr", "10.77.0.0/16"), ("ip", "fd00::1")] {
            let body = json!({"name": "x", "type": kind, "value": value, "network_id": network});
            let error = admin.post("/admin/access-rules", &body).await.envelope(400);
            assert_eq!(error["details"][0]["field"], "value", "{error}");
            let path = format!("/admin/access-rules/{wiki}");
            let error = admin.put(&path, &body).await.envelope(400);
            assert_eq!(error["details"][0]["field"], "value", "{error}");
        }
        for (body, field) in [
            (json!({"name": "x", "type": "hostname", "value": "wiki.example.com"}), "network_id"),
            (
                json!({"name": "x", "type": "ip", "value": "10.77.0.1", "network_id": "net-none"}),
                "network_id",
            ),
            (
                json!({"name": "x", "type": "ip", "value": "10.77.0.1", "protocol": "icmp",
                    "port_range": "1"}),
                "port_range",
            ),
        ] {
            let error = admin.post("/admin/access-rules", &body).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field, "{error}");
        }

        let path = format!("/admin/networks/{network}");
        let read = admin.get(&path).await.ok();
        assert_eq!((&read["gateways"], &read["access_rules"]), (&json!(1), &json!(1)));
        assert_eq!(ids(&admin.get(&format!("{path}/gateways")).await.list()), [&*gateway.id]);
        let rules = admin.get(&format!("{path}/access-rules")).await.list();
        assert_eq!(ids(&rules), [&*wiki]);
        assert_eq!(rules[0]["network_name"], "office");
        for query in ["type=ip", "protocol=tcp", &*format!("network={network}"), "active=true"] {
            let listed = admin.get(&format!("/admin/access-rules?{query}")).await.list();
            assert_eq!(ids(&listed), [&*wiki], "{query}");
        }
        for query in ["type=cidr", "protocol=udp", "network=net-none", "active=false", "group=ops"]
        {
            let listed = admin.get(&format!("/admin/access-rules?{query}")).await.list();
            assert!(listed.is_empty(), "{query}");
        }

        admin.delete(&path).await.ok();
        let list = format!("/admin/gateways/{}/networks", gateway.id);
        assert!(admin.get(&list).await.list().is_empty());
        admin.get(&format!("{path}/gateways")).await.refused(404, "not_found");
        admin.post(&list, &json!({"network_id": network})).await.envelope(400);
        admin.delete(&format!("{list}/{network}")).await.ok();
    }
}
