//! What every list does alike.

use crate::samples::*;
use crate::world::{World, on_each};
use gatekey_aggregates::network;
use gatekey_projections::connections;
use gatekey_projections::networks::{Filter, list};
use gatekey_projections::{Cursor, ListError, Sort, Wanted};

#[tokio::test]
async fn a_page_is_cut_out_of_the_whole() {
    on_each(async |mut world: World| {
        let names: Vec<String> = (0..7).map(|n| format!("net-{n}")).collect();
        let events = names.iter().enumerate();
        let events = events
            .map(|(n, name)| (name.as_str(), created_network(name, &format!("10.{n}.0.0/16"))));
        world.commit(events.collect()).await;
        for (limit, offset, expected) in
            [(3, 0, &names[..3]), (3, 3, &names[3..6]), (3, 6, &names[6..]), (3, 9, &[])]
        {
            let wanted = Wanted { limit, offset, ..Wanted::default() };
            let listed = list(&world.db, &wanted, &Filter::default()).await.unwrap();
            let names: Vec<_> = listed.rows.iter().map(|it| it.row.name.clone()).collect();
            assert_eq!((names.as_slice(), listed.total), (expected, 7));
            assert_eq!(listed.next_cursor, None);
        }
    })
    .await;
}

#[tokio::test]
async fn no_more_than_ten_thousand_are_counted_unless_they_are_all() {
    on_each(async |mut world: World| {
        let ids: Vec<String> = (0..10_050).map(|n| format!("net-{n}")).collect();
        for some in ids.chunks(2_000) {
            let event = |id: &String| created_network(id, "10.0.0.0/24");
            world.commit(some.iter().map(|id| (id.as_str(), event(id))).collect()).await;
        }
        world.commit(vec![("net-7", network::Event::Deleted {}.into())]).await;
        let total = async |wanted: &Wanted| {
            let listed = list(&world.db, wanted, &Filter::default()).await.unwrap();
            (listed.rows.len(), listed.total, listed.total_exact)
        };
        let page = |q: Option<&str>, offset| Wanted {
            q: q.map(str::to_owned),
            offset,
            ..Wanted::default()
        };
        // All of them are counted as they come and go.
        assert_eq!(total(&page(None, 0)).await, (20, 10_049, true));
        assert_eq!(total(&page(None, 20_000)).await, (0, 10_049, true));
        // What a search leaves is counted as far as that.
        assert_eq!(total(&page(Some("NET-"), 0)).await, (20, 10_000, false));
        assert_eq!(total(&page(Some("NET-"), 10_020)).await, (20, 10_040, false));
        assert_eq!(total(&page(Some("NET-"), 10_040)).await, (9, 10_049, true));
        assert_eq!(total(&page(Some("net-10"), 0)).await, (20, 161, true));
        assert_eq!(total(&page(Some("net-777"), 0)).await, (11, 11, true));
        assert_eq!(total(&page(Some("no-net"), 0)).await, (0, 0, true));
    })
    .await;
}

#[tokio::test]
async fn what_is_searched_for_is_text_and_not_a_pattern() {
    on_each(async |mut world: World| {
        let names = [r"100%", r"a_b", r"back\slash", r"it's", r#"quote""#, "Ärmel", "$1"];
        let ids: Vec<String> = (0..names.len()).map(|n| format!("net-{n}")).collect();
        let event = |(n, name): (usize, &&str)| {
            (ids[n].as_str(), created_network(name, &format!("10.{n}.0.0/16")))
        };
        world.commit(names.iter().enumerate().map(event).collect()).await;
        for (q, expected) in [
            ("0%", "100%"),
            ("_B", "a_b"),
            (r"K\s", r"back\slash"),
            ("T'S", "it's"),
            (r#"E""#, r#"quote""#),
            ("Ärm", "Ärmel"),
            ("$", "$1"),
        ] {
            let listed = list(&world.db, &search(q), &Filter::default()).await.unwrap();
            let names: Vec<_> = listed.rows.iter().map(|it| it.row.name.as_str()).collect();
            assert_eq!((names, listed.total), (vec![expected], 1), "{q}");
        }
        for q in ["{}", "b_", "x%", r"\\"] {
            let listed = list(&world.db, &search(q), &Filter::default()).await.unwrap();
            assert_eq!(listed.total, 0, "{q}");
        }
    })
    .await;
}

#[tokio::test]
async fn an_unknown_order_and_a_cursor_where_none_is_given_are_refused() {
    on_each(async |world: World| {
        let sort = Some(Sort { by: "etag; DROP TABLE networks", descending: false });
        let refused = list(&world.db, &Wanted { sort, ..everything() }, &Filter::default()).await;
        assert!(matches!(refused, Err(ListError::Sort(_))), "{refused:?}");
        let cursor: Cursor = "eyJxIjoiIiwiayI6W119".parse().unwrap();
        let wanted = Wanted { cursor: Some(cursor), ..everything() };
        let refused = list(&world.db, &wanted, &Filter::default()).await;
        assert!(matches!(refused, Err(ListError::Cursor)), "{refused:?}");
    })
    .await;
}

#[test]
fn what_is_no_cursor_is_not_read_as_one() {
    use base64::Engine;
    let encode = |json: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json);
    assert!(encode(r#"{"q":"0","k":[1,"a"]}"#).parse::<Cursor>().is_ok());
    for wrong in [
        String::new(),
        "%".to_owned(),
        "null".to_owned(),
        encode(""),
        encode("{}"),
        encode(r#"{"q":"0","k":[1.5]}"#),
        encode(r#"{"q":"0","k":[99999999999999999999]}"#),
        encode(r#"{"q":"0","k":["\u0000"]}"#),
    ] {
        let refused = wrong.parse::<Cursor>();
        assert!(matches!(refused, Err(ListError::Cursor)), "{wrong}");
    }
}

/// A cursor with the right fingerprint and a key that someone has changed.
#[tokio::test]
async fn a_key_of_another_kind_is_refused_before_the_database_sees_it() {
    use base64::Engine;
    let engine = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    on_each(async |mut world: World| {
        world
            .commit(vec![("con-a", connected("usr-a", 1)), ("con-b", connected("usr-a", 1))])
            .await;
        let first = Wanted { limit: 1, ..Wanted::default() };
        let list = async |wanted: &Wanted| {
            connections::list(&world.db, wanted, &connections::Filter::default()).await
        };
        let cursor = list(&first).await.unwrap().next_cursor.unwrap().to_string();
        let json = engine.decode(cursor).unwrap();
        let genuine: serde_json::Value = serde_json::from_slice(&json).unwrap();
        for key in [
            serde_json::json!(["a", "b"]),
            serde_json::json!([1, 2]),
            serde_json::json!([1]),
            serde_json::json!([1, "a", "b"]),
        ] {
            let mut forged = genuine.clone();
            forged["k"] = key;
            let cursor = Some(engine.encode(forged.to_string()).parse().unwrap());
            let refused = list(&Wanted { cursor, ..first.clone() }).await;
            assert!(matches!(refused, Err(ListError::Cursor)), "{forged}: {refused:?}");
        }
    })
    .await;
}
