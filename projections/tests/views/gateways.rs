//! Gateways, who may use them, and what can be reached through them.

use crate::samples::*;
use crate::world::{World, on_each, time};
use gatekey_aggregates::gateway::Event;
use gatekey_aggregates::values::{CryptoProfile, Transport};
use gatekey_projections::gateways::{
    self, Filter, GRANTING, GatewayRow, SORT, find, find_any, list,
};
use gatekey_projections::{
    AttachedNetwork, GROUP_SORT, GrantedGroup, GrantedUser, NETWORK_SORT, Sort, Texts, USER_SORT,
    Wanted,
};

fn names(listed: &gatekey_projections::Listed<gateways::Gateway>) -> Vec<&str> {
    listed.rows.iter().map(|it| it.row.name.as_str()).collect()
}

#[tokio::test]
async fn every_column_is_what_was_written() {
    on_each(async |mut world: World| {
        world.commit(vec![("gw-a", registered("east"))]).await;
        let row = find(&world.db, "gw-a").await.unwrap().unwrap().row;
        let expected = GatewayRow {
            id: "gw-a".into(),
            name: "east".into(),
            description: "A gateway".into(),
            hostname: "vpn.example.com".into(),
            public_ip: None,
            port: 1194,
            protocol: "udp".into(),
            vpn_subnet: "10.8.0.0/24".into(),
            crypto_profile: "modern".into(),
            tls_auth: true,
            full_tunnel: false,
            push_dns: true,
            dns_servers: Texts(vec!["10.0.0.53".into(), "fd00::53".into()]),
            active: true,
            online: false,
            reported_ip: None,
            token_hash: digest('a'),
            tls_auth_key: "sec-tls".into(),
            server_certificate: None,
            reprovisions: 0,
            created_at: time(1),
            updated_at: time(1),
            deleted_at: None,
            revision: 1,
            etag: 1,
            number: 1,
        };
        assert_eq!(row, expected);

        let mut changed = configuration("west");
        changed.public_ip = Some(value("192.0.2.1"));
        changed.port = 443;
        changed.protocol = Transport::Tcp;
        changed.crypto_profile = CryptoProfile::Fips;
        changed.vpn_subnet = value("10.9.0.0/24");
        changed.hostname = value("west.example.com");
        changed.description = value("");
        (changed.tls_auth, changed.full_tunnel, changed.push_dns) = (false, true, false);
        changed.dns_servers = vec![];
        changed.active = false;
        world.commit(vec![("gw-a", updated_gateway(changed))]).await;
        let row = find(&world.db, "gw-a").await.unwrap().unwrap().row;
        let expected = GatewayRow {
            name: "west".into(),
            description: String::new(),
            hostname: "west.example.com".into(),
            public_ip: Some("192.0.2.1".into()),
            port: 443,
            protocol: "tcp".into(),
            vpn_subnet: "10.9.0.0/24".into(),
            crypto_profile: "fips".into(),
            tls_auth: false,
            full_tunnel: true,
            push_dns: false,
            dns_servers: Texts(vec![]),
            active: false,
            updated_at: time(2),
            revision: 2,
            etag: 2,
            ..expected
        };
        assert_eq!(row, expected);
    })
    .await;
}

#[tokio::test]
async fn what_no_admin_wrote_leaves_the_etag() {
    on_each(async |mut world: World| {
        // Made and changed in the same batch.
        world
            .commit(vec![
                ("gw-a", registered("east")),
                ("gw-a", Event::CameOnline {}.into()),
                ("gw-a", Event::TokenRotated { token_hash: value(&digest('b')) }.into()),
                ("gw-a", Event::ReprovisionRequested {}.into()),
            ])
            .await;
        world
            .commit(vec![
                ("gw-a", Event::ReprovisionRequested {}.into()),
                (
                    "gw-a",
                    Event::ServerCertificateInstalled { certificate_id: value("cfg-s") }.into(),
                ),
                ("gw-a", Event::AddressChanged { public_ip: value("2001:db8::1") }.into()),
            ])
            .await;
        let row = find(&world.db, "gw-a").await.unwrap().unwrap().row;
        assert!(row.online);
        assert_eq!(row.token_hash, digest('b'));
        assert_eq!(row.reprovisions, 2);
        assert_eq!(row.server_certificate.as_deref(), Some("cfg-s"));
        assert_eq!(row.reported_ip.as_deref(), Some("2001:db8::1"));
        assert_eq!((row.revision, row.etag, row.updated_at), (1, 1, time(1)));
        world
            .commit(vec![
                ("gw-a", Event::WentOffline {}.into()),
                ("gw-a", Event::ReprovisionRequested {}.into()),
            ])
            .await;
        assert_eq!(find(&world.db, "gw-a").await.unwrap().unwrap().row.server_certificate, None);
        assert!(!find(&world.db, "gw-a").await.unwrap().unwrap().row.online);
    })
    .await;
}

#[tokio::test]
async fn a_deleted_gateway_is_no_longer_found_but_remembered() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("gw-a", registered("east")),
                ("usr-a", created_user("usr-a", "ada", &["ops"])),
                ("net-a", created_network("lab", "10.1.0.0/16")),
                ("gw-a", user_granted("usr-a")),
                ("gw-a", group_granted("ops")),
                ("gw-a", network_attached("net-a")),
            ])
            .await;
        assert!(GRANTING.exists(&world.db, "gw-a").await.unwrap());
        world
            .commit(vec![("gw-a", Event::CameOnline {}.into()), ("gw-a", Event::Deleted {}.into())])
            .await;
        assert_eq!(find(&world.db, "gw-a").await.unwrap(), None);
        assert_eq!(list(&world.db, &everything(), &Filter::default()).await.unwrap().total, 0);
        assert!(!GRANTING.exists(&world.db, "gw-a").await.unwrap());
        let row = find_any(&world.db, "gw-a").await.unwrap().unwrap().row;
        assert_eq!((row.deleted_at, row.online), (Some(time(8)), false));
        assert_eq!(GRANTING.users(&world.db, "gw-a", &everything()).await.unwrap().total, 0);
        assert_eq!(GRANTING.groups(&world.db, "gw-a", &everything()).await.unwrap().total, 0);
        assert_eq!(GRANTING.networks(&world.db, "gw-a", &everything()).await.unwrap().total, 0);
    })
    .await;
}

#[tokio::test]
async fn filters_search_and_every_order() {
    on_each(async |mut world: World| {
        let mut west = configuration("West_1");
        west.hostname = value("w.example.org");
        west.active = false;
        world
            .commit(vec![
                ("gw-a", registered("east")),
                ("gw-b", registered("b")),
                ("gw-b", updated_gateway(west)),
                ("gw-c", registered("north")),
                ("gw-c", Event::CameOnline {}.into()),
                ("gw-c", network_attached("net-a")),
                ("gw-a", group_granted("ops")),
                ("gw-c", user_granted("usr-a")),
                ("usr-a", created_user("usr-a", "ada", &["ops"])),
                ("usr-b", created_user("usr-b", "bob", &[])),
            ])
            .await;
        world
            .execute(
                "INSERT INTO gateway_telemetry (gateway_id, last_heard, last_heartbeat, active_clients, \
                   openvpn_running, config_version) \
                 VALUES ('gw-a', 7, 6, 5, TRUE, 'v1'), ('gw-c', 9, NULL, NULL, NULL, NULL)",
            )
            .await;
        let db = &world.db;
        let all = list(db, &everything(), &Filter::default()).await.unwrap();
        assert_eq!((names(&all), all.total), (vec!["east", "north", "West_1"], 3));
        let east = &all.rows[0];
        assert_eq!((east.last_heard, east.last_heartbeat), (Some(7), Some(6)));
        assert_eq!((east.active_clients, east.openvpn_running), (Some(5), Some(true)));
        assert_eq!(east.config_version.as_deref(), Some("v1"));
        assert_eq!((all.rows[1].last_heard, all.rows[1].openvpn_running), (Some(9), None));
        assert_eq!(all.rows[2].last_heard, None);

        let found = async |filter: Filter| {
            let listed = list(db, &everything(), &filter).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            names(&listed).join(" ")
        };
        let only = Filter::default;
        assert_eq!(found(Filter { active: Some(true), ..only() }).await, "east north");
        assert_eq!(found(Filter { active: Some(false), ..only() }).await, "West_1");
        assert_eq!(found(Filter { heard_since: Some(9), ..only() }).await, "north");
        assert_eq!(found(Filter { silent_since: Some(9), ..only() }).await, "east West_1");
        let granted_to = |id: &str| Filter { granted_to: Some(id.into()), ..only() };
        assert_eq!(found(granted_to("usr-a")).await, "east north");
        assert_eq!(found(granted_to("usr-b")).await, "");
        assert_eq!(found(Filter { active: Some(false), ..granted_to("usr-a") }).await, "");
        assert_eq!(found(Filter { group: Some("ops".into()), ..only() }).await, "east");
        assert_eq!(found(Filter { network_id: Some("net-a".into()), ..only() }).await, "north");

        for (q, expected) in
            [("EAST", "east"), ("_", "West_1"), ("%", ""), ("example.ORG", "West_1"), ("a gate", "east north West_1")]
        {
            let listed = list(db, &search(q), &only()).await.unwrap();
            assert_eq!(names(&listed).join(" "), expected, "{q}");
        }

        let sorted = async |by: &'static str, descending: bool| {
            let sort = Some(Sort { by, descending });
            names(&list(db, &Wanted { sort, ..everything() }, &only()).await.unwrap()).join(" ")
        };
        let mut orders = Vec::new();
        for by in SORT {
            orders.push((*by, sorted(by, false).await, sorted(by, true).await));
        }
        let expected = [
            ("name", "east north West_1", "West_1 north east"),
            ("hostname", "east north West_1", "West_1 north east"),
            ("online", "east West_1 north", "north West_1 east"),
            ("created_at", "east West_1 north", "north West_1 east"),
            ("last_heartbeat", "east West_1 north", "east north West_1"),
        ];
        let orders: Vec<_> =
            orders.iter().map(|(by, up, down)| (*by, up.as_str(), down.as_str())).collect();
        assert_eq!(orders, expected);
    })
    .await;
}

#[tokio::test]
async fn grants_are_listed_while_both_ends_are_there() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("gw-a", registered("east")),
                ("usr-a", created_user("usr-a", "ada", &["ops", "dev"])),
                ("usr-b", created_user("usr-b", "bob", &["ops"])),
                ("usr-c", created_user("usr-c", "cy", &[])),
                ("net-a", created_network("lab", "10.1.0.0/16")),
                ("net-b", created_network("Attic", "10.2.0.0/16")),
                ("gw-a", user_granted("usr-a")),
                ("gw-a", user_granted("usr-b")),
                ("gw-a", user_granted("usr-c")),
                ("gw-a", group_granted("ops")),
                ("gw-a", group_granted("Nobody")),
                ("gw-a", network_attached("net-a")),
                ("gw-a", network_attached("net-b")),
            ])
            .await;
        // One is taken away, one is deleted, and one is disabled.
        world
            .commit(vec![
                ("gw-a", Event::UserRevoked { user_id: value("usr-c") }.into()),
                ("usr-b", gatekey_aggregates::user::Event::Disabled {}.into()),
            ])
            .await;
        let db = &world.db;
        let users = GRANTING.users(db, "gw-a", &everything()).await.unwrap();
        let ada = GrantedUser {
            id: "usr-a".into(),
            username: Some("ada".into()),
            email: Some("ada@example.com".into()),
            name: Some("The ada".into()),
            active: true,
            granted_at: time(7),
        };
        assert_eq!(users.rows[0], ada);
        assert_eq!((users.rows[1].id.as_str(), users.rows[1].active), ("usr-b", false));
        assert_eq!(users.total, 2);
        assert_eq!(GRANTING.users(db, "gw-a", &search("THE B")).await.unwrap().total, 1);
        let groups = GRANTING.groups(db, "gw-a", &everything()).await.unwrap();
        let group = |name: &str, members, position| GrantedGroup {
            name: name.into(),
            members,
            granted_at: time(position),
        };
        assert_eq!(groups.rows, [group("Nobody", 0, 11), group("ops", 2, 10)]);
        assert_eq!(GRANTING.groups(db, "gw-a", &search("no")).await.unwrap().total, 1);
        let networks = GRANTING.networks(db, "gw-a", &everything()).await.unwrap();
        let attic = AttachedNetwork {
            id: "net-b".into(),
            name: "Attic".into(),
            cidr: "10.2.0.0/16".into(),
            description: String::new(),
            granted_at: time(13),
        };
        assert_eq!((networks.rows[0].clone(), networks.total), (attic, 2));
        assert_eq!(GRANTING.networks(db, "gw-a", &search("10.1.")).await.unwrap().total, 1);
        for by in USER_SORT {
            let wanted = sorted_by(by);
            assert_eq!(GRANTING.users(db, "gw-a", &wanted).await.unwrap().rows[0].id, "usr-b");
        }
        for by in GROUP_SORT {
            let first = GRANTING.groups(db, "gw-a", &sorted_by(by)).await.unwrap().rows.remove(0);
            assert_eq!(first.name, if *by == "name" { "ops" } else { "Nobody" });
        }
        for by in NETWORK_SORT {
            let listed = GRANTING.networks(db, "gw-a", &sorted_by(by)).await.unwrap();
            assert_eq!(listed.rows[0].name, if *by == "name" { "lab" } else { "Attic" });
        }

        world
            .commit(vec![
                ("usr-a", deleted_user()),
                ("net-b", deleted_network()),
                ("gw-a", Event::GroupRevoked { group: value("ops") }.into()),
                ("gw-a", Event::NetworkDetached { network_id: value("net-a") }.into()),
                // The gateway did not know that the user was deleted.
                ("gw-a", user_granted("usr-a")),
                ("gw-a", network_attached("net-b")),
            ])
            .await;
        let db = &world.db;
        let users = GRANTING.users(db, "gw-a", &everything()).await.unwrap();
        assert_eq!((users.rows[0].id.as_str(), users.total), ("usr-b", 1));
        assert_eq!(GRANTING.groups(db, "gw-a", &everything()).await.unwrap().total, 1);
        assert_eq!(GRANTING.networks(db, "gw-a", &everything()).await.unwrap().total, 0);
    })
    .await;
}
