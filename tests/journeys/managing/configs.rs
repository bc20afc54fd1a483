//! All configs, as an admin looks for one.

use super::ids;
use serde_json::json;

both! {
    async fn configs_are_found_by_what_is_known_of_them(world: World) {
        let admin = world.admin().await;
        let (east, west) = (admin.create_gateway("east").await, admin.create_gateway("west").await);
        let (ada, bob) = (admin.create_user("ada").await, admin.create_user("bob").await);
        for gateway in [&east, &west] {
            admin.grant(gateway, &ada).await;
            admin.grant(gateway, &bob).await;
        }
        let first = ada.api.generate_config(&east).await;
        let second = ada.api.generate_config(&west).await;
        let third = bob.api.generate_config(&east).await;
        admin.post(&format!("/admin/configs/{}/revoke", second.id), &json!({})).await.ok();
        let one = |query: &str| {
            let path = format!("/admin/configs?{query}");
            let admin = admin.clone();
            async move { ids(&admin.get(&path).await.list()) }
        };
        let of = |id: &str| one(&format!("q={id}"));
        assert_eq!(one("").await, [&*third.id, &*second.id, &*first.id]);
        assert_eq!(of("BOB").await, [&*third.id]);
        let all = admin.get("/admin/configs").await.list();
        let at = |n: usize, field: &str| all[n][field].as_str().unwrap().to_owned();
        let expected: [(String, &[&str]); 13] = [
            (format!("user={}", ada.id), &[&second.id, &first.id]),
            (format!("gateway={}", east.id), &[&third.id, &first.id]),
            (format!("user={}&gateway={}", ada.id, east.id), &[&first.id]),
            ("status=active".to_owned(), &[&third.id, &first.id]),
            ("status=revoked".to_owned(), &[&second.id]),
            ("status=expired".to_owned(), &[]),
            (format!("serial={}", first.serial.to_uppercase()), &[&first.id]),
            (format!("serial={}", second.serial.replace(':', "")), &[&second.id]),
            ("serial=5a0f3c".to_owned(), &[]),
            (format!("issued_since={}", at(1, "created_at")), &[&third.id, &second.id]),
            (format!("issued_until={}", at(1, "created_at")), &[&first.id]),
            (format!("expires_since={}", at(0, "created_at")), &[&third.id, &second.id, &first.id]),
            (format!("expires_until={}", at(0, "created_at")), &[]),
        ];
        for (query, found) in expected {
            assert_eq!(one(&query).await, found, "{query}");
        }
        for (query, field) in [
            ("serial=x", "serial"),
            ("status=odd", "status"),
            ("issued_since=noon", "issued_since"),
            ("expires_until=5", "expires_until"),
            ("user=gw-1", "user"),
        ] {
            let error = admin.get(&format!("/admin/configs?{query}")).await.envelope(400);
            assert_eq!(error["details"][0]["field"], field);
        }
    }
}
