//! The log's streams are stock cqrs-es streams: postgres-es and sqlite-es load every one that we wrote.

use crate::harness::history::{History, carry_out};
use crate::harness::log::Log;
use cqrs_es::persist::{PersistedEventRepository, PersistedEventStore};
use cqrs_es::{AggregateContext, EventStore};
use gatekey_aggregates::access_rule::AccessRule;
use gatekey_aggregates::attempt::Attempt;
use gatekey_aggregates::authority::Authority;
use gatekey_aggregates::certificate::Certificate;
use gatekey_aggregates::gateway::Gateway;
use gatekey_aggregates::geo_fence::GeoFence;
use gatekey_aggregates::geo_fence_rule::GeoFenceRule;
use gatekey_aggregates::login::Login;
use gatekey_aggregates::mesh_hub::MeshHub;
use gatekey_aggregates::network::Network;
use gatekey_aggregates::session::Session;
use gatekey_aggregates::settings::Settings;
use gatekey_aggregates::user::User;
use gatekey_aggregates::{Event, Root};
use gatekey_projections::Db;
use postgres_es::PostgresEventRepository;
use serde_json::Value;
use sqlite_es::SqliteEventRepository;
use std::collections::{BTreeMap, BTreeSet};

/// Sequence and event code, by stream.
type Streams = BTreeMap<(String, String), Vec<(usize, String)>>;

on_both! {
    async fn stock_repositories_load_every_stream_that_we_wrote(kind: Kind) {
        let log = Log::new(kind).await;
        let mut history = History::new(6);
        carry_out(log.bus(), history.beginnings(), 1).await;
        carry_out(log.bus(), history.commands(400), 4).await;

        let mut streams = Streams::new();
        let mut kinds = BTreeSet::new();
        for it in log.events().await {
            kinds.insert(it.event.code());
            let event = (usize::try_from(it.sequence).unwrap(), it.event.code().to_owned());
            streams.entry((it.aggregate_type, it.aggregate_id)).or_default().push(event);
        }
        assert!(kinds.len() > 35, "too little happened: {kinds:?}");
        let mut checked = 0;
        match log.db().clone() {
            Db::Postgres(pool, _) => {
                let repository = || PostgresEventRepository::new(pool.clone());
                checked += every_type(&log, &streams, repository).await;
            }
            Db::Sqlite { read, .. } => {
                let repository = || SqliteEventRepository::new(read.clone());
                checked += every_type(&log, &streams, repository).await;
            }
        }
        assert_eq!(checked, streams.len());
    }
}

/// How many streams were found to be what they should be.
async fn every_type<R: PersistedEventRepository>(
    log: &Log,
    streams: &Streams,
    repository: impl Fn() -> R,
) -> usize {
    of_type::<AccessRule, R>(log, streams, repository()).await
        + of_type::<GeoFence, R>(log, streams, repository()).await
        + of_type::<GeoFenceRule, R>(log, streams, repository()).await
        + of_type::<Attempt, R>(log, streams, repository()).await
        + of_type::<Authority, R>(log, streams, repository()).await
        + of_type::<Certificate, R>(log, streams, repository()).await
        + of_type::<Gateway, R>(log, streams, repository()).await
        + of_type::<Login, R>(log, streams, repository()).await
        + of_type::<MeshHub, R>(log, streams, repository()).await
        + of_type::<Network, R>(log, streams, repository()).await
        + of_type::<Session, R>(log, streams, repository()).await
        + of_type::<Settings, R>(log, streams, repository()).await
        + of_type::<User, R>(log, streams, repository()).await
}

async fn of_type<A: Root, R: PersistedEventRepository>(
    log: &Log,
    streams: &Streams,
    repository: R,
) -> usize {
    let store = PersistedEventStore::<R, A>::new_event_store(repository);
    let mut checked = 0;
    for ((_, id), expected) in streams.iter().filter(|((kind, _), _)| kind == A::TYPE) {
        let loaded = store.load_events(id).await.unwrap();
        let codes: Vec<_> = loaded
            .iter()
            .map(|it| (it.sequence, Into::<Event>::into(it.payload.clone()).code().to_owned()))
            .collect();
        assert_eq!(codes, *expected, "{id}");
        assert!(loaded.iter().all(|it| it.metadata["actor_id"] == "test"), "{id}");

        // The same state, but for what only our keys can open.
        let mut theirs = store.load_aggregate(id).await.unwrap();
        let mut ours = json(&log.bus().load::<A>(id).await.unwrap().state);
        shut(&mut ours);
        assert_eq!(json(theirs.aggregate()), ours, "{id}");
        checked += 1;
    }
    assert!(checked > 0, "there is no {}", A::TYPE);
    checked
}

fn json(state: &impl serde::Serialize) -> Value {
    serde_json::to_value(state).unwrap()
}

/// Makes of every personal value one that can't be read.
fn shut(value: &mut Value) {
    match value {
        Value::Object(map) => {
            if map.len() == 2 && map.contains_key("of") && map.remove("open").is_some() {
                map.insert("sealed".to_owned(), "".into());
            }
            map.values_mut().for_each(shut);
        }
        Value::Array(items) => items.iter_mut().for_each(shut),
        _ => {}
    }
}
