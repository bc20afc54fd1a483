//! Those who failed: wrong passwords, refused verifies, forbidden requests.
//!
//! They belong to no aggregate, so they go to streams of their own, one per node's run and UTC day:
//! two servers that were given the same node name must not step on each other's stream, for each
//! knows its length only from what it wrote itself. The first of a kind is written at once; its repeats are counted, and written once a minute as one
//! event with a count. So the log tells of every attack and can't be flooded by one.

use crate::clock::Clock;
use crate::event_log::{Bus, Request};
use gatekey_aggregates::Metadata;
use gatekey_aggregates::attempt::{Attempt, Command, Denial, Event};
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

/// Refusals that may wait to be written.
const QUEUE: usize = 1024;
/// Kinds of refusal that are told apart at once; more are counted together by reason.
const MAX_KINDS: usize = 10_000;
/// How often repeats are written.
const FLUSH: Duration = Duration::from_mins(1);
/// Refusals that are written at once within that time; more wait for its end, and are then counted
/// together by their reason.
const MAX_AT_ONCE: usize = 600;

/// Takes refusals down. Cheap to clone, never blocks.
#[derive(Clone)]
pub struct Attempts {
    queue: mpsc::Sender<Report>,
    dropped: Arc<AtomicU64>,
}

#[derive(Clone)]
struct Report {
    event: fn(Denial) -> Event,
    denial: Denial,
    metadata: Metadata,
}

/// A kind of refusal that was written within the last minute.
struct Seen {
    report: Report,
    repeats: u32,
}

impl Attempts {
    /// Starts the recorder of this node. `run` is what no other run has.
    pub fn start(bus: Bus, clock: Clock, node: &str, run: Uuid) -> (Self, JoinHandle<()>) {
        let (queue, reports) = mpsc::channel(QUEUE);
        let (run, ..) = run.as_fields();
        let recorder = Recorder {
            bus,
            clock,
            node: node.to_owned(),
            run: format!("{run:08x}"),
            stream: String::new(),
            version: 0,
            seen: HashMap::new(),
            written: 0,
        };
        let task = tokio::spawn(recorder.run(reports));
        (Self { queue, dropped: Arc::default() }, task)
    }

    /// Takes a refusal down; `event` is its kind, such as `Event::VerifyDenied`.
    pub fn record(&self, event: fn(Denial) -> Event, denial: Denial, metadata: Metadata) {
        if self.queue.try_send(Report { event, denial, metadata }).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            metrics::counter!("gatekey_attempts_dropped_total").increment(1);
            if dropped.is_power_of_two() {
                tracing::warn!(dropped, "refusals come faster than they can be written");
            }
        }
    }
}

struct Recorder {
    bus: Bus,
    clock: Clock,
    node: String,
    run: String,
    stream: String,
    version: i64,
    seen: HashMap<(&'static str, String), Seen>,
    /// Kinds written at once since the last flush.
    written: usize,
}

impl Recorder {
    async fn run(mut self, mut reports: mpsc::Receiver<Report>) {
        let mut minute = interval(FLUSH);
        minute.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                report = reports.recv() => match report {
                    Some(report) => self.take(report).await,
                    None => break,
                },
                _ = minute.tick() => self.flush().await,
            }
        }
        self.flush().await;
    }

    async fn take(&mut self, mut report: Report) {
        let flooded = self.written >= MAX_AT_ONCE || self.seen.len() >= MAX_KINDS;
        let mut key = key(&report);
        if flooded && !self.seen.contains_key(&key) {
            report.denial = Denial::new(&report.denial.reason);
            key = self::key(&report);
        }
        if let Some(seen) = self.seen.get_mut(&key) {
            seen.repeats = seen.repeats.saturating_add(1);
            seen.report = report;
            return;
        }
        // What could not be written now is written with its repeats.
        let repeats = if flooded { 1 } else { u32::from(!self.write(report.clone(), 1).await) };
        self.written += 1;
        self.seen.insert(key, Seen { report, repeats });
    }

    /// Writes what was repeated and forgets what was not.
    async fn flush(&mut self) {
        self.written = 0;
        for (key, it) in std::mem::take(&mut self.seen) {
            if it.repeats > 0 && !self.write(it.report.clone(), it.repeats).await {
                self.seen.insert(key, it);
            }
        }
    }

    /// Whether it could be written.
    async fn write(&mut self, report: Report, count: u32) -> bool {
        let stream = format!("{}/{}/{}", self.node, self.clock.now().date_naive(), self.run);
        if self.stream != stream {
            self.stream = stream;
            self.version = 0;
        }
        let event = (report.event)(Denial { count, ..report.denial });
        let request =
            Request::new::<Attempt>(&self.stream, Command::Record(event), report.metadata)
                .at_version(self.version);
        match self.bus.execute::<Attempt>(request).await {
            Ok(outcome) => {
                self.version = outcome.version;
                true
            }
            Err(error) => {
                tracing::warn!(%error, "a refusal could not be written yet");
                false
            }
        }
    }
}

fn key(report: &Report) -> (&'static str, String) {
    use gatekey_aggregates::Fact;
    let code = (report.event)(Denial::new("")).code();
    (code, serde_json::to_string(&report.denial).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use gatekey_aggregates::PersonId;
    use std::collections::BTreeMap;

    #[tokio::test]
    async fn two_servers_of_one_name_have_a_stream_each() {
        let plane = testing::start("", vec![], Clock::system()).await;
        let services = &plane.state.services;
        let recorders = [(); 2].map(|()| {
            let run = services.entropy.uuid().unwrap();
            Attempts::start(services.bus.clone(), Clock::system(), "node-1", run)
        });
        let person = PersonId::from("day-2027-01-15".to_owned());
        for n in 0..10 {
            for (attempts, _) in &recorders {
                let denial = Denial::new(format!("reason_{n}"));
                let metadata = Metadata::system("test", person.clone());
                attempts.record(Event::LoginFailed, denial, metadata);
            }
        }
        for (attempts, task) in recorders {
            drop(attempts);
            task.await.unwrap();
        }
        let mut streams: BTreeMap<String, Vec<(i64, String)>> = BTreeMap::new();
        for recorded in services.reader.after(0, 1000).await.unwrap() {
            if let gatekey_aggregates::Event::Attempt(event) = recorded.event {
                let of = streams.entry(recorded.aggregate_id).or_default();
                of.push((recorded.sequence, event.denial().reason.clone()));
            }
        }
        assert_eq!(streams.len(), 2, "{:?}", streams.keys());
        let all: Vec<_> = (0..10).map(|n| (n + 1, format!("reason_{n}"))).collect();
        for (stream, events) in streams {
            assert!(stream.starts_with("node-1/"), "{stream}");
            assert_eq!(events, all, "{stream}");
        }
    }
}
