//! Mesh hubs, who may use them, and their spokes.

use crate::samples::*;
use crate::world::{World, on_each, time};
use gatekey_aggregates::mesh_hub::Event;
use gatekey_aggregates::values::{CryptoProfile, RevocationReason, Transport};
use gatekey_projections::mesh_hubs::{
    Filter, GRANTING, MeshHubRow, MeshSpokeRow, SORT, SPOKE_SORT, find, find_any, find_any_spoke,
    find_spoke, list, spokes,
};
use gatekey_projections::{Texts, Wanted};

fn texts(texts: &[&str]) -> Texts {
    texts.iter().collect()
}

#[tokio::test]
async fn every_column_is_what_was_written() {
    on_each(async |mut world: World| {
        let mut moved = hub_configuration("Europe");
        moved.description = value("In Frankfurt");
        moved.public_endpoint = value("192.0.2.1");
        moved.port = 443;
        moved.protocol = Transport::Tcp;
        moved.vpn_subnet = value("10.9.8.0/24");
        moved.crypto_profile = CryptoProfile::Fips;
        moved.tls_auth = false;
        moved.local_networks = vec![value("10.2.0.0/16")];
        world
            .commit(vec![
                ("hub-a", created_hub("europe")),
                ("hub-a", Event::Updated { configuration: moved }.into()),
                ("hub-a", hub_granted_to_user("usr-a")),
                ("cfg-s", issued_at_hub(hub_server(), "a1", 100)),
                (
                    "hub-a",
                    Event::ServerCertificateInstalled { certificate_id: value("cfg-s") }.into(),
                ),
            ])
            .await;
        let found = find(&world.db, "hub-a").await.unwrap().unwrap();
        let expected = MeshHubRow {
            id: "hub-a".into(),
            name: "Europe".into(),
            description: "In Frankfurt".into(),
            public_endpoint: "192.0.2.1".into(),
            port: 443,
            protocol: "tcp".into(),
            vpn_subnet: "10.9.8.0/24".into(),
            crypto_profile: "fips".into(),
            tls_auth: false,
            local_networks: texts(&["10.2.0.0/16"]),
            tls_auth_key: "sec-hub".into(),
            server_certificate: Some("cfg-s".into()),
            created_at: time(1),
            updated_at: time(2),
            deleted_at: None,
            revision: 2,
            etag: 2,
        };
        assert_eq!(found.row, expected);
        assert_eq!((found.spokes, found.certificate_expires_at), (0, Some(time(100))));
        world.commit(vec![("cfg-s", revoked(RevocationReason::KeyCompromise))]).await;
        let found = find(&world.db, "hub-a").await.unwrap().unwrap();
        assert_eq!(found.certificate_expires_at, None);
    })
    .await;
}

#[tokio::test]
async fn spokes_are_written_listed_and_removed() {
    on_each(async |mut world: World| {
        let grown = spoke_definition("Berlin", "10.20.0.0/15");
        world
            .commit(vec![
                ("hub-a", created_hub("europe")),
                ("hub-b", created_hub("asia")),
                ("hub-a", spoke_added("spoke-b", spoke_definition("berlin", "10.20.0.0/16"))),
                ("hub-a", spoke_added("spoke-a", spoke_definition("athens", "10.30.0.0/16"))),
                ("hub-b", spoke_added("spoke-t", spoke_definition("tokyo", "10.20.0.0/16"))),
                (
                    "hub-a",
                    Event::SpokeUpdated { spoke_id: value("spoke-b"), definition: grown }.into(),
                ),
                ("cfg-b", issued_at_hub(spoke_subject("spoke-b"), "b1", 100)),
                (
                    "hub-a",
                    Event::SpokeCertificateInstalled {
                        spoke_id: value("spoke-b"),
                        certificate_id: value("cfg-b"),
                    }
                    .into(),
                ),
            ])
            .await;
        let berlin = find_spoke(&world.db, "spoke-b").await.unwrap().unwrap();
        let expected = MeshSpokeRow {
            hub_id: "hub-a".into(),
            id: "spoke-b".into(),
            name: "Berlin".into(),
            description: "A site".into(),
            local_networks: texts(&["10.20.0.0/15"]),
            certificate: Some("cfg-b".into()),
            created_at: time(3),
            updated_at: time(6),
            deleted_at: None,
            revision: 2,
            etag: 6,
        };
        assert_eq!(berlin.row, expected);
        assert_eq!(berlin.serial.as_deref(), Some("b1"));
        assert_eq!(berlin.certificate_expires_at, Some(time(100)));
        // A hub is not changed by what is joined to it.
        let hub = find(&world.db, "hub-a").await.unwrap().unwrap();
        assert_eq!((hub.spokes, hub.row.revision, hub.row.etag), (2, 1, 1));

        let db = &world.db;
        let ids = async |wanted: Wanted| {
            let listed = spokes(db, "hub-a", &wanted).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            listed.rows.iter().map(|it| it.row.id.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ids(everything()).await, "spoke-a spoke-b");
        assert_eq!(ids(search("BERL")).await, "spoke-b");
        assert_eq!(ids(search("10.30.")).await, "spoke-a");
        for by in SPOKE_SORT {
            let expected = if *by == "name" { "spoke-b spoke-a" } else { "spoke-a spoke-b" };
            assert_eq!(ids(sorted_by(by)).await, expected, "{by}");
        }

        world
            .commit(vec![
                ("hub-a", spoke_removed("spoke-b")),
                ("cfg-b", revoked(RevocationReason::CessationOfOperation)),
            ])
            .await;
        assert_eq!(find_spoke(&world.db, "spoke-b").await.unwrap(), None);
        let gone = find_any_spoke(&world.db, "spoke-b").await.unwrap().unwrap();
        assert_eq!((gone.row.deleted_at, gone.serial), (Some(time(9)), None));
        assert_eq!(spokes(&world.db, "hub-a", &everything()).await.unwrap().total, 1);
        assert_eq!(find(&world.db, "hub-a").await.unwrap().unwrap().spokes, 1);
    })
    .await;
}

#[tokio::test]
async fn filters_search_and_every_order() {
    on_each(async |mut world: World| {
        let mut west = hub_configuration("West_1");
        west.public_endpoint = value("w.example.org");
        world
            .commit(vec![
                ("hub-a", created_hub("europe")),
                ("hub-b", created_hub("b")),
                ("hub-b", Event::Updated { configuration: west }.into()),
                ("hub-c", created_hub("north")),
                ("hub-a", hub_granted_to_group("ops")),
                ("hub-c", hub_granted_to_user("usr-a")),
                ("hub-c", network_attached_to_hub("net-a")),
                ("usr-a", created_user("usr-a", "ada", &["ops"])),
                ("net-a", created_network("lab", "10.1.0.0/16")),
                ("cfg-s", issued_at_hub(hub_server(), "a1", 100)),
                (
                    "hub-a",
                    Event::ServerCertificateInstalled { certificate_id: value("cfg-s") }.into(),
                ),
            ])
            .await;
        let db = &world.db;
        let names = async |wanted: Wanted, filter: Filter| {
            let listed = list(db, &wanted, &filter).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            listed.rows.iter().map(|it| it.row.name.clone()).collect::<Vec<_>>().join(" ")
        };
        let only = Filter::default;
        let some = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (only(), "europe north West_1"),
            (Filter { granted_to: some("usr-a"), ..only() }, "europe north"),
            (Filter { granted_to: some("usr-b"), ..only() }, ""),
            (Filter { group: some("ops"), ..only() }, "europe"),
            (Filter { network_id: some("net-a"), ..only() }, "north"),
            (Filter { provisioned_at: Some(time(99)), ..only() }, "europe"),
            (Filter { provisioned_at: Some(time(100)), ..only() }, ""),
            (Filter { pending_at: Some(time(99)), ..only() }, "north West_1"),
            (Filter { pending_at: Some(time(100)), ..only() }, "europe north West_1"),
        ] {
            assert_eq!(names(everything(), filter.clone()).await, expected, "{filter:?}");
        }
        for (q, expected) in
            [("EURO", "europe"), ("_", "West_1"), ("example.ORG", "West_1"), ("%", "")]
        {
            assert_eq!(names(search(q), only()).await, expected, "{q}");
        }
        for by in SORT {
            let first = list(db, &sorted_by(by), &only()).await.unwrap().rows.remove(0);
            let expected = if *by == "created_at" { "north" } else { "West_1" };
            assert_eq!(first.row.name, expected, "{by}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_deleted_hub_is_no_longer_found_but_remembered() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("hub-a", created_hub("europe")),
                ("usr-a", created_user("usr-a", "ada", &["ops"])),
                ("net-a", created_network("lab", "10.1.0.0/16")),
                ("hub-a", hub_granted_to_user("usr-a")),
                ("hub-a", hub_granted_to_group("ops")),
                ("hub-a", network_attached_to_hub("net-a")),
            ])
            .await;
        let db = world.db.clone();
        let granted = async || {
            let users = GRANTING.users(&db, "hub-a", &everything()).await.unwrap().total;
            let groups = GRANTING.groups(&db, "hub-a", &everything()).await.unwrap().total;
            let networks = GRANTING.networks(&db, "hub-a", &everything()).await.unwrap().total;
            [users, groups, networks]
        };
        assert!(GRANTING.exists(&db, "hub-a").await.unwrap());
        assert_eq!(granted().await, [1, 1, 1]);
        world.commit(vec![("usr-a", deleted_user()), ("net-a", deleted_network())]).await;
        assert_eq!(granted().await, [0, 1, 0]);
        world.commit(vec![("hub-a", deleted_hub())]).await;
        assert_eq!(granted().await, [0, 0, 0]);
        assert!(!GRANTING.exists(&db, "hub-a").await.unwrap());
        assert_eq!(find(&db, "hub-a").await.unwrap(), None);
        let row = find_any(&db, "hub-a").await.unwrap().unwrap().row;
        assert_eq!((row.deleted_at, row.etag), (Some(time(9)), 9));
        assert_eq!(list(&db, &everything(), &Filter::default()).await.unwrap().total, 0);
    })
    .await;
}
