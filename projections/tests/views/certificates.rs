//! Configs and server certificates.

use crate::samples::*;
use crate::world::{World, at, on_each, time};
use gatekey_aggregates::certificate::{self, Subject};
use gatekey_aggregates::values::RevocationReason;
use gatekey_projections::Wanted;
use gatekey_projections::certificates::{
    CertificateRow, Filter, Revoked, Status, by_serial, by_token_hash, configs, find,
    live_of_gateway, live_of_user, revoked as revoked_since,
};

#[tokio::test]
async fn every_column_is_what_was_written() {
    on_each(async |mut world: World| {
        let mut erased = client_certificate("usr-a", "6", 100);
        if let Subject::Client { common_name, .. } = &mut erased.subject {
            *common_name = shut("usr-a");
        }
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &[])),
                ("gw-a", registered("east")),
                ("cfg-a", issued("usr-a", "05:A0", 100)),
                ("cfg-s", issued_to_server("gw-a", "07", 100)),
                ("cfg-e", certificate::Event::Issued(erased).into()),
            ])
            .await;
        let found = find(&world.db, "cfg-a").await.unwrap().unwrap();
        let expected = CertificateRow {
            id: "cfg-a".into(),
            kind: "client".into(),
            serial: "5a0".into(),
            user_id: Some("usr-a".into()),
            gateway_id: Some("gw-a".into()),
            hub_id: None,
            spoke_id: None,
            common_name: Some("ada@example.com".into()),
            token_hash: Some(digest('c')),
            bundle: Some("sec-bundle".into()),
            fingerprint: digest('f'),
            not_before: time(0),
            not_after: time(100),
            issued_at: time(3),
            revoked_at: None,
            reason: None,
        };
        assert_eq!(found.row, expected);
        assert_eq!(found.username.as_deref(), Some("ada"));
        assert_eq!(found.email.as_deref(), Some("ada@example.com"));
        assert_eq!(found.gateway_name.as_deref(), Some("east"));
        assert_eq!(by_serial(&world.db, "5a0").await.unwrap(), Some(found));
        assert_eq!(by_serial(&world.db, "5a").await.unwrap(), None);

        let server = find(&world.db, "cfg-s").await.unwrap().unwrap();
        assert_eq!((server.row.kind.as_str(), server.row.user_id), ("server", None));
        assert_eq!(server.row.common_name.as_deref(), Some("gw-a"));
        assert_eq!((server.row.token_hash, server.email), (None, None));
        let erased = find(&world.db, "cfg-e").await.unwrap().unwrap();
        assert_eq!(erased.row.common_name, None);

        world.commit(vec![("cfg-a", revoked(RevocationReason::KeyCompromise))]).await;
        let row = by_token_hash(&world.db, &digest('c')).await.unwrap().unwrap().row;
        assert!(row.id == "cfg-a" || row.id == "cfg-e");
        let row = find(&world.db, "cfg-a").await.unwrap().unwrap().row;
        assert_eq!(
            (row.revoked_at, row.reason.as_deref()),
            (Some(time(6)), Some("key_compromise"))
        );
    })
    .await;
}

#[tokio::test]
async fn certificates_of_hubs_say_what_they_are_for() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &[])),
                ("hub-a", created_hub("europe")),
                ("cfg-a", issued_at_hub(hub_client("usr-a"), "a1", 100)),
                ("cfg-b", issued_at_hub(hub_server(), "a2", 100)),
                ("cfg-c", issued_at_hub(spoke_subject("spoke-a"), "a3", 100)),
                ("cfg-d", issued("usr-a", "a4", 100)),
            ])
            .await;
        for (id, kind, common_name, of_user, spoke_id, bundle) in [
            ("cfg-a", "client", "hub-a.usr-a", Some("usr-a"), None, Some("sec-mesh")),
            ("cfg-b", "server", "hub-a", None, None, Some("sec-server")),
            ("cfg-c", "spoke", "hub-a.spoke-a", None, Some("spoke-a"), None),
        ] {
            let found = find(&world.db, id).await.unwrap().unwrap();
            let row = found.row;
            assert_eq!((row.kind.as_str(), row.common_name.as_deref()), (kind, Some(common_name)));
            assert_eq!((row.user_id.as_deref(), row.spoke_id.as_deref()), (of_user, spoke_id));
            assert_eq!((row.bundle.as_deref(), row.token_hash), (bundle, None));
            assert_eq!((row.hub_id.as_deref(), row.gateway_id), (Some("hub-a"), None));
            assert_eq!(found.hub_name.as_deref(), Some("europe"));
            assert_eq!(found.gateway_name, None);
        }
        let listed = async |wanted: Wanted, filter: Filter| {
            let listed = configs(&world.db, &wanted, &filter).await.unwrap();
            listed.rows.iter().map(|it| it.row.id.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(listed(everything(), Filter::default()).await, "cfg-d cfg-a");
        let at_hub = Filter { hub_id: Some("hub-a".into()), ..Filter::default() };
        assert_eq!(listed(everything(), at_hub).await, "cfg-a");
        assert_eq!(listed(search("EUROP"), Filter::default()).await, "cfg-a");
    })
    .await;
}

#[tokio::test]
async fn configs_are_listed_newest_first_and_history_knows_the_deleted() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &[])),
                ("usr-b", created_user("usr-b", "bob", &[])),
                ("gw-a", registered("east")),
                ("cfg-a", issued("usr-a", "a1", 100)),
                ("cfg-b", issued("usr-a", "a2", 20)),
                ("cfg-c", issued("usr-b", "a3", 20)),
                ("cfg-d", issued("usr-b", "a4", 100)),
                ("cfg-s", issued_to_server("gw-a", "a5", 100)),
                ("cfg-c", revoked(RevocationReason::Superseded)),
                ("cfg-d", revoked(RevocationReason::PrivilegeWithdrawn)),
                ("usr-b", deleted_user()),
                ("gw-a", gatekey_aggregates::gateway::Event::Deleted {}.into()),
            ])
            .await;
        let now = at(50);
        let db = &world.db;
        let ids = async |wanted: Wanted, filter: Filter| {
            let listed = configs(db, &wanted, &filter).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            listed.rows.iter().map(|it| it.row.id.clone()).collect::<Vec<_>>().join(" ")
        };
        let only = Filter::default;
        let some = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (only(), "cfg-d cfg-c cfg-b cfg-a"),
            (Filter { user_id: some("usr-a"), ..only() }, "cfg-b cfg-a"),
            (Filter { gateway_id: some("gw-a"), ..only() }, "cfg-d cfg-c cfg-b cfg-a"),
            (Filter { gateway_id: some("gw-b"), ..only() }, ""),
            (Filter { status: Some((Status::Active, now)), ..only() }, "cfg-a"),
            (Filter { status: Some((Status::Expired, now)), ..only() }, "cfg-b"),
            (Filter { status: Some((Status::Revoked, now)), ..only() }, "cfg-d cfg-c"),
        ] {
            assert_eq!(ids(everything(), filter.clone()).await, expected, "{filter:?}");
        }
        assert_eq!(ids(search("BOB@"), only()).await, "cfg-d cfg-c");
        assert_eq!(ids(search("A1"), only()).await, "cfg-a");
        assert_eq!(ids(search("eas"), only()).await, "cfg-d cfg-c cfg-b cfg-a");

        let live = live_of_user(db, "usr-a", now).await.unwrap();
        assert_eq!(live.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["cfg-a"]);
        let live = live_of_gateway(db, "gw-a", now).await.unwrap();
        assert_eq!(live.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["cfg-a", "cfg-s"]);

        let entry = |serial: &str, position, reason: &str| Revoked {
            serial: serial.into(),
            revoked_at: time(position),
            reason: reason.into(),
        };
        let (c, d) = (entry("a3", 9, "superseded"), entry("a4", 10, "privilege_withdrawn"));
        assert_eq!(revoked_since(db, at(10)).await.unwrap(), [c, d.clone()]);
        assert_eq!(revoked_since(db, now).await.unwrap(), [d]);
    })
    .await;
}
