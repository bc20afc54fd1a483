//! The log writer against the stock repositories: one event per command, 32 writers, each database.
//!
//! Prints events per second (median of interleaved runs) and the ratios that docs/PERFORMANCE.md
//! keeps. Never fails for being slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A benchmark may stop where it stands.
#![allow(missing_docs)]

#[macro_use]
#[path = "../tests/journeys/harness/mod.rs"]
mod harness;

use cqrs_es::persist::{PersistedEventRepository, SerializedEvent};
use gatekey::clock::Clock;
use gatekey::entropy::Entropy;
use gatekey::event_log::Running;
use gatekey_aggregates::session::{Beginning, Event, Session};
use gatekey_aggregates::values::{Serial, SessionId};
use gatekey_aggregates::{PersonId, Personal};
use gatekey_projections::{Db, View, all_views};
use harness::log::{append, master, metadata, open_at};
use sqlx::postgres::PgPoolOptions;
use std::sync::Arc;
use std::time::{Duration, Instant};

const WRITERS: usize = 32;
const COMMANDS: usize = 4_000;
const ROUNDS: usize = 5;

#[tokio::main]
async fn main() {
    // `cargo bench --bench log_writer -- sqlite` measures that one alone.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|it| it == name);
    if is_wanted("sqlite") {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("bench.db").display());
        measure("SQLite (synchronous=FULL)", &url, 4.0).await;
    }
    if is_wanted("postgres") {
        let postgres = harness::postgres::Postgres::own();
        measure("PostgreSQL", &postgres.empty_database().url, 2.0).await;
    }
}

/// A log to write to, with or without views.
async fn log(url: &str, views: Vec<&'static dyn View>) -> (Db, Running) {
    let opened = open_at(url, views, master()).await.unwrap();
    let running = opened.start(Vec::new());
    (opened.db.clone(), running)
}

/// Shares of commands that are refused, as "one in …"; 0: none.
const REFUSED: [usize; 4] = [0, 10, 2, 1];

async fn measure(name: &str, url: &str, bound: f64) {
    let (db, plain) = log(url, Vec::new()).await;
    let (_, viewed) = log(url, all_views().to_vec()).await;
    let stock = Arc::new(Stock::over(&db).await);
    let mut of_stock = Vec::new();
    let mut without: [Vec<f64>; 4] = Default::default();
    let mut with: [Vec<f64>; 4] = Default::default();
    for _ in 0..ROUNDS {
        of_stock.push(persist_all(&stock).await);
        for (n, each) in REFUSED.into_iter().enumerate() {
            without[n].push(append_all(&plain, each).await);
            with[n].push(append_all(&viewed, each).await);
        }
    }
    let (stock, without, with) = (median(of_stock), without.map(median), with.map(median));
    println!("{name}: commands/s, {WRITERS} writers, one event each, median of {ROUNDS}");
    println!("  stock repository            {stock:>8.0}");
    println!(
        "  log writer                  {:>8.0}  {:.2} x stock (bound {bound:.1})",
        without[0],
        without[0] / stock
    );
    for (n, each) in REFUSED.into_iter().enumerate() {
        let refused = match each {
            0 => "none refused".to_owned(),
            1 => "all refused".to_owned(),
            n => format!("1 in {n} refused"),
        };
        println!(
            "  … with views, {refused:<15}{:>7.0}  {:.2} of without (bound 0.60)",
            with[n],
            with[n] / without[n]
        );
    }
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Runs `one` on every writer until the share of each is done.
async fn race<F, Fut>(one: F) -> f64
where
    F: Fn(usize) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = ()> + Send,
{
    let started = Instant::now();
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let one = one.clone();
        writers.spawn(async move {
            for n in 0..COMMANDS / WRITERS {
                one(writer * COMMANDS + n).await;
            }
        });
    }
    writers.join_all().await;
    let elapsed: Duration = started.elapsed();
    COMMANDS as f64 / elapsed.as_secs_f64()
}

fn event() -> Event {
    let person = PersonId::from("usr-bench".to_owned());
    Event::Began(Beginning {
        gateway_id: "gw-bench".parse().unwrap(),
        user_id: "usr-bench".parse().unwrap(),
        certificate_id: "cfg-bench".parse().unwrap(),
        serial: "5a0f".parse::<Serial>().unwrap(),
        common_name: Personal::new(person.clone(), "ada@example.com".parse().unwrap()),
        client_ip: Some(Personal::new(person, "192.0.2.7".parse().unwrap())),
        vpn_ip: Some("10.8.0.2".parse().unwrap()),
        vpn_ipv6: None,
        connected_at: Clock::system().now(),
    })
}

/// As the server makes them: they sort by age.
fn fresh_id() -> String {
    Entropy::system(Clock::system()).id::<SessionId>().unwrap().to_string()
}

async fn persist_all(stock: &Arc<Stock>) -> f64 {
    let stock = stock.clone();
    race(move |_| {
        let stock = stock.clone();
        async move { stock.persist().await }
    })
    .await
}

enum Stock {
    Postgres(postgres_es::PostgresEventRepository),
    Sqlite(sqlite_es::SqliteEventRepository),
}

impl Stock {
    async fn over(db: &Db) -> Self {
        match db {
            Db::Postgres(pool, _) => {
                sqlx::raw_sql("CREATE TABLE IF NOT EXISTS stock_events (aggregate_type text NOT NULL, aggregate_id text NOT NULL, sequence bigint NOT NULL, event_type text NOT NULL, event_version text NOT NULL, payload json NOT NULL, metadata json NOT NULL, PRIMARY KEY (aggregate_type, aggregate_id, sequence))")
                    .execute(pool).await.unwrap();
                // With as many connections as its own default.
                let options = pool.connect_options().as_ref().clone();
                let pool = PgPoolOptions::new().max_connections(10).connect_with(options);
                Self::Postgres(
                    postgres_es::PostgresEventRepository::new(pool.await.unwrap())
                        .with_tables("stock_events", "snapshots"),
                )
            }
            Db::Sqlite { write, .. } => {
                sqlx::raw_sql("CREATE TABLE IF NOT EXISTS stock_events (aggregate_type text NOT NULL, aggregate_id text NOT NULL, sequence integer NOT NULL, event_type text NOT NULL, event_version text NOT NULL, payload text NOT NULL, metadata text NOT NULL, PRIMARY KEY (aggregate_type, aggregate_id, sequence)) STRICT")
                    .execute(write).await.unwrap();
                Self::Sqlite(
                    sqlite_es::SqliteEventRepository::new(write.clone())
                        .with_tables("stock_events", "snapshots"),
                )
            }
        }
    }

    async fn persist(&self) {
        let id = fresh_id();
        let payload = serde_json::to_value(event()).unwrap();
        let metadata = serde_json::to_value(metadata().to_map()).unwrap();
        let events = [SerializedEvent::new(
            id,
            1,
            "session".into(),
            "session.began".into(),
            "1".into(),
            payload,
            metadata,
        )];
        match self {
            Self::Postgres(it) => it.persist::<Session>(&events, None).await.unwrap(),
            Self::Sqlite(it) => it.persist::<Session>(&events, None).await.unwrap(),
        }
    }
}

/// One in `refused_each` commands is stale and refused; 0: none.
async fn append_all(running: &Running, refused_each: usize) -> f64 {
    let writer = running.writer.clone();
    race(move |n| {
        let writer = writer.clone();
        async move {
            let id = fresh_id();
            let refused = refused_each > 0 && n % refused_each == 0;
            let append = append(&id, if refused { 7 } else { 0 }, vec![event().into()]);
            assert_eq!(writer.append(append).await.is_err(), refused);
        }
    })
    .await
}
