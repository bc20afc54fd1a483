//! The harness itself: what the journeys stand on stands.

use crate::harness::netns::{self, Lab, PRIVATE_HOSTS};
use crate::harness::postgres::{Postgres, execute};
use sqlx::{Connection, PgConnection, Row};

#[tokio::test]
async fn a_copy_of_a_template_is_a_database_of_its_own() {
    let postgres = Postgres::shared();
    let template = postgres.empty_database();
    execute(&template.url, "CREATE TABLE things (name TEXT); INSERT INTO things VALUES ('first')");
    let (one, other) = (postgres.copy_of(&template), postgres.copy_of(&template));
    execute(&one.url, "INSERT INTO things VALUES ('second')");
    assert_eq!(things(&one.url).await, 2);
    assert_eq!(things(&other.url).await, 1);
}

#[tokio::test]
async fn an_own_postgres_keeps_what_was_committed_when_it_stops_at_once() {
    let postgres = Postgres::own();
    let database = postgres.empty_database();
    execute(&database.url, "CREATE TABLE things (name TEXT); INSERT INTO things VALUES ('kept')");
    postgres.cluster().stop_immediate();
    assert!(PgConnection::connect(&database.url).await.is_err(), "it is stopped");
    postgres.cluster().start();
    assert_eq!(things(&database.url).await, 1);
}

async fn things(url: &str) -> i64 {
    let mut connection = PgConnection::connect(url).await.unwrap();
    let row = sqlx::query("SELECT count(*) FROM things").fetch_one(&mut connection).await.unwrap();
    row.get(0)
}

#[test]
fn namespaces_reach_their_neighbours_and_a_relay_leads_out() {
    if let Some(lacking) = netns::lacking() {
        println!("skipped: {lacking}");
        return;
    }
    let lab = Lab::new();
    assert!(lab.client.pings(netns::GATEWAY_WAN), "client to gateway");
    assert!(!lab.client.pings(PRIVATE_HOSTS[0]), "a client without tunnel has no way in");
    for host in PRIVATE_HOSTS {
        assert!(lab.gateway.pings(host), "gateway to {host}");
    }

    let service = lab.private.says_its_address("10.77.0.20:8080".parse().unwrap());
    assert_eq!(lab.gateway.hears(service.address).unwrap(), "10.77.0.20:8080");
    assert!(lab.gateway.hears("10.77.0.10:8080".parse().unwrap()).is_err(), "nothing there");

    // A server on this machine's loopback, as the server under test is.
    let outside = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = outside.local_addr().unwrap();
    std::thread::spawn(move || {
        use std::io::Write;
        let (mut stream, _) = outside.accept().unwrap();
        stream.write_all(b"from outside").unwrap();
    });
    let relay = lab.gateway.relay(target);
    assert_eq!(lab.gateway.hears(relay.address).unwrap(), "from outside");
}
