//! The database goes away and comes back: who must not be let in is not, who asks is told to come
//! again, and nobody has to restart anything.

use crate::harness::log::Node;
use crate::harness::postgres::Postgres;
use crate::harness::seed::Seed;
use crate::harness::wait::eventually;
use crate::harness::{Answer, Kind, World};
use chrono::TimeDelta;
use gatekey::clock::Clock;
use serde_json::json;
use sqlx::{Connection, SqliteConnection};
use std::time::{Duration, Instant};

const BOUND: Duration = Duration::from_secs(30);

/// How old knowledge may be here.
const MAX_STALENESS: Duration = Duration::from_secs(4);

#[track_caller]
fn told_to_come_again(answer: &Answer) {
    answer.refused(503, "unavailable");
    let seconds: u32 = answer.header("retry-after").parse().expect("Retry-After in seconds");
    assert!((1..=60).contains(&seconds), "{seconds}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_goes_away_and_comes_back() {
    let postgres = Postgres::own();
    let staleness = format!("{}s", MAX_STALENESS.as_secs());
    let more = [("GATEKEY_MAX_STALENESS", staleness.as_str())];
    let world = World::on(Some(postgres.empty_database()), &more);
    let admin = world.admin().await;
    let gateway = {
        let node = Node::at(&world.database_url()).await;
        let now = Clock::system().now();
        let seed = Seed { bus: &node.running.bus, entropy: &node.entropy, now };
        let people = seed.people(1).await;
        seed.gateway(&people, now + TimeDelta::days(1)).await
    };
    let client = &gateway.clients[0];
    let agent = world.anyone().gateway(&gateway.token);
    let rules = json!({"user_id": client.common_name, "client_ip": "10.0.0.2"});
    let verified = || async {
        let answer = agent.post("/gateway/verify", &client.verify()).await;
        if answer.status == 200 { answer.json()["allowed"].as_bool() } else { None }
    };
    eventually("verify says yes", BOUND, || async { verified().await.filter(|it| *it) }).await;
    let connected = agent.post("/gateway/connect", &client.connect("10.0.0.2")).await.flat(200);
    assert_eq!(connected["allow"], true, "{connected}");

    let gone_at = Instant::now();
    postgres.cluster().stop_immediate();
    // Answered from memory, as long as that is young.
    let answer = agent.post("/gateway/verify", &client.verify()).await.flat(200);
    assert_eq!(answer["allowed"], true, "{answer}");
    assert!(gone_at.elapsed() < MAX_STALENESS, "too slow to tell");
    agent.post("/gateway/client-rules", &rules).await.has_status(200);
    agent.post("/gateway/heartbeat", &json!({})).await.has_status(200);
    // What needs the database is refused, in words that each caller understands.
    told_to_come_again(&agent.post("/gateway/disconnect", &client.disconnect()).await);
    let refused = agent.post("/gateway/connect", &client.connect("10.0.0.3")).await;
    told_to_come_again(&refused);
    assert_eq!(refused.json()["allow"], false);
    assert_eq!(refused.json()["client_config"], json!(["disable"]));
    let network = json!({"name": "lost", "cidr": "10.99.0.0/24"});
    told_to_come_again(&admin.post("/admin/networks", &network).await);
    told_to_come_again(&admin.get("/admin/networks").await);
    told_to_come_again(&world.anyone().try_login("admin", "not the password").await);
    let ready = world.anyone().get("/ready").await.flat(503);
    assert_eq!(ready["status"], "not_ready");
    assert_eq!(ready["checks"]["database"]["status"], "failed", "{ready}");
    world.anyone().get("/health").await.has_status(200);
    let pem = world.anyone().get("/pki/crl.pem").await;
    assert_eq!(pem.status, 200, "who lets clients in needs the list above all: {}", pem.text());

    // Then nobody is let in, and who is in reaches nothing.
    let denied = eventually("verify says no", BOUND, || async {
        let answer = agent.post("/gateway/verify", &client.verify()).await.flat(200);
        (answer["allowed"] == false).then_some(answer)
    })
    .await;
    assert!(gone_at.elapsed() >= MAX_STALENESS, "denied after {:?}", gone_at.elapsed());
    assert_eq!(denied["code"], "control_plane_stale", "{denied}");
    let reached = agent.post("/gateway/client-rules", &rules).await.flat(200);
    assert_eq!(reached["allowed"], json!([]));
    let ready = world.anyone().get("/ready").await.flat(503);
    assert_eq!(ready["checks"]["access_index"]["status"], "failed", "{ready}");

    // It comes back, and all goes on; the network that was refused was not created.
    postgres.cluster().start();
    eventually("verify says yes again", BOUND, || async { verified().await.filter(|it| *it) })
        .await;
    eventually("it is ready again", BOUND, || async {
        (world.anyone().get("/ready").await.status == 200).then_some(())
    })
    .await;
    let names: Vec<_> = admin.get("/admin/networks").await.list();
    assert!(names.is_empty(), "{names:?}");
    admin.post("/admin/networks", &network).await.created();
    let again = agent.post("/gateway/connect", &client.connect("10.0.0.2")).await.flat(200);
    assert_eq!(again["session_id"], connected["session_id"], "it was open all the while");
    let active = || async { admin.get("/admin/connections?status=active").await.list().len() };
    assert_eq!(active().await, 1);
    let mut left = client.disconnect();
    left["session_id"] = again["session_id"].clone();
    agent.post("/gateway/disconnect", &left).await.has_status(200);
    assert_eq!(active().await, 0);
}

/// Another program holds SQLite's write lock for longer than anyone waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_locked_sqlite_file_is_an_outage_of_writing_only() {
    let world = World::start(Kind::Sqlite);
    let admin = world.admin().await;
    let file = world.data().join("gatekey.db");
    let url = format!("sqlite://{}", file.display());
    let mut other = SqliteConnection::connect(&url).await.unwrap();
    sqlx::raw_sql("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let network = json!({"name": "office", "cidr": "10.99.0.0/24"});
    told_to_come_again(&admin.post("/admin/networks", &network).await);
    assert!(admin.get("/admin/networks").await.list().is_empty());
    world.anyone().get("/health").await.has_status(200);
    sqlx::raw_sql("ROLLBACK").execute(&mut other).await.unwrap();
    eventually("writing works again", BOUND, || async {
        let answer = admin.post("/admin/networks", &network).await;
        (answer.status == 201).then_some(())
    })
    .await;
}
