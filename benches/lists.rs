//! Lists of 20 out of very many: the time of each with 100,000 users, 10,000 gateways and 1,000,000
//! connections, as a multiple of its time with 100 of each.
//!
//! Two servers, one with many things and one with few, are asked in turn by one caller. What is asked
//! for gives the same page at both: a filter and a search leave 25. Never fails for being slow.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A benchmark may stop where it stands.
#![allow(missing_docs)]

#[macro_use]
#[path = "../tests/journeys/harness/mod.rs"]
mod harness;

use gatekey_projections::{Conn, Dialect, Location};
use harness::{Api, Kind, World};
use std::time::{Duration, Instant};

/// How often each list is asked for at each server.
const ROUNDS: usize = 200;
/// Of each thing at the small server.
const FEW: i64 = 100;
/// How many a filter or a search leaves, everywhere.
const SOUGHT: i64 = 25;
const QUIET: [(&str, &str); 2] = [("GATEKEY_LOG", "warn"), ("GATEKEY_RATE_LIMITS", "off")];

/// How many there are of each thing.
#[derive(Clone, Copy)]
struct Size {
    users: i64,
    gateways: i64,
    connections: i64,
}

const SMALL: Size = Size { users: FEW, gateways: FEW, connections: FEW };
const FULL: Size = Size { users: 100_000, gateways: 10_000, connections: 1_000_000 };

/// What is asked for, and whether its time is bound: where a filter leaves many more at the one server
/// than at the other, up to ten thousand of them are counted.
const LISTS: [(&str, bool); 17] = [
    ("/admin/users", true),
    ("/admin/users?sort=-created_at", true),
    ("/admin/users?role=auditor", true),
    ("/admin/users?active=false", true),
    ("/admin/users?group=needles", true),
    ("/admin/users?q=needle", true),
    ("/admin/users?q=person", false),
    ("/admin/gateways", true),
    ("/admin/gateways?active=false", true),
    ("/admin/gateways?q=needle", true),
    ("/admin/connections", true),
    ("/admin/connections?status=active", true),
    ("/admin/connections?user=usr-needle", true),
    ("/admin/connections?gateway=gw-needle", true),
    ("/admin/connections?q=needleman", true),
    ("/admin/connections?status=ended", false),
    ("/admin/connections?q=person", false),
];

#[tokio::main]
async fn main() {
    // One database by name, for a quick look.
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    for kind in [Kind::Sqlite, Kind::Postgres] {
        if only.as_ref().is_some_and(|name| !format!("{kind:?}").eq_ignore_ascii_case(name)) {
            continue;
        }
        measure(kind).await;
    }
}

async fn measure(kind: Kind) {
    let started = Instant::now();
    let (small, full) = (World::start_with(kind, &QUIET), World::start_with(kind, &QUIET));
    seed(&small, SMALL).await;
    seed(&full, FULL).await;
    println!(
        "{kind:?}, seeded in {} s; one caller, median of {ROUNDS}:",
        started.elapsed().as_secs()
    );
    let (small, full) = (small.admin().await, full.admin().await);
    for (list, is_bound) in LISTS {
        let mut times: [Vec<Duration>; 2] = Default::default();
        for _ in 0..ROUNDS {
            times[0].push(time(&small, list).await);
            times[1].push(time(&full, list).await);
        }
        let [few, many] = times.map(median);
        let bound = if is_bound { "(bound 2)" } else { "(counted to 10,000)" };
        println!(
            "  {list:<40} {:>7.2} ms of few {:>8.2} ms of many {:>6.2} x {bound}",
            millis(few),
            millis(many),
            many.as_secs_f64() / few.as_secs_f64()
        );
    }
}

async fn time(api: &Api, list: &str) -> Duration {
    let started = Instant::now();
    let answer = api.get(list).await;
    let took = started.elapsed();
    assert_eq!(answer.list().len(), 20, "{list}");
    took
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Writes the views' rows, as if there had been events.
async fn seed(world: &World, size: Size) {
    world.server.stop();
    let location = Location::parse(&world.database_url()).unwrap();
    let mut conn = location.connect(&[("synchronous_commit", "off")]).await.unwrap();
    let statements = [
        users(conn.dialect(), size.users),
        groups(conn.dialect(), size.users),
        gateways(conn.dialect(), size.gateways),
        connections(conn.dialect(), size),
        totals(size),
    ];
    conn.begin().await.unwrap();
    for sql in statements {
        conn.script(&sql).await.unwrap();
    }
    conn.commit().await.unwrap();
    if let Conn::Postgres(_) = conn {
        conn.script("VACUUM (ANALYZE)").await.unwrap();
    }
    drop(conn);
    world.server.start_again();
}

/// The numbers from 1 to `most`, as `s.n`.
fn series(dialect: Dialect, most: i64) -> String {
    match dialect {
        Dialect::Postgres => format!("generate_series(CAST(1 AS bigint), {most}) AS s(n)"),
        Dialect::Sqlite => format!(
            "(WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < {most}) \
             SELECT n FROM s) s"
        ),
    }
}

/// That a row is one of the sought, of which there are several kinds.
fn is_sought(of: i64, kind: i64) -> String {
    format!("s.n % {} = {kind}", of / SOUGHT)
}

fn users(dialect: Dialect, number: i64) -> String {
    format!(
        "INSERT INTO users (id, username, email, name, role, active, password, \
           must_change_password, last_login_at, signed_out, created_at, updated_at, deleted_at, \
           revision, etag, number) \
         SELECT 'usr-' || (1000000 + s.n), 'user-' || (1000000 + s.n), \
           'user-' || (1000000 + s.n) || '@example.com', \
           CASE WHEN {} THEN 'Needle ' ELSE 'Person ' END || s.n, \
           CASE WHEN {} THEN 'auditor' ELSE 'member' END, NOT ({}), NULL, false, NULL, 0, \
           1700000000000000 + s.n, 1700000000000000 + s.n, NULL, 1, s.n, 1000000 + s.n \
         FROM {} WHERE true; \
         INSERT INTO users (id, username, email, name, role, active, password, \
           must_change_password, last_login_at, signed_out, created_at, updated_at, deleted_at, \
           revision, etag, number) \
         VALUES ('usr-needle', 'needleman', 'person@example.org', NULL, 'member', true, NULL, false, \
           NULL, 0, 1, 1, NULL, 1, 1, 999999)",
        is_sought(number, 0),
        is_sought(number, 1),
        is_sought(number, 2),
        series(dialect, number)
    )
}

fn groups(dialect: Dialect, number: i64) -> String {
    format!(
        "INSERT INTO user_groups (user_id, group_name) \
         SELECT 'usr-' || (1000000 + s.n), CASE WHEN {} THEN 'needles' ELSE 'everybody' END \
         FROM {} WHERE true",
        is_sought(number, 3),
        series(dialect, number)
    )
}

fn gateways(dialect: Dialect, number: i64) -> String {
    let columns = "id, name, description, hostname, public_ip, port, protocol, vpn_subnet, \
                   crypto_profile, tls_auth, full_tunnel, push_dns, dns_servers, active, online, \
                   reported_ip, token_hash, tls_auth_key, server_certificate, reprovisions, \
                   created_at, updated_at, deleted_at, revision, etag, number";
    format!(
        "INSERT INTO gateways ({columns}) \
         SELECT 'gw-' || (1000000 + s.n), 'gateway-' || (1000000 + s.n), \
           CASE WHEN {} THEN 'A needle' ELSE 'One of many' END, 'vpn.example.com', NULL, 1194, 'udp', \
           '10.8.0.0/24', 'modern', true, false, false, '[]', NOT ({}), false, NULL, \
           '{zeros}' || (1000000 + s.n), 'sec-' || s.n, NULL, 0, 1700000000000000 + s.n, \
           1700000000000000 + s.n, NULL, 1, s.n, 1000000 + s.n \
         FROM {} WHERE true; \
         INSERT INTO gateways ({columns}) \
         VALUES ('gw-needle', 'haystack', '', 'vpn.example.com', NULL, 1194, 'udp', '10.9.0.0/24', \
           'modern', true, false, false, '[]', true, false, NULL, '{zeros}0000001', 'sec-x', NULL, 0, \
           1, 1, NULL, 1, 1, 999999)",
        is_sought(number, 0),
        is_sought(number, 1),
        series(dialect, number),
        zeros = "0".repeat(57),
    )
}

fn connections(dialect: Dialect, size: Size) -> String {
    let Size { users, gateways, connections } = size;
    format!(
        "INSERT INTO connections (id, gateway_id, user_id, certificate_id, serial, common_name, \
           client_ip, vpn_ip, vpn_ipv6, connected_at, disconnected_at, end_reason, \
           duration_seconds, bytes_received, bytes_sent, position, version) \
         SELECT 'con-' || (1000000 + s.n), \
           CASE WHEN {} THEN 'gw-needle' ELSE 'gw-' || (1000001 + s.n % {gateways}) END, \
           CASE WHEN {} THEN 'usr-needle' ELSE 'usr-' || (1000001 + s.n % {users}) END, \
           'cfg-' || s.n, CAST(1000000 + s.n AS TEXT), 'user@example.com', '198.51.100.7', '10.8.0.2', \
           NULL, 1700000000000000 + s.n * 1000000, \
           CASE WHEN {} THEN NULL ELSE 1700000000000000 + s.n * 1000000 + 1 END, \
           CASE WHEN {} THEN NULL ELSE 'disconnected' END, 1, 1, 1, s.n, 2 \
         FROM {} WHERE true",
        is_sought(connections, 0),
        is_sought(connections, 1),
        is_sought(connections, 2),
        is_sought(connections, 2),
        series(dialect, connections)
    )
}

fn totals(size: Size) -> String {
    let Size { users, gateways, connections } = size;
    format!(
        "INSERT INTO totals (name, count) VALUES ('users', {}), ('gateways', {}), \
           ('connections', {connections}) \
         ON CONFLICT (name) DO UPDATE SET count = totals.count + excluded.count",
        users + 1,
        gateways + 1
    )
}
