//! The geo-fence's settings, its rules, and what they are attached to.

use crate::samples::*;
use crate::world::{World, on_each, time};
use gatekey_aggregates::geo_fence::{Event as FenceEvent, Mode, Values};
use gatekey_aggregates::geo_fence_rule::Event;
use gatekey_projections::Wanted;
use gatekey_projections::geo_fence::{Settings, current};
use gatekey_projections::geo_fence_rules::{
    ATTACHED_SORT, GRANTING, GeoFenceRuleRow, SORT, To, attached, find, find_any, list,
};

#[tokio::test]
async fn the_fence_is_off_until_it_is_changed() {
    on_each(async |mut world: World| {
        assert_eq!(current(&world.db).await.unwrap(), Settings::default());
        let changed =
            |enabled, mode| FenceEvent::Changed { values: Values { enabled, mode } }.into();
        world
            .commit(vec![
                ("geo-fence", changed(true, Mode::Enforce)),
                ("geo-fence", changed(true, Mode::Audit)),
            ])
            .await;
        world.commit(vec![("geo-fence", changed(false, Mode::Audit))]).await;
        let values = Values { enabled: false, mode: Mode::Audit };
        let expected = Settings { values, updated_at: Some(time(3)), revision: 3, etag: 3 };
        assert_eq!(current(&world.db).await.unwrap(), expected);
    })
    .await;
}

#[tokio::test]
async fn every_column_is_what_was_written() {
    on_each(async |mut world: World| {
        world.commit(vec![("fence-a", created_fence_rule("office", "198.51.100.0/24"))]).await;
        let found = find(&world.db, "fence-a").await.unwrap().unwrap();
        let expected = GeoFenceRuleRow {
            id: "fence-a".into(),
            name: "office".into(),
            cidr: "198.51.100.0/24".into(),
            description: String::new(),
            global_since: None,
            created_at: time(1),
            updated_at: time(1),
            deleted_at: None,
            revision: 1,
            etag: 1,
        };
        assert_eq!((&found.row, found.groups, found.users), (&expected, 0, 0));

        let mut definition = fence_definition("offices", "2001:db8::/32");
        definition.description = value("Both");
        world
            .commit(vec![
                ("fence-a", Event::GloballyAttached {}.into()),
                ("fence-a", Event::Updated { definition }.into()),
                ("fence-a", fenced_group("ops")),
                ("fence-a", fenced_group("dev")),
                ("fence-a", fenced_user("usr-a")),
            ])
            .await;
        let found = find(&world.db, "fence-a").await.unwrap().unwrap();
        let expected = GeoFenceRuleRow {
            name: "offices".into(),
            cidr: "2001:db8::/32".into(),
            description: "Both".into(),
            global_since: Some(time(2)),
            updated_at: time(3),
            revision: 3,
            etag: 3,
            ..expected
        };
        assert_eq!((&found.row, found.groups, found.users), (&expected, 2, 1));
    })
    .await;
}

#[tokio::test]
async fn rules_are_listed_searched_and_found_by_what_they_are_attached_to() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &["ops"])),
                ("fence-a", created_fence_rule("office", "198.51.100.0/24")),
                ("fence-b", created_fence_rule("Hotel", "203.0.113.0/24")),
                ("fence-b", Event::GloballyAttached {}.into()),
                ("fence-a", Event::GloballyAttached {}.into()),
                ("fence-b", fenced_group("ops")),
                ("fence-a", fenced_group("ops")),
                ("fence-b", fenced_user("usr-a")),
                ("fence-a", fenced_user("usr-a")),
            ])
            .await;
        let ids = async |world: &World, wanted: Wanted| {
            let listed = list(&world.db, &wanted).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            listed.rows.iter().map(|it| it.row.id.clone()).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(ids(&world, everything()).await, "fence-b fence-a");
        assert_eq!(ids(&world, search("OFF")).await, "fence-a");
        assert_eq!(ids(&world, search("203.0")).await, "fence-b");
        for by in SORT {
            let expected = if *by == "name" { "fence-a fence-b" } else { "fence-b fence-a" };
            assert_eq!(ids(&world, sorted_by(by)).await, expected, "{by}");
        }

        let of = async |world: &World, to: To<'_>, wanted: Wanted| {
            let listed = attached(&world.db, to, &wanted).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            listed.rows.iter().map(|it| it.id.clone()).collect::<Vec<_>>().join(" ")
        };
        for (to, since) in [(To::All, 5), (To::Group("ops"), 7), (To::User("usr-a"), 9)] {
            assert_eq!(of(&world, to, everything()).await, "fence-b fence-a", "{to:?}");
            assert_eq!(of(&world, to, search("hot")).await, "fence-b", "{to:?}");
            for by in ATTACHED_SORT {
                let expected = if *by == "cidr" { "fence-b fence-a" } else { "fence-a fence-b" };
                assert_eq!(of(&world, to, sorted_by(by)).await, expected, "{to:?} {by}");
            }
            let first = attached(&world.db, to, &search("office")).await.unwrap().rows.remove(0);
            assert_eq!((first.name.as_str(), first.attached_at), ("office", time(since)));
        }
        assert_eq!(of(&world, To::Group("dev"), everything()).await, "");
        assert_eq!(of(&world, To::User("usr-b"), everything()).await, "");
        let to_users = GRANTING.users(&world.db, "fence-a", &everything()).await.unwrap();
        assert_eq!(to_users.rows[0].username.as_deref(), Some("ada"));
        let to_groups = GRANTING.groups(&world.db, "fence-a", &everything()).await.unwrap();
        assert_eq!((to_groups.rows[0].name.as_str(), to_groups.rows[0].members), ("ops", 1));

        world
            .commit(vec![
                ("fence-a", Event::GloballyDetached {}.into()),
                ("fence-a", Event::GroupDetached { group: value("ops") }.into()),
                ("fence-a", Event::UserDetached { user_id: value("usr-a") }.into()),
            ])
            .await;
        for to in [To::All, To::Group("ops"), To::User("usr-a")] {
            assert_eq!(of(&world, to, everything()).await, "fence-b", "{to:?}");
        }
        world.commit(vec![("usr-a", deleted_user())]).await;
        assert_eq!(of(&world, To::User("usr-a"), everything()).await, "");
        world.commit(vec![("fence-b", Event::Deleted {}.into())]).await;
        for to in [To::All, To::Group("ops")] {
            assert_eq!(of(&world, to, everything()).await, "", "{to:?}");
        }
        assert_eq!(ids(&world, everything()).await, "fence-a");
        assert_eq!(find(&world.db, "fence-b").await.unwrap(), None);
        let gone = find_any(&world.db, "fence-b").await.unwrap().unwrap();
        assert_eq!((gone.row.deleted_at, gone.row.global_since), (Some(time(14)), None));
    })
    .await;
}
