//! What an admin is told of the server.

use super::SOON;
use crate::harness::wait::eventually;
use serde_json::json;

both! {
    async fn the_server_says_what_it_is(world: World) {
        let admin = world.admin().await;
        let auditor = admin.create_user_with("vera", json!({"role": "auditor"})).await.api;
        let gateway = admin.create_gateway("us-east-1").await;
        admin.create_network("office", "10.77.0.0/24").await;
        gateway.agent.post("/gateway/heartbeat", &json!({})).await.flat(200);
        let server = eventually("the gateway is online", SOON, || async {
            let server = auditor.get("/admin/server").await.ok();
            (server["counts"]["gateways_online"] == 1).then_some(server)
        })
        .await;
        let kind = if world.kind() == Kind::Postgres { "postgres" } else { "sqlite" };
        assert_eq!(server["version"], env!("CARGO_PKG_VERSION"));
        assert_eq!(server["database"]["kind"], kind);
        assert_eq!(server["database"]["epoch"], gatekey::event_log::EPOCH);
        assert_eq!(server["index"]["lag"], 0);
        assert_eq!(server["index"]["position"], server["database"]["position"]);
        let newest = admin.get("/admin/audit?per_page=1").await.list()[0]["position"].clone();
        assert!(newest.as_i64() >= server["database"]["position"].as_i64(), "{server}");
        assert!(server["uptime_seconds"].as_i64().is_some_and(|it| it < 60), "{server}");
        let expected = json!({"users": 2, "gateways": 1, "gateways_online": 1, "networks": 1,
            "access_rules": 0, "connections_open": 0});
        assert_eq!(server["counts"], expected);

        world.server.restart();
        let again = admin.get("/admin/server").await.ok();
        assert_ne!(again["node"], server["node"]);
        assert_eq!(again["counts"]["users"], 2);
    }
}
