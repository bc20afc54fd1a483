//! The log as a whole, on SQLite and, where `GATEKEY_TEST_POSTGRES_URL` names one, on PostgreSQL.

use super::*;
use crate::clock::Clock;
use crate::entropy::Entropy;
use crate::secrets::MasterKey;
use gatekey_aggregates::gateway::{self, Configuration, Gateway};
use gatekey_aggregates::user::{self, User};
use gatekey_aggregates::values::{CryptoProfile, GatewayId, Role, Transport, UserId, VpnSubnet};
use gatekey_aggregates::{ClaimKind, Event, Metadata, PersonId, Personal};
use gatekey_projections::Location;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

struct World {
    opened: Opened,
    running: Running,
    entropy: Entropy,
    dir: tempfile::TempDir,
}

impl World {
    async fn sqlite() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", dir.path().join("gatekey.db").display());
        let clock = Clock::system();
        let entropy = Entropy::system(clock.clone());
        let options = Options {
            location: Location::parse(&url).unwrap(),
            master: Arc::new(MasterKey::from_bytes([7; 32]).unwrap()),
            clock,
            entropy: entropy.clone(),
            views: Vec::new(),
        };
        let opened = open(options, |_, _| {}).await.unwrap();
        let running = opened.start(Vec::new());
        Self { opened, running, entropy, dir }
    }

    fn register(&self, name: &str, subnet: &str) -> (GatewayId, Request) {
        let id: GatewayId = self.entropy.id().unwrap();
        let command = gateway::Command::Register {
            configuration: configuration(name, subnet),
            token_hash: crate::entropy::token_hash("token"),
            tls_auth_key: self.entropy.id().unwrap(),
        };
        let request = Request::new::<Gateway>(&id, command, metadata()).fresh();
        (id, request)
    }
}

fn metadata() -> Metadata {
    let mut metadata = Metadata::system("test", PersonId::from("usr-ada".to_owned()));
    metadata.source_ip = Some("192.0.2.7".to_owned());
    metadata
}

fn configuration(name: &str, subnet: &str) -> Configuration {
    Configuration {
        name: name.parse().unwrap(),
        description: "".parse().unwrap(),
        hostname: "vpn.example.com".parse().unwrap(),
        public_ip: None,
        port: 1194,
        protocol: Transport::Udp,
        vpn_subnet: subnet.parse::<VpnSubnet>().unwrap(),
        crypto_profile: CryptoProfile::Modern,
        tls_auth: true,
        full_tunnel: false,
        push_dns: false,
        dns_servers: Vec::new(),
        active: true,
    }
}

#[tokio::test]
async fn a_command_becomes_events_that_load_again() {
    let world = World::sqlite().await;
    let (id, request) = world.register("east", "10.8.0.0/24");
    let outcome = world.running.bus.execute::<Gateway>(request).await.unwrap();
    assert_eq!(outcome.appended.unwrap().first_position, 1);
    let come_online = || Request::new::<Gateway>(&id, gateway::Command::ComeOnline, metadata());
    let outcome = world.running.bus.execute::<Gateway>(come_online()).await.unwrap();
    assert_eq!((outcome.version, outcome.revision), (2, 1));
    // Asked again, it is so already.
    let outcome = world.running.bus.execute::<Gateway>(come_online()).await.unwrap();
    assert_eq!(outcome.appended, None);

    let loaded = world.running.bus.load::<Gateway>(&id).await.unwrap();
    assert_eq!(loaded.state, outcome.state);
    let log = world.opened.reader.after(0, 100).await.unwrap();
    assert_eq!(log.iter().map(|it| it.position).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(log[0].metadata, metadata());
}

#[tokio::test]
async fn a_taken_name_and_an_overlapping_subnet_are_refused() {
    let world = World::sqlite().await;
    let (first, request) = world.register("east", "10.8.0.0/24");
    world.running.bus.execute::<Gateway>(request).await.unwrap();
    let (_, request) = world.register("East", "10.9.0.0/24");
    let error = world.running.bus.execute::<Gateway>(request).await.unwrap_err();
    assert!(
        matches!(&error, CommandError::Append(AppendError::Taken { kind: ClaimKind::GatewayName, owner, .. }) if *owner == first.to_string()),
        "{error:?}"
    );
    let (_, request) = world.register("west", "10.8.0.0/16");
    let error = world.running.bus.execute::<Gateway>(request).await.unwrap_err();
    assert!(matches!(error, CommandError::Append(AppendError::Overlaps { .. })), "{error:?}");
}

#[tokio::test]
async fn personal_values_are_sealed_in_the_log_and_lost_with_their_key() {
    let world = World::sqlite().await;
    let id: UserId = world.entropy.id().unwrap();
    let person = PersonId::user(&id);
    let profile = user::Profile {
        username: Personal::new(person.clone(), "ada".parse().unwrap()),
        email: Personal::new(person.clone(), "ada@example.com".parse().unwrap()),
        name: None,
    };
    let command = user::Command::Create {
        profile: profile.clone(),
        role: Role::Member,
        groups: BTreeSet::new(),
        password: None,
        must_change_password: false,
    };
    let request = Request::new::<User>(&id, command, metadata()).fresh();
    world.running.bus.execute::<User>(request).await.unwrap();

    let row: (String, String) =
        world.opened.db.one("SELECT payload, metadata FROM events", &[]).await.unwrap();
    assert!(!row.0.contains("ada@example.com") && !row.1.contains("192.0.2.7"), "{row:?}");
    let log = world.opened.reader.after(0, 10).await.unwrap();
    let Event::User(user::Event::Created { profile: read, .. }) = &log[0].event else {
        panic!("{log:?}")
    };
    assert_eq!(*read, profile);

    // Without the key only the fact is left.
    world.opened.db.execute("UPDATE person_keys SET sealed = NULL", &[]).await.unwrap();
    let keyring = Keyring::new(
        world.opened.db.clone(),
        Arc::new(MasterKey::from_bytes([7; 32]).unwrap()),
        Clock::system(),
    );
    let log = Reader::new(world.opened.db.clone(), keyring).after(0, 10).await.unwrap();
    let Event::User(user::Event::Created { profile: read, .. }) = &log[0].event else {
        panic!("{log:?}")
    };
    assert_eq!(read.email, Personal::Shut { of: person });
    assert_eq!(log[0].metadata.source_ip, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_writers_leave_no_gap_and_a_follower_sees_each_event_once() {
    let world = World::sqlite().await;
    let mut follower =
        Subscription::from(world.opened.reader.clone(), world.opened.wake.subscribe(), 0);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..16 {
        for round in 0..8 {
            let (_, request) = world
                .register(&format!("gw {writer} {round}"), &format!("10.{writer}.{round}.0/24"));
            let bus = world.running.bus.clone();
            writers.spawn(async move { bus.execute::<Gateway>(request).await.map(drop) });
        }
    }
    let mut seen = Vec::new();
    while seen.len() < 128 {
        let batch = tokio::time::timeout(Duration::from_secs(20), follower.next()).await.unwrap();
        for event in batch.unwrap() {
            seen.push(event.position);
            follower.handled(event.position).await.unwrap();
        }
    }
    assert!(writers.join_all().await.iter().all(Result::is_ok));
    assert_eq!(seen, (1..=128).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn commands_on_one_stream_are_decided_one_after_the_other() {
    let world = World::sqlite().await;
    let (id, request) = world.register("east", "10.8.0.0/24");
    world.running.bus.execute::<Gateway>(request).await.unwrap();
    let mut writers = tokio::task::JoinSet::new();
    for n in 0..8 {
        let bus = world.running.bus.clone();
        let group = format!("group {n}").parse().unwrap();
        let request = Request::new::<Gateway>(&id, gateway::Command::GrantGroup(group), metadata());
        writers.spawn(async move { bus.execute::<Gateway>(request).await.map(drop) });
    }
    assert!(writers.join_all().await.iter().all(Result::is_ok));
    let loaded = world.running.bus.load::<Gateway>(&id).await.unwrap();
    assert_eq!((loaded.version, loaded.state.groups.len()), (9, 8));
}

#[tokio::test]
async fn a_stale_revision_is_refused_and_telemetry_does_not_make_it_stale() {
    let world = World::sqlite().await;
    let (id, request) = world.register("east", "10.8.0.0/24");
    world.running.bus.execute::<Gateway>(request).await.unwrap();
    let online = Request::new::<Gateway>(&id, gateway::Command::ComeOnline, metadata());
    world.running.bus.execute::<Gateway>(online).await.unwrap();
    let configure = |name: &str| {
        let command = gateway::Command::Configure(configuration(name, "10.8.0.0/24"));
        Request::new::<Gateway>(&id, command, metadata()).if_revision(Some(1))
    };
    let outcome = world.running.bus.execute::<Gateway>(configure("one")).await.unwrap();
    assert_eq!(outcome.revision, 3);
    let error = world.running.bus.execute::<Gateway>(configure("two")).await.unwrap_err();
    assert!(matches!(error, CommandError::ChangedMeanwhile), "{error:?}");
}

#[tokio::test]
async fn another_master_key_opens_nothing() {
    let world = World::sqlite().await;
    let url = format!("sqlite://{}", world.dir.path().join("gatekey.db").display());
    let clock = Clock::system();
    let options = Options {
        location: Location::parse(&url).unwrap(),
        master: Arc::new(MasterKey::from_bytes([8; 32]).unwrap()),
        entropy: Entropy::system(clock.clone()),
        clock,
        views: Vec::new(),
    };
    assert!(matches!(open(options, |_, _| {}).await, Err(OpenError::WrongMasterKey)));
}
