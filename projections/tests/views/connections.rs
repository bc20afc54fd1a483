//! VPN connections.

use crate::samples::*;
use crate::world::{World, on_each, time};
use gatekey_aggregates::session::{Beginning, Counters, EndReason, Event};
use gatekey_projections::connections::{ConnectionRow, Filter, Status, find, list};
use gatekey_projections::{ListError, Wanted};

#[tokio::test]
async fn every_column_is_what_was_written() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "ada", &[])),
                ("gw-a", registered("east")),
                ("con-a", connected("usr-a", 3)),
            ])
            .await;
        let found = find(&world.db, "con-a").await.unwrap().unwrap();
        let open = ConnectionRow {
            id: "con-a".into(),
            gateway_id: "gw-a".into(),
            user_id: "usr-a".into(),
            certificate_id: "cfg-a".into(),
            serial: "5a0f".into(),
            common_name: Some("ada@example.com".into()),
            client_ip: Some("192.0.2.7".into()),
            vpn_ip: Some("10.8.0.2".into()),
            vpn_ipv6: None,
            connected_at: time(3),
            disconnected_at: None,
            end_reason: None,
            duration_seconds: None,
            bytes_received: None,
            bytes_sent: None,
            position: 3,
            version: 1,
        };
        assert_eq!(found.row, open);
        assert_eq!(found.username.as_deref(), Some("ada"));
        assert_eq!(found.email.as_deref(), Some("ada@example.com"));
        assert_eq!(found.gateway_name.as_deref(), Some("east"));

        world.commit(vec![("con-a", ended(EndReason::GatewayLost, 10, None))]).await;
        let row = find(&world.db, "con-a").await.unwrap().unwrap().row;
        let lost = ConnectionRow {
            disconnected_at: Some(time(10)),
            end_reason: Some("gateway_lost".into()),
            version: 2,
            ..open.clone()
        };
        assert_eq!(row, lost);
        world.commit(vec![("con-a", Event::Resumed { at: crate::world::at(11) }.into())]).await;
        let row = find(&world.db, "con-a").await.unwrap().unwrap().row;
        assert_eq!(row, ConnectionRow { version: 3, ..open.clone() });

        // More than a column holds is as much as it holds, and a count never shrinks.
        world
            .commit(vec![(
                "con-a",
                ended(EndReason::Disconnected, 12, Some(counters(9, u64::MAX, 5))),
            )])
            .await;
        let late =
            Counters { duration_seconds: None, bytes_received: Some(7), bytes_sent: Some(6) };
        world.commit(vec![("con-a", Event::CountersReported { counters: late }.into())]).await;
        let row = find(&world.db, "con-a").await.unwrap().unwrap().row;
        let expected = ConnectionRow {
            disconnected_at: Some(time(12)),
            end_reason: Some("disconnected".into()),
            duration_seconds: Some(9),
            bytes_received: Some(i64::MAX),
            bytes_sent: Some(6),
            version: 5,
            ..open
        };
        assert_eq!(row, expected);
    })
    .await;
}

#[tokio::test]
async fn what_was_erased_or_never_known_is_null() {
    on_each(async |mut world: World| {
        let erased = Beginning {
            common_name: shut("usr-a"),
            client_ip: Some(shut("usr-a")),
            vpn_ip: None,
            vpn_ipv6: Some(value("fd00::2")),
            ..beginning("usr-a", 1)
        };
        let unknown = Beginning { client_ip: None, ..beginning("usr-a", 1) };
        world
            .commit(vec![
                ("con-a", Event::Began(erased).into()),
                ("con-b", Event::Began(unknown).into()),
            ])
            .await;
        let found = find(&world.db, "con-a").await.unwrap().unwrap();
        assert_eq!((found.row.common_name, found.row.client_ip), (None, None));
        assert_eq!((found.row.vpn_ip, found.row.vpn_ipv6.as_deref()), (None, Some("fd00::2")));
        assert_eq!((found.email, found.gateway_name), (None, None));
        assert_eq!(find(&world.db, "con-b").await.unwrap().unwrap().row.client_ip, None);
    })
    .await;
}

/// Twelve connections of two people; the second half open. All but the first two begin at the same
/// time, so that the id decides.
async fn twelve(world: &mut World) -> Vec<String> {
    world
        .commit(vec![
            ("usr-a", created_user("usr-a", "ada", &[])),
            ("usr-b", created_user("usr-b", "bob", &[])),
            ("gw-a", registered("east")),
        ])
        .await;
    let ids: Vec<String> = (0..12).map(|n| format!("con-{n:02}")).collect();
    for (n, id) in ids.iter().enumerate() {
        let user = if n % 2 == 0 { "usr-a" } else { "usr-b" };
        let begin = connected(user, i64::try_from(n.min(2)).unwrap());
        let mut events = vec![(id.as_str(), begin)];
        if n < 6 {
            events.push((id.as_str(), ended(EndReason::Superseded, 20, None)));
        }
        world.commit(events).await;
    }
    ids
}

#[tokio::test]
async fn pages_and_cursors_go_through_all_of_them_once() {
    on_each(async |mut world: World| {
        let mut newest_first = twelve(&mut world).await;
        newest_first.reverse();
        let db = &world.db;
        for limit in [1, 5, 6, 12, 100] {
            let mut by_page = Vec::new();
            let mut wanted = Wanted { limit, ..Wanted::default() };
            for _ in 0..13 {
                let page = list(db, &wanted, &Filter::default()).await.unwrap();
                assert_eq!(page.total, 12);
                by_page.extend(page.rows.into_iter().map(|it| it.row.id));
                wanted.offset += limit;
            }
            let mut by_cursor = Vec::new();
            let mut wanted = Wanted { limit, ..Wanted::default() };
            for _ in 0..13 {
                let page = list(db, &wanted, &Filter::default()).await.unwrap();
                assert_eq!(page.total, 12);
                by_cursor.extend(page.rows.into_iter().map(|it| it.row.id));
                let Some(next) = page.next_cursor else { break };
                // As a client sends it back, and with a page that then does not count.
                let text = next.to_string();
                assert!(text.len() <= 200, "{text}");
                wanted.cursor = Some(text.parse().unwrap());
                wanted.offset = 7;
            }
            assert_eq!(by_page, newest_first, "{limit}");
            assert_eq!(by_cursor, newest_first, "{limit}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_cursor_of_another_query_is_refused() {
    on_each(async |mut world: World| {
        twelve(&mut world).await;
        let db = &world.db;
        let first = Wanted { limit: 2, ..Wanted::default() };
        let of_ada = Filter { user_id: Some("usr-a".into()), ..Filter::default() };
        let cursor = list(db, &first, &of_ada).await.unwrap().next_cursor.unwrap();
        let with = |cursor| Wanted { cursor: Some(cursor), ..first.clone() };
        assert!(list(db, &with(cursor.clone()), &of_ada).await.is_ok());
        let of_bob = Filter { user_id: Some("usr-b".into()), ..Filter::default() };
        for filter in [Filter::default(), of_bob] {
            let refused = list(db, &with(cursor.clone()), &filter).await;
            assert!(matches!(refused, Err(ListError::Cursor)), "{refused:?}");
        }
        let audit = gatekey_projections::audit::list(
            db,
            &with(cursor),
            &gatekey_projections::audit::Filter::default(),
        )
        .await;
        assert!(matches!(audit, Err(ListError::Cursor)), "{audit:?}");
    })
    .await;
}

#[tokio::test]
async fn filters_and_search() {
    on_each(async |mut world: World| {
        twelve(&mut world).await;
        world.commit(vec![("cfg-a", issued("usr-a", "5a", 100))]).await;
        let db = &world.db;
        let ids = async |wanted: Wanted, filter: Filter| {
            let listed = list(db, &wanted, &filter).await.unwrap();
            assert_eq!(listed.total, i64::try_from(listed.rows.len()).unwrap());
            let id = |it: &gatekey_projections::connections::Connection| it.row.id.clone();
            listed.rows.iter().map(id).map(|id| id[4..].to_owned()).collect::<Vec<_>>().join(" ")
        };
        let only = Filter::default;
        let some = |text: &str| Some(text.to_owned());
        let open = Filter { status: Some(Status::Active), ..only() };
        assert_eq!(ids(everything(), open.clone()).await, "11 10 09 08 07 06");
        let over = Filter { status: Some(Status::Ended), ..only() };
        assert_eq!(ids(everything(), over).await, "05 04 03 02 01 00");
        let of_ada = Filter { user_id: some("usr-a"), ..open.clone() };
        assert_eq!(ids(everything(), of_ada).await, "10 08 06");
        assert_eq!(ids(search("ADA@"), open.clone()).await, "10 08 06");
        assert_eq!(ids(search("east"), open.clone()).await, "11 10 09 08 07 06");
        assert_eq!(ids(search("10.8.0.2"), open.clone()).await, "11 10 09 08 07 06");
        assert_eq!(ids(search("10.8.0.3"), open.clone()).await, "");
        let elsewhere = Filter { gateway_id: some("gw-b"), ..only() };
        assert_eq!(ids(everything(), elsewhere).await, "");
        let here = Filter { gateway_id: some("gw-a"), ..open.clone() };
        assert_eq!(ids(everything(), here).await, "11 10 09 08 07 06");
        let with = Filter { certificate_id: some("cfg-a"), ..open.clone() };
        // Nobody has a connection by somebody else's certificate.
        assert_eq!(ids(everything(), with).await, "10 08 06");
        let other = Filter { certificate_id: some("cfg-b"), ..open };
        assert_eq!(ids(everything(), other).await, "");
    })
    .await;
}
