//! Looking for text: by an index of three characters where it can, and never otherwise than by looking
//! at each.

use crate::samples::*;
use crate::world::{World, on_each};
use gatekey_aggregates::user::{Event, Profile};
use gatekey_projections::{Cursor, Wanted, connections, gateways, users};

/// What a user is called. The texts are made to be mistaken for something else.
fn names() -> Vec<String> {
    let odd = [
        "ada",
        "adam",
        "AdAm",
        "d'Arc",
        "100%",
        "a_b",
        r"back\slash",
        "\"quoted\"",
        "name : ada",
        "ada OR eve",
        "NEAR(ada",
        "ada*",
        "-ada",
        "(ada)",
        "Ärmel",
        "日本語",
        "a\u{301}da",
        "$1 {}",
        "aaa",
        "aaaa",
        "aba",
        "^ada",
        "ada AND",
        "{name} : ada",
        "ada+",
        "  a  d  a  ",
    ];
    odd.iter().map(ToString::to_string).collect()
}

async fn people(world: &mut World) -> Vec<(String, String)> {
    let people: Vec<(String, String)> =
        names().into_iter().enumerate().map(|(n, name)| (format!("usr-{n:03}"), name)).collect();
    for (id, name) in &people {
        let profile =
            Profile { name: Some(open(id, name)), ..profile(id, &format!("u{}", &id[4..])) };
        let events = vec![
            (id.as_str(), created_user(id, "x", &[])),
            (id, Event::Updated { profile }.into()),
        ];
        world.commit(events).await;
    }
    people
}

#[tokio::test]
async fn the_index_finds_what_looking_at_each_would() {
    on_each(async |mut world: World| {
        let people = people(&mut world).await;
        let mut found_some = 0;
        let mut parts = Vec::new();
        for (_, name) in &people {
            let chars: Vec<char> = name.chars().collect();
            for from in 0..chars.len() {
                for to in (from + 1)..=chars.len().min(from + 6) {
                    let part: String = chars[from..to].iter().collect();
                    parts.extend(Some(part.trim().to_owned()).filter(|it| !it.is_empty()));
                }
            }
        }
        parts.extend(["xyz".to_owned(), "adaeve".to_owned()]);
        parts.sort();
        parts.dedup();
        for q in &parts {
            let listed =
                users::list(&world.db, &search(q), &users::Filter::default()).await.unwrap();
            let mut found: Vec<&str> = listed.rows.iter().map(|it| it.row.id.as_str()).collect();
            found.sort_unstable();
            let lower = q.to_ascii_lowercase();
            let expected: Vec<&str> = people
                .iter()
                .filter(|(id, name)| {
                    let texts =
                        [name.trim().to_ascii_lowercase(), format!("u{0}@example.com", &id[4..])];
                    texts.iter().any(|it| it.contains(&lower))
                        || format!("u{}", &id[4..]).contains(&lower)
                })
                .map(|(id, _)| id.as_str())
                .collect();
            assert_eq!(found, expected, "{q:?}");
            assert_eq!(listed.total, i64::try_from(found.len()).unwrap(), "{q:?}");
            found_some += usize::from(!found.is_empty());
        }
        assert!(found_some > 100, "{found_some} of {} texts were found", parts.len());
    })
    .await;
}

#[tokio::test]
async fn what_is_renamed_or_deleted_is_found_as_it_is_now() {
    on_each(async |mut world: World| {
        world
            .commit(vec![
                ("usr-a", created_user("usr-a", "adalbert", &[])),
                ("gw-a", registered("eastern")),
            ])
            .await;
        let users = async |q: &str| {
            users::list(&world.db, &search(q), &users::Filter::default()).await.unwrap().rows.len()
        };
        assert_eq!((users("DALB").await, users("bertha").await), (1, 0));
        let profile = profile("usr-a", "bertha");
        world.commit(vec![("usr-a", Event::Updated { profile }.into())]).await;
        let users = async |q: &str| {
            users::list(&world.db, &search(q), &users::Filter::default()).await.unwrap().rows.len()
        };
        assert_eq!((users("DALB").await, users("BERTHA").await), (0, 1));
        world.commit(vec![("usr-a", deleted_user())]).await;
        let users = users::list(&world.db, &search("bertha"), &users::Filter::default()).await;
        assert_eq!(users.unwrap().total, 0);
        let gateways = async |q: &str| {
            let listed = gateways::list(&world.db, &search(q), &gateways::Filter::default()).await;
            listed.unwrap().total
        };
        assert_eq!((gateways("ASTER").await, gateways("western").await), (1, 0));
    })
    .await;
}

/// A name that few, or many, bear; and the connections of those.
#[tokio::test]
async fn many_are_found_as_few_are() {
    on_each(async |mut world: World| {
        let ids: Vec<String> = (0..600).map(|n| format!("usr-{n:03}")).collect();
        let event = |id: &String| created_user(id, &format!("crowd-{}", &id[4..]), &["all"]);
        world.commit(ids.iter().map(|id| (id.as_str(), event(id))).collect()).await;
        world.commit(vec![("gw-a", registered("east"))]).await;
        let events = (0..2_100_i64).map(|n| {
            let user = if n % 100 == 7 { "usr-007" } else { "usr-008" };
            (format!("con-{n:04}"), connected(user, n))
        });
        let events: Vec<_> = events.collect();
        for some in events.chunks(500) {
            world.commit(some.iter().map(|(id, it)| (id.as_str(), it.clone())).collect()).await;
        }
        let page = |q: &str, cursor: Option<Cursor>| Wanted {
            q: Some(q.to_owned()),
            cursor,
            ..Wanted::default()
        };
        for (q, total) in [("crowd", 600), ("crowd-00", 10), ("CROWD-599", 1), ("cr", 600)] {
            let listed = users::list(&world.db, &page(q, None), &users::Filter::default()).await;
            let listed = listed.unwrap();
            assert_eq!((listed.total, listed.total_exact), (total, true), "{q}");
            let expected = usize::try_from(total.min(20)).unwrap();
            assert_eq!(listed.rows.len(), expected, "{q}");
            assert!(listed.rows.is_sorted_by_key(|it| it.row.username.clone()), "{q}");
        }
        let group = users::Filter { group: Some("all".to_owned()), ..Default::default() };
        assert_eq!(users::list(&world.db, &everything(), &group).await.unwrap().total, 600);

        // Few of one, many of the other, all of the gateway, those of a crowd, and those by address.
        for (q, total) in [
            ("crowd-007", 21_i64),
            ("crowd-008", 2_079),
            ("east", 2_100),
            ("crowd-00", 2_100),
            ("crowd", 2_100),
            ("10.8.0.2", 2_100),
            ("crowd-599", 0),
            ("nobody", 0),
        ] {
            let (mut seen, mut cursor) = (Vec::new(), None);
            let all = connections::Filter::default();
            loop {
                let wanted = Wanted { limit: 100, ..page(q, cursor) };
                let listed = connections::list(&world.db, &wanted, &all).await.unwrap();
                assert_eq!((listed.total, listed.total_exact), (total, true), "{q}");
                seen.extend(listed.rows.into_iter().map(|it| it.row.connected_at));
                cursor = listed.next_cursor;
                if cursor.is_none() {
                    break;
                }
            }
            assert_eq!(i64::try_from(seen.len()).unwrap(), total, "{q}");
            assert!(seen.is_sorted_by(|a, b| a >= b), "{q}");
        }
        // A cursor belongs to what was looked for.
        let of = async |q: &str, cursor| {
            connections::list(&world.db, &page(q, cursor), &connections::Filter::default()).await
        };
        let cursor = of("crowd-007", None).await.unwrap().next_cursor;
        assert!(cursor.is_some() && of("crowd-007", cursor.clone()).await.is_ok());
        assert!(of("crowd-008", cursor).await.is_err());
    })
    .await;
}
