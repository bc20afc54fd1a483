//! Two servers on one PostgreSQL, and what befalls them: one order for all, and nothing acknowledged
//! is lost.

use crate::harness::load::{Load, Patience};
use crate::harness::log::{Node, rows_of};
use crate::harness::postgres::Postgres;
use crate::harness::server::Server;
use crate::harness::wait::eventually;
use crate::harness::{Kind, World};
use gatekey::event_log::{Subscription, rebuild};
use gatekey_projections::{Location, all_views};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;

const WRITERS: usize = 32;
const BOUND: Duration = Duration::from_secs(30);

/// One who follows the log by position from its beginning, and takes down all that it sees.
struct Follower {
    seen: Arc<Mutex<Vec<i64>>>,
    last: Arc<AtomicI64>,
    task: JoinHandle<()>,
}

impl Follower {
    fn of(node: &Node) -> Self {
        let opened = &node.opened;
        let mut log = Subscription::from(opened.reader.clone(), opened.wake.subscribe(), 0);
        let (seen, last) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicI64::new(0)));
        let task = tokio::spawn({
            let (seen, last) = (seen.clone(), last.clone());
            async move {
                loop {
                    // A database that is away is asked again.
                    let Ok(batch) = log.next().await else {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    for event in &batch {
                        seen.lock().unwrap().push(event.position);
                        log.handled(event.position).await.unwrap();
                        last.store(event.position, Ordering::Relaxed);
                    }
                }
            }
        });
        Self { seen, last, task }
    }

    /// Every event up to `head`, each once, in order.
    async fn saw_all_up_to(self, head: i64) {
        eventually("the follower is there", BOUND, || async {
            (self.last.load(Ordering::Relaxed) >= head).then_some(())
        })
        .await;
        self.task.abort();
        let seen = self.seen.lock().unwrap();
        assert!(*seen == (1..=head).collect::<Vec<_>>(), "the follower saw something else");
    }
}

/// Two servers on one database, writers on both, and a follower.
struct Cluster {
    // Dropped first.
    second: Server,
    world: World,
    _data: tempfile::TempDir,
    load: Arc<Load>,
    node: Node,
}

impl Cluster {
    async fn start(world: World) -> Self {
        let load = Load::prepare(&world, WRITERS).await;
        let data = tempfile::tempdir().unwrap();
        let second = world.second_server(data.path()).unwrap_or_else(|it| panic!("{}", it.said));
        let node = Node::at(&world.database_url()).await;
        Self { second, world, _data: data, load, node }
    }

    fn urls(&self) -> [String; 2] {
        [self.world.server.url(), self.second.url()]
    }

    /// All that was acknowledged is there, once and in order, and views equal a rebuild.
    async fn check(self, follower: Follower) {
        self.world.server.stop();
        self.second.stop();
        let reader = &self.node.opened.reader;
        let events = reader.after(0, i64::MAX).await.unwrap();
        self.load.check(&events);
        follower.saw_all_up_to(events.last().unwrap().position).await;
        let live = rows_of(&self.node.opened.db, all_views()).await;
        let location = Location::parse(&self.world.database_url()).unwrap();
        rebuild(&location, reader, all_views(), |_, _| {}).await.unwrap();
        assert_eq!(rows_of(&self.node.opened.db, all_views()).await, live);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_write_one_log_that_followers_see_in_order() {
    let cluster = Cluster::start(World::start(Kind::Postgres)).await;
    let follower = Follower::of(&cluster.node);
    let calling = cluster.load.start(0..WRITERS, &cluster.urls(), Patience::Endless);
    cluster.load.goes_on(1500, BOUND).await;
    calling.stop().await;
    cluster.check(follower).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_server_stops_nobody_and_loses_nothing() {
    let cluster = Cluster::start(World::start(Kind::Postgres)).await;
    let follower = Follower::of(&cluster.node);
    // Each on its own, so that the other's standing still can be told.
    let frozen = cluster.load.start(0..WRITERS / 2, &cluster.urls()[1..], Patience::Endless);
    let other = cluster.load.start(WRITERS / 2..WRITERS, &cluster.urls()[..1], Patience::Endless);
    for _ in 0..5 {
        cluster.load.goes_on(50, BOUND).await;
        // Half of the time it holds the lock.
        cluster.second.freeze();
        cluster.load.goes_on(100, Duration::from_secs(10)).await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..2500))).await;
        cluster.second.thaw();
        let api = cluster.world.anyone().at(&cluster.second.url());
        eventually("the thawed server is ready", BOUND, || async {
            (api.get("/ready").await.status == 200).then_some(())
        })
        .await;
    }
    frozen.stop().await;
    other.stop().await;
    cluster.check(follower).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn postgres_stopped_under_load_loses_nothing() {
    let postgres = Postgres::own();
    let world = World::on(Some(postgres.empty_database()), &[]);
    let cluster = Cluster::start(world).await;
    let follower = Follower::of(&cluster.node);
    let calling = cluster.load.start(0..WRITERS, &cluster.urls(), Patience::Endless);
    for _ in 0..4 {
        cluster.load.goes_on(100, BOUND).await;
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..100))).await;
        postgres.cluster().stop_immediate();
        tokio::time::sleep(Duration::from_millis(rand::random_range(0..1500))).await;
        postgres.cluster().start();
    }
    cluster.load.goes_on(100, BOUND).await;
    calling.stop().await;
    cluster.check(follower).await;
}
