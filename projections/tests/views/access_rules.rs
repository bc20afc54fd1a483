//! Access rules and whom they are assigned to.

use crate::samples::*;
use crate::world::{World, on_each, time};
use gatekey_aggregates::access_rule::{Event, Target};
use gatekey_projections::Wanted;
use gatekey_projections::access_rules::{
    AccessRuleRow, Filter, GRANTING, SORT, find, find_any, list,
};

#[tokio::test]
async fn every_column_is_what_was_written() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("net-a", created_network("lab", "10.1.0.0/16")),
                ("rule-a", created_rule(rule_definition("wiki"))),
            ])
            .await;
        let rule = find(&world.db, "rule-a").await.unwrap().unwrap();
        let expected = AccessRuleRow {
            id: "rule-a".into(),
            name: "wiki".into(),
            description: String::new(),
            target_type: "cidr".into(),
            value: "10.1.0.0/16".into(),
            port_range: Some("8000-8100".into()),
            protocol: Some("tcp".into()),
            network_id: Some("net-a".into()),
            active: true,
            created_at: time(2),
            updated_at: time(2),
            deleted_at: None,
            revision: 1,
            etag: 2,
        };
        assert_eq!((rule.row, rule.network_name.as_deref()), (expected.clone(), Some("lab")));

        let mut definition = rule_definition("any");
        definition.target = Target::Ip(value("fd00::1"));
        (definition.port_range, definition.protocol, definition.network_id) = (None, None, None);
        definition.active = false;
        definition.description = value("Off");
        world
            .commit(vec![
                ("rule-a", user_assigned("usr-a")),
                ("rule-a", Event::Updated { definition }.into()),
                ("rule-a", group_assigned("ops")),
            ])
            .await;
        let rule = find(&world.db, "rule-a").await.unwrap().unwrap();
        let expected = AccessRuleRow {
            name: "any".into(),
            description: "Off".into(),
            target_type: "ip".into(),
            value: "fd00::1".into(),
            port_range: None,
            protocol: None,
            network_id: None,
            active: false,
            updated_at: time(4),
            revision: 3,
            etag: 4,
            ..expected
        };
        assert_eq!((rule.row, rule.network_name), (expected, None));
    })
    .await;
}

#[tokio::test]
async fn filters_search_and_every_order() {
    on_each(async |mut world: World| {
        let mut host = rule_definition("Host");
        host.target = Target::HostnameWildcard(value("*.example.com"));
        host.protocol = None;
        host.network_id = Some(value("net-b"));
        host.active = false;
        world
            .commit(vec![
                ("rule-a", created_rule(rule_definition("wiki"))),
                ("rule-b", created_rule(host)),
                ("usr-a", created_user("usr-a", "ada", &["ops"])),
                ("usr-b", created_user("usr-b", "bob", &[])),
                ("rule-a", group_assigned("ops")),
                ("rule-b", user_assigned("usr-a")),
                ("rule-b", user_assigned("usr-b")),
            ])
            .await;
        let ids = async |world: &World, wanted: Wanted, filter: Filter| {
            let listed = list(&world.db, &wanted, &filter).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            listed.rows.iter().map(|it| it.row.id.clone()).collect::<Vec<_>>().join(" ")
        };
        let only = Filter::default;
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(ids(&world, everything(), only()).await, "rule-b rule-a");
        for (filter, expected) in [
            (Filter { target_type: some("cidr"), ..only() }, "rule-a"),
            (Filter { protocol: some("tcp"), ..only() }, "rule-a"),
            (Filter { network_id: some("net-b"), ..only() }, "rule-b"),
            (Filter { active: Some(true), ..only() }, "rule-a"),
            (Filter { active: Some(false), ..only() }, "rule-b"),
            (Filter { user_id: some("usr-a"), ..only() }, "rule-b rule-a"),
            (Filter { user_id: some("usr-b"), ..only() }, "rule-b"),
            (Filter { group: some("ops"), ..only() }, "rule-a"),
            (Filter { group: some("ops"), active: Some(false), ..only() }, ""),
        ] {
            assert_eq!(ids(&world, everything(), filter.clone()).await, expected, "{filter:?}");
        }
        assert_eq!(ids(&world, search("EXAMPLE.com"), only()).await, "rule-b");
        assert_eq!(ids(&world, search("wik"), only()).await, "rule-a");
        for by in SORT {
            let expected =
                if ["name", "value"].contains(by) { "rule-a rule-b" } else { "rule-b rule-a" };
            assert_eq!(ids(&world, sorted_by(by), only()).await, expected, "{by}");
        }

        let assigned = GRANTING.users(&world.db, "rule-b", &everything()).await.unwrap();
        let assigned: Vec<_> = assigned.rows.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(assigned, ["usr-a", "usr-b"]);
        let of_groups = GRANTING.groups(&world.db, "rule-a", &everything()).await.unwrap();
        assert_eq!((of_groups.rows[0].name.as_str(), of_groups.rows[0].members), ("ops", 1));

        world
            .commit(vec![
                ("rule-b", Event::UserUnassigned { user_id: value("usr-b") }.into()),
                ("rule-a", Event::GroupUnassigned { group: value("ops") }.into()),
                ("usr-a", deleted_user()),
            ])
            .await;
        assert_eq!(GRANTING.users(&world.db, "rule-b", &everything()).await.unwrap().total, 0);
        assert_eq!(GRANTING.groups(&world.db, "rule-a", &everything()).await.unwrap().total, 0);

        world
            .commit(vec![
                ("rule-b", group_assigned("ops")),
                ("rule-b", user_assigned("usr-b")),
                ("rule-b", Event::Deleted {}.into()),
            ])
            .await;
        assert_eq!(find(&world.db, "rule-b").await.unwrap(), None);
        assert_eq!(ids(&world, everything(), only()).await, "rule-a");
        let gone = find_any(&world.db, "rule-b").await.unwrap().unwrap();
        assert_eq!(gone.row.deleted_at, Some(time(13)));
        assert_eq!(GRANTING.users(&world.db, "rule-b", &everything()).await.unwrap().total, 0);
        assert_eq!(GRANTING.groups(&world.db, "rule-b", &everything()).await.unwrap().total, 0);
    })
    .await;
}
