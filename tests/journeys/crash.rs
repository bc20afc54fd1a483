//! The server is killed in the middle of writing, again and again. What it acknowledged is there.

use crate::harness::load::{Load, Patience};
use crate::harness::log::{Node, rows_of};
use gatekey::event_log::rebuild;
use gatekey_projections::{Location, all_views};
use std::sync::atomic::Ordering;
use std::time::Duration;

const ROUNDS: u32 = 50;
const AGENTS: usize = 16;

both! {
    async fn what_was_acknowledged_survives_sigkill(world: World) {
        let load = Load::prepare(&world, AGENTS).await;
        let mut deadly = 0;
        for round in 1..=ROUNDS {
            load.round.store(round, Ordering::Relaxed);
            let before = load.count();
            let calling = load.start(0..AGENTS, &[world.server.url()], Patience::None);
            tokio::time::sleep(Duration::from_millis(rand::random_range(20..300))).await;
            world.server.sigkill();
            calling.ended().await;
            deadly += u32::from(load.count() > before);
            world.server.start_again();
        }
        assert!(deadly > ROUNDS / 2, "only {deadly} rounds wrote anything");

        world.server.restart();
        world.anyone().get("/ready").await.has_status(200);
        world.server.stop();
        let url = world.database_url();
        let node = Node::at(&url).await;
        load.check(&node.opened.reader.after(0, i64::MAX).await.unwrap());
        let live = rows_of(&node.opened.db, all_views()).await;
        let location = Location::parse(&url).unwrap();
        rebuild(&location, &node.opened.reader, all_views(), |_, _| {}).await.unwrap();
        assert_eq!(rows_of(&node.opened.db, all_views()).await, live);
    }
}
