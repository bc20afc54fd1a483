//! However a history is cut into batches, the rows are the same; and on both databases.

use crate::arbitrary;
use crate::shape::dump;
use crate::world::World;
use gatekey_aggregates::{Event, Recorded};
use gatekey_projections::{Conn, all_views, project};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::Union;
use proptest::test_runner::{Config, TestRunner};
use std::cell::RefCell;
use std::collections::BTreeMap;

/// An id of the stream that such an event can be of: one of three, so that they meet.
fn stream(event: &Event, n: u8) -> String {
    let prefix = match event {
        Event::AccessRule(_) => "rule-",
        Event::Certificate(_) => "cfg-",
        Event::Gateway(_) => "gw-",
        Event::GeoFenceRule(_) => "fence-",
        Event::Login(_) => "ses-",
        Event::MeshHub(_) => "hub-",
        Event::Network(_) => "net-",
        Event::Session(_) => "con-",
        Event::User(_) => "usr-",
        Event::Attempt(_) => return "node/2026-11-24".to_owned(),
        Event::Authority(_) => return "authority".to_owned(),
        Event::GeoFence(_) => return "geo-fence".to_owned(),
        Event::Settings(_) => return "settings".to_owned(),
    };
    format!("{prefix}{}", char::from(b'a' + n % 3))
}

/// Few groups, so that what was granted is taken away again.
fn narrow(mut event: Event, n: u8) -> Event {
    use gatekey_aggregates::access_rule::Event::{GroupAssigned, GroupUnassigned};
    use gatekey_aggregates::gateway::Event::{GroupGranted, GroupRevoked};
    use gatekey_aggregates::geo_fence_rule::Event::{GroupAttached, GroupDetached};
    use gatekey_aggregates::mesh_hub;
    if let Event::Gateway(GroupGranted { group } | GroupRevoked { group })
    | Event::MeshHub(
        mesh_hub::Event::GroupGranted { group } | mesh_hub::Event::GroupRevoked { group },
    )
    | Event::AccessRule(GroupAssigned { group } | GroupUnassigned { group })
    | Event::GeoFenceRule(GroupAttached { group } | GroupDetached { group }) = &mut event
    {
        *group = ["a", "b"][usize::from(n % 2)].parse().unwrap();
    }
    event
}

/// A history and where it is cut.
fn history() -> impl Strategy<Value = Vec<(String, Event, bool)>> {
    let event = (Union::new(arbitrary::events()), any::<u8>(), any::<bool>());
    vec(event.prop_map(|(event, n, cut)| (stream(&event, n), narrow(event, n / 3), cut)), 0..60)
}

/// The rows that batches leave, in a transaction that is then taken back.
async fn fold(conn: &mut Conn, batches: &[&[Recorded]]) -> BTreeMap<&'static str, Vec<String>> {
    conn.begin().await.unwrap();
    for batch in batches {
        project(conn, all_views(), batch, "").await.unwrap();
    }
    let rows = dump(conn, "").await;
    conn.rollback().await.unwrap();
    rows
}

/// The batches that a history falls into when it is cut before some of its events.
fn cut<'a>(log: &'a [Recorded], cuts: &[bool]) -> Vec<&'a [Recorded]> {
    let mut starts: Vec<usize> = (0..log.len()).filter(|i| *i == 0 || cuts[*i]).collect();
    starts.push(log.len());
    starts.windows(2).map(|pair| &log[pair[0]..pair[1]]).collect()
}

#[test]
fn a_history_gives_the_same_rows_in_one_batch_and_in_many() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let sqlite = RefCell::new(runtime.block_on(World::sqlite()));
    let postgres = RefCell::new(runtime.block_on(World::postgres()));
    let counts = RefCell::new(BTreeMap::<&str, usize>::new());
    let mut runner = TestRunner::new(Config { cases: 128, ..Config::default() });
    let result = runner.run(&history(), |history| {
        let sqlite = &mut *sqlite.borrow_mut();
        let postgres = &mut *postgres.borrow_mut();
        let cuts: Vec<bool> = history.iter().map(|(.., cut)| *cut).collect();
        let events = history.iter().map(|(id, event, _)| (id.as_str(), event.clone())).collect();
        let log = sqlite.record(events);
        let batches = cut(&log, &cuts);
        let one_by_one: Vec<&[Recorded]> = log.chunks(1).collect();
        let whole = runtime.block_on(fold(&mut sqlite.conn, &[&log]));
        prop_assert_eq!(&runtime.block_on(fold(&mut sqlite.conn, &one_by_one)), &whole);
        prop_assert_eq!(&runtime.block_on(fold(&mut sqlite.conn, &batches)), &whole);
        prop_assert_eq!(&runtime.block_on(fold(&mut postgres.conn, &[&log])), &whole);
        prop_assert_eq!(&runtime.block_on(fold(&mut postgres.conn, &batches)), &whole);
        for (table, rows) in whole {
            *counts.borrow_mut().entry(table).or_default() += rows.len();
        }
        Ok(())
    });
    result.unwrap();
    // Histories in which nothing ever comes into a table would prove nothing of it.
    let counts = counts.borrow();
    assert!(counts.values().all(|rows| *rows > 0), "{counts:?}");
}
