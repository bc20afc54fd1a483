//! The README's five-minute walk: from the first login to the revocation list, and the history of it all.

use crate::harness::fixtures::{block, id, serials_in_crl};
use crate::harness::server::ADMIN_PASSWORD;
use crate::harness::wait::eventually;
use serde_json::{Value, json};
use std::time::Duration;

both! {
    async fn from_login_to_crl(world: World) {
        // Sign in as the first admin, and choose an own password.
        let first = world.admin().await;
        let own = "a password of my own";
        let change = json!({"current_password": ADMIN_PASSWORD, "new_password": own});
        first.post("/auth/local/change-password", &change).await.ok();
        world.anyone().try_login("admin", ADMIN_PASSWORD).await.refused(401, "invalid_credentials");
        let admin = world.anyone().login("admin", own).await;

        // A gateway, a person, and a network behind the gateway.
        let more = json!({"description": "US East Coast Gateway"});
        let gateway = admin.create_gateway_with("us-east-1", more).await;
        let ada = admin.create_user("ada").await;
        let network = admin.create_network("offices", "10.77.0.0/24").await;
        admin.attach(&gateway, &network).await;

        // Default is deny: not granted, no config.
        let wanted = json!({"gateway_id": gateway.id, "protocol": "openvpn"});
        ada.api.post("/configs/generate", &wanted).await.refused(403, "access_denied");
        assert_eq!(ada.api.get("/gateways").await.list(), Vec::<Value>::new());

        // What she may use, and what she may reach through it.
        admin.grant(&gateway, &ada).await;
        let more = json!({"network_id": network, "port_range": "443", "protocol": "tcp"});
        let rule = admin.create_rule("wiki", "ip", "10.77.0.10", more).await;
        admin.assign(&rule, &ada).await;
        let seen = ada.api.get("/gateways").await.list();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0]["name"], "us-east-1");
        assert_eq!(seen[0]["status"], "offline");

        // Her config.
        let config = ada.api.generate_config(&gateway).await;
        for tag in ["ca", "cert", "key", "auth-user-pass"] {
            assert!(!block(&config.profile, tag).trim().is_empty(), "<{tag}>");
        }
        assert!(config.profile.contains(&format!("verify-x509-name {} name", gateway.id)));
        assert!(config.profile.contains("remote vpn.example.com 1194"));

        // The gateway asks, lets her in, and tells what she may reach.
        let asked = json!({
            "common_name": ada.email, "username": ada.email, "password": config.password,
            "serial_number": config.serial, "client_ip": "198.51.100.2",
        });
        let verified = gateway.agent.post("/gateway/verify", &asked).await.flat(200);
        assert_eq!(verified["allowed"], true, "{verified}");
        let came = json!({
            "common_name": ada.email, "serial_number": config.serial,
            "client_ip": "198.51.100.2", "vpn_ipv4": "172.31.255.2",
        });
        let connected = gateway.agent.post("/gateway/connect", &came).await.flat(200);
        assert_eq!(connected["allow"], true, "{connected}");
        assert_eq!(connected["default_policy"], "deny");
        let routes = connected["client_config"].as_array().unwrap();
        let to_the_office = |line: &Value| {
            line.as_str().is_some_and(|line| line.starts_with("push \"route 10.77.0."))
        };
        assert!(!routes.is_empty() && routes.iter().all(to_the_office), "{routes:?}");
        let rules = json!([{
            "action": "allow", "rule_type": "ip", "value": "10.77.0.10",
            "port_range": "443", "protocol": "tcp",
        }]);
        assert_eq!(connected["firewall_rules"], rules);

        // She shows among the connections.
        let active = admin.get("/admin/connections?status=active").await.list();
        assert_eq!(active.len(), 1);
        assert_eq!(active[0]["id"], connected["session_id"]);
        assert_eq!(active[0]["user"]["email"], ada.email.as_str());
        assert_eq!(active[0]["vpn_ip"], "172.31.255.2");

        // And leaves.
        let left = json!({
            "common_name": ada.email, "client_ip": "198.51.100.2",
            "duration_seconds": 61, "bytes_received": 1234, "bytes_sent": 5678,
        });
        gateway.agent.post("/gateway/disconnect", &left).await.flat(200);
        let ended = admin.get("/admin/connections?status=ended").await.list();
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0]["end_reason"], "disconnected");
        assert_eq!(ended[0]["bytes_received"], 1234);
        assert_eq!(ended[0]["bytes_sent"], 5678);

        // Revoked: the check, the list and verify all say so.
        let check = format!("/pki/check/{}", config.serial);
        assert_eq!(world.anyone().get(&check).await.ok()["status"], "good");
        let revoke = json!({"config_id": config.id, "reason": "key_compromise"});
        let revoked = admin.post("/admin/pki/revoke", &revoke).await.ok();
        assert_eq!(revoked["reason"], "key_compromise");
        let again = admin.post("/admin/pki/revoke", &revoke).await.ok();
        assert_eq!(again, revoked, "the same answer twice");
        let checked = world.anyone().get(&check).await.ok();
        assert_eq!(checked["status"], "revoked");
        assert_eq!(checked["reason"], "key_compromise");
        let listed = eventually("the CRL has the serial", Duration::from_secs(5), || async {
            let crl = world.anyone().get("/pki/crl").await;
            let listed = serials_in_crl(&crl.has_status(200).body);
            listed.contains(&config.serial).then_some(listed)
        }).await;
        assert_eq!(listed, vec![config.serial.clone()]);
        let refused = gateway.agent.post("/gateway/verify", &asked).await.flat(200);
        assert_eq!(refused["allowed"], false);

        // Every step is in the history, with who did it.
        let history = admin.get("/admin/audit?per_page=100").await.list();
        let admin_id = id(&admin.get("/users/me").await.ok());
        for (event, actor) in [
            ("gateway.registered", &admin_id),
            ("user.created", &admin_id),
            ("network.created", &admin_id),
            ("gateway.network_attached", &admin_id),
            ("gateway.user_granted", &admin_id),
            ("access_rule.created", &admin_id),
            ("access_rule.user_assigned", &admin_id),
            ("certificate.issued", &ada.id),
            ("session.began", &gateway.id),
            ("session.ended", &gateway.id),
            ("certificate.revoked", &admin_id),
        ] {
            let found = history.iter().find(|entry| {
                entry["event"] == event && entry["actor"]["id"] == actor.as_str()
            });
            assert!(found.is_some(), "{event} by {actor} in {history:#?}");
        }
    }
}
