//! The audit.

use crate::samples::*;
use crate::world::{World, on_each, time};
use gatekey_projections::Wanted;
use gatekey_projections::audit::{Filter, find, list};

async fn some_history(world: &mut World) {
    world.commit_by("usr-x", vec![("gw-a", registered("east"))]).await;
    world.commit_by("usr-y", vec![("gw-b", registered("west"))]).await;
    world
        .commit_by("usr-x", vec![("gw-a", group_granted("ops")), ("gw-a", user_granted("usr-a"))])
        .await;
    world.commit_by("usr-x", vec![("net-a", created_network("lab", "10.1.0.0/16"))]).await;
}

#[tokio::test]
async fn an_event_is_shown_as_it_is_stored() {
    on_each(async |mut world: World| {
        some_history(&mut world).await;
        let row = find(&world.db, 3).await.unwrap().unwrap();
        assert_eq!((row.position, row.recorded_at, row.sequence), (3, time(3), 2));
        assert_eq!((row.aggregate_type.as_str(), row.aggregate_id.as_str()), ("gateway", "gw-a"));
        assert_eq!(row.event_type, "gateway.group_granted");
        assert_eq!(row.payload, r#"{"group_granted":{"group":"ops"}}"#);
        let metadata: serde_json::Value = serde_json::from_str(&row.metadata).unwrap();
        assert_eq!(metadata["actor_id"], "usr-x");
        assert_eq!(find(&world.db, 6).await.unwrap(), None);
    })
    .await;
}

#[tokio::test]
async fn filters_pages_and_cursors() {
    on_each(async |mut world: World| {
        some_history(&mut world).await;
        let db = &world.db;
        let positions = async |wanted: Wanted, filter: Filter| {
            let listed = list(db, &wanted, &filter).await.unwrap();
            (listed.rows.iter().map(|it| it.position).collect::<Vec<_>>(), listed.total)
        };
        let only = Filter::default;
        let some = |text: &str| Some(text.to_owned());
        for (filter, expected) in [
            (only(), vec![5, 4, 3, 2, 1]),
            (Filter { aggregate_type: some("gateway"), ..only() }, vec![4, 3, 2, 1]),
            (Filter { aggregate_id: some("gw-a"), ..only() }, vec![4, 3, 1]),
            (Filter { actor_id: some("usr-y"), ..only() }, vec![2]),
            (Filter { event_type: some("gateway.registered"), ..only() }, vec![2, 1]),
            (Filter { since: Some(time(2)), until: Some(time(4)), ..only() }, vec![3, 2]),
            (
                Filter {
                    aggregate_type: some("gateway"),
                    aggregate_id: some("gw-a"),
                    actor_id: some("usr-x"),
                    event_type: some("gateway.user_granted"),
                    since: Some(time(1)),
                    until: Some(time(100)),
                },
                vec![4],
            ),
        ] {
            let total = i64::try_from(expected.len()).unwrap();
            assert_eq!(
                positions(everything(), filter.clone()).await,
                (expected, total),
                "{filter:?}"
            );
        }
        let page = Wanted { limit: 2, offset: 2, ..Wanted::default() };
        assert_eq!(positions(page, only()).await, (vec![3, 2], 5));

        // New events come in front and do not disturb who goes on from a cursor.
        let first = list(db, &Wanted { limit: 2, ..Wanted::default() }, &only()).await.unwrap();
        let cursor = first.next_cursor;
        world.commit(vec![("net-b", created_network("attic", "10.2.0.0/16"))]).await;
        let db = &world.db;
        let next = Wanted { limit: 2, cursor, ..Wanted::default() };
        let second = list(db, &next, &only()).await.unwrap();
        assert_eq!(second.rows.iter().map(|it| it.position).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(second.total, 6);
        let last = Wanted { limit: 2, cursor: second.next_cursor, ..Wanted::default() };
        let last = list(db, &last, &only()).await.unwrap();
        assert_eq!((last.rows.len(), last.next_cursor), (1, None));
    })
    .await;
}

#[tokio::test]
async fn an_id_alone_finds_its_stream() {
    on_each(async |mut world: World| {
        let streams = vec![
            ("gw-a", registered("east")),
            ("usr-a", created_user("usr-a", "ada", &[])),
            ("net-a", created_network("lab", "10.1.0.0/16")),
            ("rule-a", created_rule(rule_definition("wiki"))),
            ("cfg-a", issued("usr-a", "1", 100)),
            ("con-a", connected("usr-a", 1)),
            ("ses-a", signed_in("usr-a", 'a', 100)),
            ("authority", authority_created()),
        ];
        world.commit(streams.clone()).await;
        for (id, event) in streams {
            let filter = Filter { aggregate_id: Some(id.to_owned()), ..Filter::default() };
            let listed = list(&world.db, &everything(), &filter).await.unwrap();
            assert_eq!((listed.rows.len(), listed.total), (1, 1), "{id}");
            assert_eq!(listed.rows[0].event_type, event.code());
        }
    })
    .await;
}
