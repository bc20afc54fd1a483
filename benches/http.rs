//! The server over HTTP, driven by `wrk` on the same cores: the hot path as a share of `/health`,
//! durable reports as a share of the log writer's own rate, memory when idle, time to be ready.
//!
//! Prints ratios, with their bounds beside them. Never fails for being slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A benchmark may stop where it stands.
#![allow(missing_docs)]

#[macro_use]
#[path = "../tests/journeys/harness/mod.rs"]
mod harness;

use gatekey_aggregates::session::{Beginning, EndReason, Event};
use gatekey_aggregates::values::Serial;
use gatekey_aggregates::{PersonId, Personal};
use harness::log::{Log, append, master, open_at};
use harness::server::Server;
use harness::{Kind, World};
use serde_json::json;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Seconds of each run of `wrk`.
const SECONDS: u64 = 4;
/// The same, of disconnects: fewer, so that there is a connection for each.
const SECONDS_OF_ENDS: u64 = 2;
/// Interleaved runs, of which the median counts.
const ROUNDS: usize = 3;
/// Connections of `wrk`, and writers of the log.
const CONNECTIONS: usize = 32;
/// Events of the log on which the server must be ready soon.
const LONG_LOG: usize = 100_000;
const QUIET: [(&str, &str); 2] = [("GATEKEY_LOG", "warn"), ("GATEKEY_RATE_LIMITS", "off")];

#[tokio::main]
async fn main() {
    // One database by name, for a quick look.
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for kind in [Kind::Sqlite, Kind::Postgres] {
        if only.as_ref().is_some_and(|name| !format!("{kind:?}").eq_ignore_ascii_case(name)) {
            continue;
        }
        println!("{kind:?}:");
        hot_path(kind).await;
        reports(kind).await;
    }
    ready_soon().await;
}

/// Verify and heartbeat, answered from memory; heartbeats are counted, against a limit that no
/// `wrk` reaches.
async fn hot_path(kind: Kind) {
    let settings = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(settings.path(), "[rate_limits]\nheartbeat = 10000000\n").unwrap();
    let counted = [
        QUIET[0],
        ("GATEKEY_RATE_LIMITS", "on"),
        ("GATEKEY_CONFIG", settings.path().to_str().unwrap()),
    ];
    let world = World::start_with(kind, &counted);
    std::thread::sleep(Duration::from_secs(3));
    let idle = world.server.resident_kib() / 1024;
    println!("  idle                 {idle:>8} MiB resident (bound 60)");

    let admin = world.admin().await;
    let gateway = admin.create_gateway("bench").await;
    let user = admin.create_user("ada").await;
    admin.grant(&gateway, &user).await;
    let config = user.api.generate_config(&gateway).await;
    let verify = json!({
        "token": gateway.token, "common_name": user.email, "serial_number": config.serial,
        "password": config.password, "client_ip": "198.51.100.2",
    });
    let heartbeat = json!({"token": gateway.token, "active_clients": 1, "openvpn_running": true});
    let dir = tempfile::tempdir().unwrap();
    let scripts = [
        script(dir.path(), "verify", &fixed(&verify.to_string())),
        script(dir.path(), "heartbeat", &fixed(&heartbeat.to_string())),
    ];
    let url = world.server.url();
    let before = statements(&world).await;
    let mut rates: [Vec<f64>; 3] = Default::default();
    let mut calls = 0.0;
    for _ in 0..ROUNDS {
        rates[0].push(wrk(&format!("{url}/health"), None, SECONDS).rate);
        for (index, route) in ["verify", "heartbeat"].into_iter().enumerate() {
            let path = format!("{url}/api/v1/gateway/{route}");
            let rate = wrk(&path, Some(&scripts[index]), SECONDS).rate;
            calls += rate * SECONDS as f64;
            rates[index + 1].push(rate);
        }
    }
    let during = statements(&world).await - before;
    let [health, verify, heartbeat] = rates.map(median);
    println!("  GET /health          {health:>8.0} requests/s");
    println!(
        "  verify               {verify:>8.0} requests/s  {:.2} of /health (bound 0.60)",
        verify / health
    );
    println!(
        "  heartbeat            {heartbeat:>8.0} requests/s  {:.2} of /health (bound 0.60)",
        heartbeat / health
    );
    println!(
        "  database statements  {during:>8.0} during {calls:.0} such calls (timers only: bound 0 a call)"
    );
}

/// Connect and disconnect, durable when they are answered.
async fn reports(kind: Kind) {
    let world = World::start_with(kind, &QUIET);
    let admin = world.admin().await;
    let network = admin.create_network("offices", "10.77.0.0/16").await;
    let subnet = json!({"vpn_subnet": "10.64.0.0/16"});
    let gateway = admin.create_gateway_with("bench", subnet).await;
    admin.attach(&gateway, &network).await;
    let user = admin.create_user("ada").await;
    admin.grant(&gateway, &user).await;
    let config = user.api.generate_config(&gateway).await;
    let dir = tempfile::tempdir().unwrap();
    // Each report is of another connection: other addresses outside and inside.
    let connect = counting(
        &format!(
            r#"{{"token":"{}","common_name":"{}","serial_number":"{}","client_ip":"198.%d.%d.%d","vpn_ipv4":"10.%d.%d.%d"}}"#,
            gateway.token, user.email, config.serial
        ),
        2,
    );
    let disconnect = counting(
        &format!(
            r#"{{"token":"{}","common_name":"{}","client_ip":"198.%d.%d.%d","bytes_sent":1,"bytes_received":2}}"#,
            gateway.token, user.email
        ),
        1,
    );
    let connect = script(dir.path(), "connect", &connect);
    let disconnect = script(dir.path(), "disconnect", &disconnect);

    let log = Log::new(kind).await;
    let url = format!("{}/api/v1/gateway", world.server.url());
    let writer = writer_rate(&log).await;
    let begun = wrk(&format!("{url}/connect"), Some(&connect), 2 * SECONDS);
    let ended = wrk(&format!("{url}/disconnect"), Some(&disconnect), SECONDS_OF_ENDS);
    println!("  log writer           {writer:>8.0} commands/s with views");
    for (name, run) in [("connect", begun), ("disconnect", ended)] {
        println!(
            "  {name:<20} {:>8.0} commands/s  {:.2} of the log writer (bound 0.35), p99 {:.1} ms (bound 25)",
            run.rate,
            run.rate / writer,
            run.p99.as_secs_f64() * 1000.0
        );
    }
    for status in ["active", "ended"] {
        let page =
            admin.get(&format!("/admin/connections?per_page=1&status={status}")).await.json();
        println!("  connections {status:<8} {:>8}", page["meta"]["total"]);
    }
}

/// The log writer by itself: one event a command, as many writers.
async fn writer_rate(log: &Log) -> f64 {
    let mut rates = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let mut writers = tokio::task::JoinSet::new();
        for _ in 0..CONNECTIONS {
            let (writer, entropy) = (log.node.running.writer.clone(), log.node.entropy.clone());
            writers.spawn(async move {
                for _ in 0..150 {
                    let id = format!("con-{}", entropy.uuid().unwrap());
                    writer.append(append(&id, 0, vec![began().into()])).await.unwrap();
                }
            });
        }
        writers.join_all().await;
        rates.push((CONNECTIONS * 150) as f64 / started.elapsed().as_secs_f64());
    }
    median(rates)
}

/// How long a start takes on a long log.
async fn ready_soon() {
    let data = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", data.path().join("gatekey.db").display());
    // The first start makes the authority and the admin.
    drop(Server::start(data.path(), None, &QUIET));
    let opened = open_at(&url, gatekey_projections::all_views().to_vec(), master()).await.unwrap();
    let running = opened.start(Vec::new());
    let entropy = gatekey::entropy::Entropy::system(gatekey::clock::Clock::system());
    let ended = Event::Ended {
        reason: EndReason::Disconnected,
        disconnected_at: chrono::DateTime::UNIX_EPOCH,
        counters: None,
    };
    let mut waiting = tokio::task::JoinSet::new();
    for n in 0..LONG_LOG / 2 {
        let id = format!("con-{}", entropy.uuid().unwrap());
        let (writer, events) = (running.writer.clone(), vec![began().into(), ended.clone().into()]);
        waiting.spawn(async move { writer.append(append(&id, 0, events)).await.unwrap() });
        if n % 500 == 499 {
            while waiting.join_next().await.is_some() {}
        }
    }
    while waiting.join_next().await.is_some() {}
    running.stop(Duration::from_secs(30)).await;
    drop(opened);
    let started = Instant::now();
    let server = Server::start(data.path(), None, &QUIET);
    let millis = started.elapsed().as_millis();
    println!("Ready after {millis} ms on a log of {LONG_LOG} events, SQLite (bound 1000)");
    drop(server);
}

fn began() -> Event {
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
        connected_at: chrono::DateTime::UNIX_EPOCH,
    })
}

/// How many statements the server has sent to its database.
async fn statements(world: &World) -> f64 {
    let metrics = reqwest::get(format!("{}/metrics", world.server.url())).await.unwrap();
    let metrics = metrics.text().await.unwrap();
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("gatekey_database_statements_total"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    counts.sum()
}

/// A `wrk` script that posts the same body again and again.
fn fixed(body: &str) -> String {
    format!(
        "wrk.method = \"POST\"\nwrk.body = [[{body}]]\nwrk.headers[\"Content-Type\"] = \"application/json\"\n"
    )
}

/// A `wrk` script that posts a body with so many addresses in it, each time others.
fn counting(body: &str, addresses: usize) -> String {
    let numbers =
        ["math.floor(n / 65536) % 256", "math.floor(n / 256) % 256", "n % 256"].join(", ");
    let numbers = vec![numbers; addresses].join(", ");
    format!(
        "local n = 0\nfunction request()\n  n = n + 1\n  local body = string.format([[{body}]], {numbers})\n  \
         return wrk.format(\"POST\", nil, {{[\"Content-Type\"] = \"application/json\"}}, body)\nend\n"
    )
}

fn script(dir: &Path, name: &str, text: &str) -> std::path::PathBuf {
    let path = dir.join(format!("{name}.lua"));
    std::fs::write(&path, text).unwrap();
    path
}

/// What `wrk` measured.
struct Run {
    rate: f64,
    p99: Duration,
}

/// One thread of `wrk`, so that the server has the other core.
fn wrk(url: &str, script: Option<&Path>, seconds: u64) -> Run {
    let mut command = Command::new("wrk");
    command.args(["-t1", "--latency", &format!("-c{CONNECTIONS}"), &format!("-d{seconds}s")]);
    if let Some(script) = script {
        command.arg("-s").arg(script);
    }
    let output = command.arg(url).output().expect("wrk is installed: make setup");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(!text.contains("Non-2xx"), "{url}: {text}");
    let after = |label: &str| {
        let line = text.lines().find(|line| line.trim_start().starts_with(label));
        line.and_then(|line| line.split_whitespace().last()).unwrap_or_else(|| panic!("{text}"))
    };
    Run { rate: after("Requests/sec:").parse().unwrap(), p99: duration(after("99%")) }
}

/// `1.23ms`, as `wrk` writes it.
fn duration(text: &str) -> Duration {
    let digits = text.trim_end_matches(char::is_alphabetic);
    let number: f64 = digits.parse().unwrap();
    let unit = match &text[digits.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        other => panic!("a unit of time: {other}"),
    };
    Duration::from_secs_f64(number * unit)
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
