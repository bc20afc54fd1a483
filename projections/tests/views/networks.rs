//! Networks.

use crate::samples::*;
use crate::world::{World, on_each, time};
use gatekey_aggregates::network::Event;
use gatekey_projections::Wanted;
use gatekey_projections::networks::{Filter, NetworkRow, SORT, find, find_any, list};

#[tokio::test]
async fn networks_are_listed_with_what_hangs_on_them() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("net-a", created_network("lab", "10.1.0.0/16")),
                ("net-b", created_network("Attic", "10.2.0.0/16")),
                ("gw-a", registered("east")),
                ("gw-a", network_attached("net-a")),
                ("rule-a", created_rule(rule_definition("wiki"))),
                ("rule-b", created_rule(rule_definition("files"))),
                ("rule-b", gatekey_aggregates::access_rule::Event::Deleted {}.into()),
                ("hub-a", created_hub("europe")),
                ("hub-a", network_attached_to_hub("net-a")),
            ])
            .await;
        let mut definition = network_definition("Lab", "10.1.0.0/17");
        definition.description = value("Behind the door");
        world.commit(vec![("net-a", Event::Updated { definition }.into())]).await;
        let network = find(&world.db, "net-a").await.unwrap().unwrap();
        let expected = NetworkRow {
            id: "net-a".into(),
            name: "Lab".into(),
            cidr: "10.1.0.0/17".into(),
            description: "Behind the door".into(),
            created_at: time(1),
            updated_at: time(10),
            deleted_at: None,
            revision: 2,
            etag: 10,
        };
        assert_eq!(network.row, expected);
        assert_eq!((network.gateways, network.access_rules, network.mesh_hubs), (1, 1, 1));

        let db = &world.db;
        let ids = async |wanted: Wanted, filter: Filter| {
            let listed = list(db, &wanted, &filter).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            listed.rows.iter().map(|it| it.row.id.clone()).collect::<Vec<_>>().join(" ")
        };
        let only = Filter::default;
        assert_eq!(ids(everything(), only()).await, "net-b net-a");
        assert_eq!(ids(search("the DOOR"), only()).await, "net-a");
        assert_eq!(ids(search("10.2"), only()).await, "net-b");
        assert_eq!(ids(search("att"), only()).await, "net-b");
        let through = Filter { gateway_id: Some("gw-a".into()) };
        assert_eq!(ids(everything(), through).await, "net-a");
        for by in SORT {
            let expected = if *by == "name" { "net-a net-b" } else { "net-b net-a" };
            assert_eq!(ids(sorted_by(by), only()).await, expected, "{by}");
        }

        world.commit(vec![("net-a", deleted_network())]).await;
        assert_eq!(find(&world.db, "net-a").await.unwrap(), None);
        let gone = find_any(&world.db, "net-a").await.unwrap().unwrap();
        assert_eq!((gone.row.deleted_at, gone.row.etag, gone.gateways), (Some(time(11)), 11, 0));
        assert_eq!(list(&world.db, &everything(), &Filter::default()).await.unwrap().total, 1);
    })
    .await;
}
