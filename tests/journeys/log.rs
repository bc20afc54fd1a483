//! The event log through its library: appending, reading, following, and who may not open it.

use crate::harness::log::{Log, Node, append, master, metadata};
use crate::harness::proxy::{Cut, Proxy};
use crate::harness::wait::{eventually, poll_once};
use crate::harness::{Kind, World};
use gatekey::clock::Clock;
use gatekey::entropy::token_hash;
use gatekey::event_log::{
    Append, AppendError, CommandError, Follower, Keyring, MigrationError, OpenError, Reader,
    Request, Subscription, Writer,
};
use gatekey::secrets::MasterKey;
use gatekey_aggregates::gateway::{self, Configuration, Gateway};
use gatekey_aggregates::network::{self, Definition};
use gatekey_aggregates::user::{self, User};
use gatekey_aggregates::values::{CryptoProfile, GatewayId, Role, Transport, UserId};
use gatekey_aggregates::{Claim, ClaimKind, Event, PersonId, Personal, Recorded};
use gatekey_projections::{Rows, Table, View, all_views};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;

/// Longer than anything here takes.
const BOUND: Duration = Duration::from_secs(20);

fn configuration(name: &str, subnet: &str) -> Configuration {
    Configuration {
        name: name.parse().unwrap(),
        description: "".parse().unwrap(),
        hostname: "vpn.example.com".parse().unwrap(),
        public_ip: None,
        port: 1194,
        protocol: Transport::Udp,
        vpn_subnet: subnet.parse().unwrap(),
        crypto_profile: CryptoProfile::Modern,
        tls_auth: true,
        full_tunnel: false,
        push_dns: false,
        dns_servers: Vec::new(),
        active: true,
    }
}

impl Log {
    fn register(&self, name: &str, subnet: &str) -> (GatewayId, Request) {
        let id: GatewayId = self.node.entropy.id().unwrap();
        let command = gateway::Command::Register {
            configuration: configuration(name, subnet),
            token_hash: token_hash(name),
            tls_auth_key: self.node.entropy.id().unwrap(),
        };
        let request = Request::new::<Gateway>(&id, command, metadata()).fresh();
        (id, request)
    }

    async fn registered(&self, name: &str, subnet: &str) -> GatewayId {
        let (id, request) = self.register(name, subnet);
        self.bus().execute::<Gateway>(request).await.unwrap();
        id
    }

    async fn positions(&self) -> Vec<i64> {
        self.events().await.iter().map(|it| it.position).collect()
    }
}

fn network(name: &str) -> Event {
    let definition = Definition {
        name: name.parse().unwrap(),
        cidr: "10.1.0.0/16".parse().unwrap(),
        description: "".parse().unwrap(),
    };
    network::Event::Created { definition }.into()
}

on_both! {
    async fn a_command_becomes_events_that_load_again(kind: Kind) {
        let log = Log::new(kind).await;
        let (id, request) = log.register("east", "10.8.0.0/24");
        let outcome = log.bus().execute::<Gateway>(request).await.unwrap();
        assert_eq!(outcome.appended.unwrap().first_position, 1);
        let come_online =
            || Request::new::<Gateway>(&id, gateway::Command::ComeOnline, metadata());
        let outcome = log.bus().execute::<Gateway>(come_online()).await.unwrap();
        assert_eq!((outcome.version, outcome.revision), (2, 1));
        // Asked again, it is so already.
        let outcome = log.bus().execute::<Gateway>(come_online()).await.unwrap();
        assert_eq!(outcome.appended, None);

        let loaded = log.bus().load::<Gateway>(&id).await.unwrap();
        assert_eq!(loaded.state, outcome.state);
        let events = log.events().await;
        assert_eq!(events.iter().map(|it| it.position).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(events[0].metadata, metadata());
    }

    async fn a_taken_name_and_an_overlapping_subnet_are_refused(kind: Kind) {
        let log = Log::new(kind).await;
        let first = log.registered("east", "10.8.0.0/24").await;
        let (_, request) = log.register("East", "10.9.0.0/24");
        let error = log.bus().execute::<Gateway>(request).await.unwrap_err();
        let CommandError::Append(AppendError::Taken { kind: ClaimKind::GatewayName, owner, .. }) =
            &error
        else {
            panic!("{error:?}")
        };
        assert_eq!(*owner, first.to_string());
        let (_, request) = log.register("west", "10.8.0.0/16");
        let error = log.bus().execute::<Gateway>(request).await.unwrap_err();
        assert!(matches!(error, CommandError::Append(AppendError::Overlaps { .. })), "{error:?}");
        assert_eq!(log.positions().await, [1]);
    }

    async fn personal_values_are_sealed_in_the_log_and_lost_with_their_key(kind: Kind) {
        let log = Log::new(kind).await;
        let id: UserId = log.node.entropy.id().unwrap();
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
        log.bus().execute::<User>(request).await.unwrap();

        let sql = "SELECT CAST(payload AS TEXT), CAST(metadata AS TEXT) FROM events";
        let row: (String, String) = log.db().one(sql, &[]).await.unwrap();
        assert!(!row.0.contains("ada@example.com") && !row.1.contains("192.0.2.7"), "{row:?}");
        let events = log.events().await;
        let Event::User(user::Event::Created { profile: read, .. }) = &events[0].event else {
            panic!("{events:?}")
        };
        assert_eq!(*read, profile);

        // Without the key only the fact is left.
        log.db().execute("UPDATE person_keys SET sealed = NULL", &[]).await.unwrap();
        let keyring = Keyring::new(log.db().clone(), Arc::new(master()), Clock::system());
        let events = Reader::new(log.db().clone(), keyring).after(0, 10).await.unwrap();
        let Event::User(user::Event::Created { profile: read, .. }) = &events[0].event else {
            panic!("{events:?}")
        };
        assert_eq!(read.email, Personal::Shut { of: person });
        assert_eq!(events[0].metadata.source_ip, None);
    }

    async fn many_writers_leave_no_gap_and_a_follower_sees_each_event_once(kind: Kind) {
        let log = Log::new(kind).await;
        let opened = &log.node.opened;
        let mut follower = Subscription::from(opened.reader.clone(), opened.wake.subscribe(), 0);
        let mut writers = JoinSet::new();
        for writer in 0..16 {
            for round in 0..8 {
                let (_, request) = log.register(
                    &format!("gw {writer} {round}"),
                    &format!("10.{writer}.{round}.0/24"),
                );
                let bus = log.bus().clone();
                writers.spawn(async move { bus.execute::<Gateway>(request).await.map(drop) });
            }
        }
        let mut seen = Vec::new();
        while seen.len() < 128 {
            let batch = tokio::time::timeout(BOUND, follower.next()).await.unwrap();
            for event in batch.unwrap() {
                seen.push(event.position);
                follower.handled(event.position).await.unwrap();
            }
        }
        assert!(writers.join_all().await.iter().all(Result::is_ok));
        assert_eq!(seen, (1..=128).collect::<Vec<_>>());
    }

    async fn a_named_follower_goes_on_where_it_stopped(kind: Kind) {
        let log = Log::new(kind).await;
        log.registered("east", "10.8.0.0/24").await;
        log.registered("west", "10.9.0.0/24").await;
        let opened = &log.node.opened;
        let resume = || {
            let (reader, wake) = (opened.reader.clone(), opened.wake.subscribe());
            Subscription::resume(reader, wake, opened.db.clone(), "test")
        };
        let mut follower = resume().await.unwrap();
        assert_eq!(follower.ready().await.unwrap().len(), 2);
        follower.handled(1).await.unwrap();
        let mut follower = resume().await.unwrap();
        assert_eq!(follower.position(), 1);
        // What nobody said was handled comes again.
        for _ in 0..2 {
            let again: Vec<_> =
                follower.ready().await.unwrap().iter().map(|it| it.position).collect();
            assert_eq!(again, [2]);
        }
    }

    async fn commands_on_one_stream_are_decided_one_after_the_other(kind: Kind) {
        let log = Log::new(kind).await;
        let id = log.registered("east", "10.8.0.0/24").await;
        let mut writers = JoinSet::new();
        for n in 0..8 {
            let bus = log.bus().clone();
            let grant = gateway::Command::GrantGroup(format!("group {n}").parse().unwrap());
            let request = Request::new::<Gateway>(&id, grant, metadata());
            writers.spawn(async move { bus.execute::<Gateway>(request).await.map(drop) });
        }
        assert!(writers.join_all().await.iter().all(Result::is_ok));
        let loaded = log.bus().load::<Gateway>(&id).await.unwrap();
        assert_eq!((loaded.version, loaded.state.groups.iter().count()), (9, 8));
    }

    async fn a_stale_revision_is_refused_and_telemetry_does_not_make_it_stale(kind: Kind) {
        let log = Log::new(kind).await;
        let id = log.registered("east", "10.8.0.0/24").await;
        let online = Request::new::<Gateway>(&id, gateway::Command::ComeOnline, metadata());
        log.bus().execute::<Gateway>(online).await.unwrap();
        let configure = |name: &str| {
            let command = gateway::Command::Configure(configuration(name, "10.8.0.0/24"));
            Request::new::<Gateway>(&id, command, metadata()).if_revision(Some(1))
        };
        let outcome = log.bus().execute::<Gateway>(configure("one")).await.unwrap();
        assert_eq!(outcome.revision, 3);
        let error = log.bus().execute::<Gateway>(configure("two")).await.unwrap_err();
        assert!(matches!(error, CommandError::ChangedMeanwhile), "{error:?}");
    }

    async fn a_command_is_carried_out_even_if_its_caller_goes_away(kind: Kind) {
        let log = Log::new(kind).await;
        let (_, request) = log.register("east", "10.8.0.0/24");
        let mut going = Box::pin(log.bus().execute::<Gateway>(request));
        assert!(poll_once(&mut going).await.is_none());
        drop(going);
        eventually("the event is there", BOUND, || async {
            (log.positions().await == [1]).then_some(())
        })
        .await;
    }

    async fn a_clock_that_goes_back_does_not_reorder_the_log(kind: Kind) {
        let log = Log::new(kind).await;
        log.registered("east", "10.8.0.0/24").await;
        let in_a_year = "UPDATE head SET recorded_at = recorded_at + 31536000000000";
        log.db().execute(in_a_year, &[]).await.unwrap();
        log.registered("west", "10.9.0.0/24").await;
        log.registered("south", "10.10.0.0/24").await;
        let times: Vec<_> = log.events().await.iter().map(|it| it.recorded_at).collect();
        assert!(times[1] - times[0] > chrono::TimeDelta::days(364), "{times:?}");
        assert_eq!(times[1], times[2]);
    }
}

// What is in one batch, and what becomes of the others when one of them is bad.

/// Holds the writer back after each commit while it is shut, so that commands gather.
struct Gate {
    open: watch::Sender<bool>,
    batches: Mutex<Vec<usize>>,
}

impl Gate {
    fn shut() -> Arc<Self> {
        Arc::new(Self { open: watch::Sender::new(false), batches: Mutex::default() })
    }
}

#[async_trait::async_trait]
impl Follower for Gate {
    async fn committed(&self, _before: i64, batch: &[Recorded]) {
        self.batches.lock().unwrap().push(batch.len());
        self.open.subscribe().wait_for(|open| *open).await.unwrap();
    }
}

/// Has the writer of a log with a shut `gate` write all of `appends` as one batch.
async fn as_one_batch(
    writer: &Writer,
    gate: &Gate,
    appends: Vec<Append>,
) -> Vec<Result<i64, AppendError>> {
    let first = tokio::spawn({
        let writer = writer.clone();
        async move { writer.append(append("net-first", 0, vec![network("first")])).await }
    });
    eventually("the writer is held back", BOUND, || async {
        (!gate.batches.lock().unwrap().is_empty()).then_some(())
    })
    .await;
    let mut waiting: Vec<_> = appends.into_iter().map(|it| Box::pin(writer.append(it))).collect();
    for one in &mut waiting {
        assert_eq!(poll_once(one).await, None);
    }
    gate.open.send_replace(true);
    first.await.unwrap().unwrap();
    let mut outcomes = Vec::new();
    for one in waiting {
        outcomes.push(one.await.map(|it| it.first_position));
    }
    outcomes
}

/// A table that takes every word but "poison".
#[derive(Clone, Debug, PartialEq, serde::Serialize, sqlx::FromRow)]
struct WordRow {
    id: String,
    word: String,
}

impl Table for WordRow {
    const NAME: &'static str = "words";
    const KEY: &'static [&'static str] = &["id"];
    const COLUMNS: &'static [&'static str] = &["id", "word"];

    fn key(&self) -> Vec<String> {
        vec![self.id.clone()]
    }
}

const WORDS: &str =
    "CREATE TABLE words (id text PRIMARY KEY, word text NOT NULL CHECK (word <> 'poison'))";

/// The names of networks, in that table.
struct Words;

impl View for Words {
    fn name(&self) -> &'static str {
        "words"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["words"]
    }

    fn want(&self, _event: &Recorded, _rows: &mut Rows) {}

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        if let Event::Network(network::Event::Created { definition }) = &recorded.event {
            let word = definition.name.to_string();
            rows.put(WordRow { id: recorded.aggregate_id.clone(), word });
        }
    }
}

on_both! {
    async fn who_is_refused_does_not_disturb_the_others_of_a_batch(kind: Kind) {
        let gate = Gate::shut();
        let log = Log::with(kind, all_views().to_vec(), vec![gate.clone()]).await;
        let mut named = append("net-b", 0, vec![network("b")]);
        named.streams[0].takes = vec![Claim::new(ClaimKind::NetworkName, "b")];
        let mut taken = append("net-c", 0, vec![network("b")]);
        taken.streams[0].takes = vec![Claim::new(ClaimKind::NetworkName, "b")];
        let appends = vec![
            append("net-a", 0, vec![network("a")]),
            // Nobody wrote a first event.
            append("net-x", 1, vec![network("x")]),
            named,
            taken,
            // Somebody did so just now.
            append("net-a", 0, vec![network("a")]),
            append("net-a", 1, vec![network::Event::Deleted {}.into()]),
        ];
        let outcomes = as_one_batch(&log.node.running.writer, &gate, appends).await;
        let [a, stale, b, taken, again, deleted] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!((a, b, deleted), (&Ok(2), &Ok(3), &Ok(4)));
        assert!(matches!(stale, Err(AppendError::Stale { .. })), "{stale:?}");
        assert!(matches!(again, Err(AppendError::Stale { .. })), "{again:?}");
        assert!(matches!(taken, Err(AppendError::Taken { owner, .. }) if owner == "net-b"));
        assert_eq!(*gate.batches.lock().unwrap(), [1, 3]);
        assert_eq!(log.positions().await, [1, 2, 3, 4]);
    }

    async fn a_command_that_breaks_a_view_fails_alone(kind: Kind) {
        let log = Log::with(kind, Vec::new(), Vec::new()).await;
        log.db().execute(WORDS, &[]).await.unwrap();
        let gate = Gate::shut();
        let (writer, _) = Writer::start(gatekey::event_log::Setup {
            location: log.location(),
            views: vec![&Words],
            followers: vec![gate.clone()],
            clock: Clock::system(),
            epoch: gatekey::event_log::EPOCH,
            wake: log.node.opened.wake.clone(),
        });
        let appends = vec![
            append("net-a", 0, vec![network("a")]),
            append("net-p", 0, vec![network("poison")]),
            append("net-b", 0, vec![network("b")]),
            append("net-b", 1, vec![network("c")]),
        ];
        let outcomes = as_one_batch(&writer, &gate, appends).await;
        let [a, poison, b, c] = &outcomes[..] else { panic!("{outcomes:?}") };
        assert_eq!((a, b, c), (&Ok(2), &Ok(3), &Ok(4)));
        assert!(matches!(poison, Err(AppendError::Broken(_))), "{poison:?}");
        let words: Vec<(String,)> =
            log.db().all("SELECT word FROM words ORDER BY id", &[]).await.unwrap();
        let words: Vec<&str> = words.iter().map(|it| it.0.as_str()).collect();
        assert_eq!(words, ["a", "c", "first"]);
        assert_eq!(log.positions().await, [1, 2, 3, 4]);
    }

    async fn what_does_not_fit_into_a_batch_is_refused_or_waits_for_the_next(kind: Kind) {
        let log = Log::new(kind).await;
        let writer = &log.node.running.writer;
        let networks = |n: usize| vec![network("many"); n];
        let error = writer.append(append("net-a", 0, networks(1001))).await.unwrap_err();
        assert_eq!(error, AppendError::TooLarge);
        let mut large = append("net-a", 0, networks(1));
        large.streams[0].events[0].stored_metadata = "\"".repeat(4 << 20);
        assert_eq!(writer.append(large).await.unwrap_err(), AppendError::TooLarge);

        // Three that are as large as can be are three batches.
        let mut all = JoinSet::new();
        for id in ["net-a", "net-b", "net-c"] {
            let (writer, append) = (writer.clone(), append(id, 0, networks(1000)));
            all.spawn(async move { writer.append(append).await });
        }
        let mut last: Vec<_> =
            all.join_all().await.into_iter().map(|it| it.unwrap().last_position).collect();
        last.sort_unstable();
        assert_eq!(last, [1000, 2000, 3000]);
    }
}

/// The connection breaks around COMMIT: the writer finds out what became of it before it answers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_looked_up() {
    let log = Log::new(Kind::Postgres).await;
    let proxy = Proxy::before(&log.url).await;
    let node = Node::at(&proxy.url).await;
    let mut n = 0;
    for cut in [Cut::BeforeCommit, Cut::BeforeTheAnswer, Cut::BeforeTheAnswer, Cut::BeforeCommit] {
        proxy.cut_once(cut);
        let mut writing = JoinSet::new();
        for _ in 0..6 {
            n += 1;
            let (_, request) = log.register(&format!("gw {n}"), &format!("10.1.{n}.0/24"));
            let bus = node.running.bus.clone();
            writing.spawn(async move { bus.execute::<Gateway>(request).await });
        }
        let mut positions: Vec<i64> = writing
            .join_all()
            .await
            .into_iter()
            .map(|outcome| outcome.unwrap().appended.unwrap().first_position)
            .collect();
        positions.sort_unstable();
        assert!(proxy.has_cut(), "nothing was cut");
        assert_eq!(positions, (n - 5..=n).collect::<Vec<i64>>(), "{cut:?}");
        assert_eq!(log.positions().await, (1..=n).collect::<Vec<i64>>(), "{cut:?}");
    }
}

// Who may not open or write it.

on_both! {
    async fn another_master_key_opens_nothing(kind: Kind) {
        let log = Log::new(kind).await;
        let refused = log.open(MasterKey::from_bytes([8; 32]).unwrap()).await;
        assert!(matches!(refused, Err(OpenError::WrongMasterKey)));
        assert!(log.open(master()).await.is_ok());
    }

    async fn a_newer_database_is_refused_by_name(kind: Kind) {
        let log = Log::new(kind).await;
        log.db()
            .execute(
                "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                 SELECT 9001, 'from the future', success, checksum, 0 FROM _sqlx_migrations LIMIT 1",
                &[],
            )
            .await
            .unwrap();
        let Err(error) = log.open(master()).await else { panic!("an older binary opened it") };
        assert!(matches!(error, OpenError::Migration(MigrationError::Newer(9001))), "{error:?}");
        assert!(error.to_string().contains("newer GateKey (migration 9001"), "{error}");
    }

    async fn after_a_migration_the_older_node_stops_writing_and_says_so(kind: Kind) {
        let log = Log::new(kind).await;
        log.registered("east", "10.8.0.0/24").await;
        log.db().execute("UPDATE head SET epoch = epoch + 1", &[]).await.unwrap();
        let (_, request) = log.register("west", "10.9.0.0/24");
        let error = log.bus().execute::<Gateway>(request).await.unwrap_err();
        let CommandError::Append(AppendError::OtherEpoch { found, ours }) = error else {
            panic!("{error:?}")
        };
        assert_eq!(found, ours + 1);
        assert_eq!(log.positions().await, [1]);
        // The migration is taken back: it goes on.
        log.db().execute("UPDATE head SET epoch = epoch - 1", &[]).await.unwrap();
        log.registered("west", "10.9.0.0/24").await;
    }
}

both! {
    async fn a_server_with_another_master_key_does_not_start(world: World) {
        world.server.stop();
        let other = [("GATEKEY_MASTER_KEY", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=")];
        let Err(refused) = crate::harness::server::Server::try_start(
            world.data(),
            Some(&world.database_url()),
            &other,
        ) else {
            panic!("it started")
        };
        assert!(refused.status.is_some_and(|status| !status.success()), "{refused:?}");
        assert!(refused.said.contains("the master key is not the one"), "{}", refused.said);
    }
}

#[tokio::test]
async fn a_second_server_on_a_sqlite_file_does_not_start() {
    let world = World::start(Kind::Sqlite);
    let Err(refused) = world.second_server(world.data()) else { panic!("it started") };
    assert!(refused.status.is_some_and(|status| !status.success()), "{refused:?}");
    assert!(refused.said.contains("another server is using"), "{}", refused.said);
    world.anyone().get("/health").await.has_status(200);
}
