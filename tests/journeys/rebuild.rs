//! Views and the access index are functions of the log: rebuilt, they are what they were live.

use crate::harness::Kind;
use crate::harness::history::{History, carry_out};
use crate::harness::log::{Log, Node, master, rows_of};
use crate::harness::wait::poll_once;
use chrono::{DateTime, Utc};
use gatekey::access::{self, State};
use gatekey::event_log::rebuild;
use gatekey_aggregates::certificate::Subject;
use gatekey_aggregates::values::from_micros;
use gatekey_aggregates::{PersonId, Personal};
use gatekey_projections::{View, all_views};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::task::JoinSet;

impl Log {
    async fn rows(&self) -> BTreeMap<String, Vec<String>> {
        rows_of(self.db(), all_views()).await
    }

    async fn rebuild(&self, views: &[&'static dyn View]) -> i64 {
        rebuild(&self.location(), &self.node.opened.reader, views, |_, _| {}).await.unwrap()
    }

    /// The state folded from the whole log.
    async fn folded(&self) -> State {
        let mut state = State::default();
        for event in self.events().await {
            state.apply(&event);
        }
        state
    }
}

on_both! {
    /// Commands from several callers, then events that nobody decided, many to a batch.
    async fn rebuilt_views_are_what_the_live_ones_were(kind: Kind) {
        let log = Log::new(kind).await;
        let mut history = History::new(1);
        carry_out(log.bus(), history.beginnings(), 1).await;
        let news = carry_out(log.bus(), history.commands(400), 4).await;
        assert!(news > 100, "{news} of 400 commands were news");
        let live = log.rows().await;
        let head = log.node.opened.reader.head().await.unwrap();
        assert_eq!(log.rebuild(all_views()).await, head);
        assert_eq!(log.rows().await, live);

        let (log, live) = with_something_in_every_table(kind).await;
        // Leftovers of a rebuild that did not come to its end are no obstacle.
        let leftover = "CREATE TABLE users__rebuild (id text)";
        log.db().execute(leftover, &[]).await.unwrap();
        log.rebuild(all_views()).await;
        assert_eq!(log.rows().await, live);
        log.db().execute("DELETE FROM users", &[]).await.unwrap();
        let users: Vec<_> = all_views().iter().filter(|it| it.name() == "users").copied().collect();
        log.rebuild(&users).await;
        assert_eq!(log.rows().await, live);
    }

    async fn views_are_rebuilt_while_writers_go_on(kind: Kind) {
        let log = Log::new(kind).await;
        let mut history = History::new(2);
        carry_out(log.bus(), history.commands(200), 4).await;
        let enough = Arc::new(AtomicBool::new(false));
        let writing = tokio::spawn({
            let (bus, enough) = (log.bus().clone(), enough.clone());
            async move {
                let mut news = 0;
                while !enough.load(Ordering::Relaxed) {
                    news += carry_out(&bus, history.commands(20), 4).await;
                }
                news
            }
        });
        for _ in 0..3 {
            log.rebuild(all_views()).await;
        }
        enough.store(true, Ordering::Relaxed);
        let news = writing.await.unwrap();
        assert!(news > 0, "nothing was written meanwhile");
        let live = log.rows().await;
        log.rebuild(all_views()).await;
        assert_eq!(log.rows().await, live);
    }

    async fn views_of_another_version_are_rebuilt_at_start(kind: Kind) {
        let log = Log::new(kind).await;
        let mut history = History::new(3);
        carry_out(log.bus(), history.beginnings(), 1).await;
        carry_out(log.bus(), history.commands(200), 4).await;
        let live = log.rows().await;
        for statement in
            ["UPDATE views SET version = 0 WHERE name = 'gateways'", "UPDATE gateways SET port = 1"]
        {
            log.db().execute(statement, &[]).await.unwrap();
        }
        assert_ne!(log.rows().await, live);
        log.open(master()).await.unwrap();
        assert_eq!(log.rows().await, live);
    }

    async fn the_index_that_the_views_give_is_the_one_that_the_log_gives(kind: Kind) {
        let log = Log::new(kind).await;
        let mut history = History::new(4);
        carry_out(log.bus(), history.beginnings(), 1).await;
        for _ in 0..4 {
            carry_out(log.bus(), history.commands(200), 4).await;
            for now in [0, 1_000_000_000_000_000, 3_000_000_000_000_000].map(from_micros) {
                let loaded = access::load(log.db(), now).await.unwrap();
                same_index(loaded, log.folded().await, now);
            }
        }
    }
}

both! {
    async fn the_command_rebuilds_beside_a_running_server(world: World) {
        let node = Node::at(&world.database_url()).await;
        carry_out(&node.running.bus, History::new(5).commands(100), 4).await;
        let users: Vec<_> = all_views().iter().filter(|it| it.name() == "users").copied().collect();
        let live = rows_of(&node.opened.db, &users).await;
        node.opened.db.execute("UPDATE users SET role = 'auditor'", &[]).await.unwrap();
        let output = world.server.command(&["projections", "rebuild", "users"]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{output:?}");
        assert!(said.contains("Rebuilt users up to position"), "{said}");
        assert_eq!(rows_of(&node.opened.db, &users).await, live);
        world.anyone().get("/ready").await.has_status(200);
    }
}

/// A log of events that nobody decided, and its rows. Now and then a history leaves nothing of a kind:
/// then another one is taken.
async fn with_something_in_every_table(kind: Kind) -> (Log, BTreeMap<String, Vec<String>>) {
    let mut empty = Vec::new();
    for seed in 7..27 {
        let log = Log::new(kind).await;
        // Of its own, so that what commands there are does not matter.
        let mut history = History::new(seed);
        let mut writes = JoinSet::new();
        // In order, and never waiting for the one before: so batches are large.
        let (first, rest) = (history.events(300, 1), history.events(400, 9));
        for append in first.into_iter().chain(rest) {
            let mut one = Box::pin({
                let writer = log.node.running.writer.clone();
                async move { writer.append(append).await }
            });
            if poll_once(&mut one).await.is_none() {
                writes.spawn(one);
            }
        }
        for written in writes.join_all().await {
            written.unwrap();
        }
        let live = log.rows().await;
        empty = live.iter().filter(|it| it.1.is_empty()).map(|it| it.0.clone()).collect();
        if empty.is_empty() {
            return (log, live);
        }
    }
    panic!("no history filled {empty:?}");
}

fn of<T: Clone>(person: &PersonId, value: &mut Personal<T>) {
    *value = match value.open() {
        Some(open) => Personal::new(person.clone(), open.clone()),
        None => Personal::Shut { of: person.clone() },
    };
}

/// Compares what matters. What is over, or belongs to nobody, may be in one and not in the other.
#[track_caller]
fn same_index(loaded: State, folded: State, now: DateTime<Utc>) {
    let relevant = |mut state: State| {
        state.prune(now);
        // A list that was signed before the start is signed again.
        state.last_revocation = 0;
        let users = state.users.clone();
        state.logins.retain(|_, it| users.get(&it.user_id).is_some_and(|user| user.active));
        state.api_keys.retain(|_, it| {
            users.contains_key(&it.user_id) && it.key.expires_at.is_none_or(|at| at > now)
        });
        let (logins, api_keys) = (&state.logins, &state.api_keys);
        state.login_tokens.retain(|_, hash| logins.contains_key(hash));
        state.api_key_hashes.retain(|_, hash| api_keys.contains_key(hash));
        // Here anybody's name may stand for anybody; and an erased display name is none.
        let person = PersonId::from("usr-a".to_owned());
        for user in state.users.values_mut() {
            let profile = &mut user.profile;
            of(&person, &mut profile.username);
            of(&person, &mut profile.email);
            profile.name = profile.name.take().filter(|name| name.open().is_some());
            profile.name.iter_mut().for_each(|name| of(&person, name));
        }
        for certificate in state.certificates.values_mut() {
            if let Subject::Client { common_name, .. } = &mut certificate.subject {
                of(&person, common_name);
            }
        }
        state
    };
    let (loaded, folded) = (relevant(loaded), relevant(folded));
    for (id, entry) in &loaded.gateways {
        assert_eq!(Some(entry), folded.gateways.get(id), "{id} at {now}");
    }
    assert_eq!(loaded.gateways.len(), folded.gateways.len());
    assert_eq!(loaded.users, folded.users);
    assert_eq!(loaded.rules, folded.rules);
    assert_eq!(loaded.certificates, folded.certificates);
    assert_eq!(loaded.serials_by_name, folded.serials_by_name);
    assert_eq!(loaded.sessions, folded.sessions);
    assert_eq!(loaded.networks, folded.networks);
    assert_eq!(loaded.api_keys, folded.api_keys);
    assert_eq!(loaded.fences, folded.fences);
    assert_eq!(loaded.hubs, folded.hubs);
    assert_eq!(loaded.logins, folded.logins);
    assert_eq!(loaded, folded);
}
