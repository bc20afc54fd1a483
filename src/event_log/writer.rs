//! The log writer: the one task of a node that appends to the event log.
//!
//! It takes what commands are waiting, as one batch, and makes one transaction of it: lock, read
//! facts, decide each command in memory, write events, claims, secrets and views set-wise, move the
//! head, commit. Then it feeds the followers, and only then it answers.
//!
//! ```text
//! node A   lock ── head=7 ── events 8..10 ── views ── head=10 ── COMMIT (lock freed) ── answer
//! node B        lock…(waits)………………………………………………………………………… head=10 ── events 11..
//! reader                     sees ≤ 7 ……………………………………………… sees ≤ 10
//! ```
//! Positions are handed out under the lock and the lock is freed by the commit, so positions have no
//! gap and a reader that has seen position n will never later see a new event at or below n.

use super::append::{Append, AppendError, Appended, RequestKey};
use super::decide::Facts;
use super::statements::{
    Head, end_sql, lock, look_up, read_facts, read_keys, store_answers, store_claims, store_events,
    store_secrets,
};
use crate::clock::Clock;
use chrono::{DateTime, Utc};
use gatekey_aggregates::Recorded;
use gatekey_aggregates::values::from_micros;
use gatekey_projections::{Conn, Location, Statements, View, fold};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout};

/// Commands that may wait.
const QUEUE: usize = 1024;
/// Commands in one transaction.
const MAX_COMMANDS: usize = 256;
/// Events in one transaction.
const MAX_EVENTS: usize = 1000;
/// Bytes of events in one transaction.
const MAX_BYTES: usize = 4 << 20;
/// How long a command may wait for a place in the queue.
const QUEUE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one try at a transaction may take.
const TRY_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a batch is tried before its commands are told that the database is unavailable.
const BATCH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Without these a frozen lock holder would stop every writer.
const SESSION: [(&str, &str); 3] = [
    ("lock_timeout", "1500ms"),
    ("statement_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "1500ms"),
];

/// Learns of every committed batch of this node before its commands are answered.
#[async_trait::async_trait]
pub trait Follower: Send + Sync {
    /// `batch` was committed right after position `before`. Events of other nodes up to `before`
    /// may not have been seen yet.
    async fn committed(&self, before: i64, batch: &[Recorded]);
}

/// The way to the writer. Cheap to clone; the writer ends when the last one is dropped.
#[derive(Clone)]
pub struct Writer {
    queue: mpsc::Sender<Waiting>,
}

struct Waiting {
    append: Append,
    answer: oneshot::Sender<Result<Appended, AppendError>>,
}

/// What a writer works with.
pub struct Setup {
    /// The database.
    pub location: Location,
    /// The views to keep.
    pub views: Vec<&'static dyn View>,
    /// Who is told of commits.
    pub followers: Vec<Arc<dyn Follower>>,
    /// The time.
    pub clock: Clock,
    /// The epoch that this binary writes.
    pub epoch: i64,
    /// Wakes those who follow the log.
    pub wake: watch::Sender<i64>,
}

impl Writer {
    /// Starts the task.
    pub fn start(setup: Setup) -> (Self, tokio::task::JoinHandle<()>) {
        let (queue, commands) = mpsc::channel(QUEUE);
        let task = Task { setup, conn: None };
        (Self { queue }, tokio::spawn(task.run(commands)))
    }

    /// Appends, all or nothing. When this returns `Ok`, it is durable, and every view and follower
    /// of this node has it.
    pub async fn append(&self, append: Append) -> Result<Appended, AppendError> {
        if append.event_count() > MAX_EVENTS || append.bytes() > MAX_BYTES {
            return Err(AppendError::TooLarge);
        }
        let (answer, answered) = oneshot::channel();
        let waiting = Waiting { append, answer };
        match timeout(QUEUE_TIMEOUT, self.queue.send(waiting)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(AppendError::Unavailable("the server is stopping".into())),
            Err(_) => return Err(AppendError::Unavailable("too many commands wait".into())),
        }
        answered.await.unwrap_or_else(|_| {
            Err(AppendError::Unavailable("the server is stopping; the outcome is unknown".into()))
        })
    }
}

struct Task {
    setup: Setup,
    conn: Option<Conn>,
}

/// A batch as it was decided.
#[derive(Default)]
struct Decided {
    /// The head that it was decided on.
    before: i64,
    outcomes: Vec<Result<Appended, AppendError>>,
    recorded: Vec<Recorded>,
    /// Answers, sealed, with their keys and until when they are kept.
    kept: Vec<(RequestKey, DateTime<Utc>, String)>,
    /// Where to look whether a commit happened.
    witness: Option<(i64, uuid::Uuid)>,
}

/// Why a transaction did not end well.
enum Failure {
    /// Nothing was written; another try may do.
    Passing(String),
    /// Nothing was written, and the database is to blame or the statement is.
    Refused(String),
    /// COMMIT was sent and not answered.
    InDoubt(String),
}

impl Failure {
    fn passing(error: sqlx::Error) -> Self {
        Self::Passing(error.to_string())
    }
}

impl Task {
    async fn run(mut self, mut commands: mpsc::Receiver<Waiting>) {
        let mut held: Vec<Waiting> = Vec::new();
        loop {
            if held.is_empty() && commands.recv_many(&mut held, MAX_COMMANDS).await == 0 {
                return;
            }
            while held.len() < MAX_COMMANDS {
                match commands.try_recv() {
                    Ok(waiting) => held.push(waiting),
                    Err(_) => break,
                }
            }
            let rest = held.split_off(fitting(&held));
            let batch = std::mem::replace(&mut held, rest);
            self.write(batch).await;
        }
    }

    /// Writes a batch and answers each of its commands.
    async fn write(&mut self, batch: Vec<Waiting>) {
        let (appends, answers): (Vec<Append>, Vec<_>) =
            batch.into_iter().map(|waiting| (waiting.append, waiting.answer)).unzip();
        metrics::histogram!("gatekey_log_batch_commands").record(appends.len() as f64);
        let started = Instant::now();
        let outcomes = match self.write_batch(&appends).await {
            Ok(outcomes) => outcomes,
            // One command may have spoiled it for all: each by itself.
            Err(AppendError::Broken(why)) if appends.len() > 1 => {
                tracing::error!(
                    why,
                    commands = appends.len(),
                    "a batch failed; trying each command alone"
                );
                self.write_each(&appends).await
            }
            Err(error) => vec![Err(error); appends.len()],
        };
        metrics::histogram!("gatekey_log_batch_seconds").record(started.elapsed().as_secs_f64());
        for (answer, outcome) in answers.into_iter().zip(outcomes) {
            metrics::counter!("gatekey_commands_total", "outcome" => label(&outcome)).increment(1);
            // A caller that went away has had its command carried out all the same.
            let _ = answer.send(outcome);
        }
    }

    /// Writes each command in a transaction of its own, until the database is gone.
    async fn write_each(&mut self, appends: &[Append]) -> Vec<Result<Appended, AppendError>> {
        let mut outcomes = Vec::with_capacity(appends.len());
        for append in appends {
            let alone = self.write_batch(std::slice::from_ref(append)).await.and_then(|mut it| {
                it.pop().unwrap_or(Err(AppendError::Broken("no outcome".into())))
            });
            let gone = match &alone {
                Err(error @ AppendError::Unavailable(_)) => Some(error.clone()),
                _ => None,
            };
            outcomes.push(alone);
            if let Some(error) = gone {
                outcomes.resize(appends.len(), Err(error));
                break;
            }
        }
        outcomes
    }

    /// Tries until the batch is decided and its outcome known, or time is up.
    async fn write_batch(
        &mut self,
        appends: &[Append],
    ) -> Result<Vec<Result<Appended, AppendError>>, AppendError> {
        let deadline = Instant::now() + BATCH_TIMEOUT;
        let mut last_error = "no time was left".to_owned();
        while Instant::now() < deadline {
            let mut conn = match self.connection().await {
                Ok(conn) => conn,
                Err(error) => return Err(AppendError::Unavailable(error)),
            };
            // What COMMIT was sent for: without an answer nobody knows whether it is written.
            let mut sent = None;
            let tried = timeout(TRY_TIMEOUT, self.transact(&mut conn, appends, &mut sent)).await;
            let failure = match tried {
                Ok(Ok(decided)) => {
                    self.conn = Some(conn);
                    return Ok(self.publish(decided).await);
                }
                Ok(Err(failure)) => failure,
                Err(_) => {
                    let why = format!("no answer within {} s", TRY_TIMEOUT.as_secs());
                    if sent.is_some() { Failure::InDoubt(why) } else { Failure::Passing(why) }
                }
            };
            // The connection may be in any state: the next try opens another.
            drop(conn);
            match (failure, sent) {
                (Failure::Refused(why), _) => return Err(AppendError::Broken(why)),
                (Failure::InDoubt(why), Some(decided)) => {
                    tracing::warn!(why, "the answer to COMMIT was lost; looking it up");
                    if self.was_committed(&decided, deadline).await? {
                        return Ok(self.publish(decided).await);
                    }
                    last_error = why;
                }
                (Failure::Passing(why) | Failure::InDoubt(why), _) => {
                    tracing::warn!(why, "the log could not be written; trying again");
                    last_error = why;
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        Err(AppendError::Unavailable(last_error))
    }

    async fn connection(&mut self) -> Result<Conn, String> {
        if let Some(conn) = self.conn.take() {
            return Ok(conn);
        }
        match timeout(CONNECT_TIMEOUT, self.setup.location.connect(&SESSION)).await {
            Ok(Ok(conn)) => Ok(conn),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("no connection within {} s", CONNECT_TIMEOUT.as_secs())),
        }
    }

    /// Tells the followers, then gives the outcomes to be answered.
    async fn publish(&self, decided: Decided) -> Vec<Result<Appended, AppendError>> {
        if let Some(last) = decided.recorded.last() {
            for follower in &self.setup.followers {
                follower.committed(decided.before, &decided.recorded).await;
            }
            metrics::gauge!("gatekey_log_position").set(last.position as f64);
            self.setup.wake.send_modify(|seen| *seen = last.position.max(*seen));
        }
        decided.outcomes
    }

    /// Whether a batch in doubt is in the log. Asked under the lock: a server that is still
    /// committing it holds the lock until it is done.
    async fn was_committed(
        &mut self,
        decided: &Decided,
        deadline: Instant,
    ) -> Result<bool, AppendError> {
        let Some((position, command_id)) = decided.witness else { return Ok(true) };
        let mut last_error = "no time was left".to_owned();
        while Instant::now() < deadline {
            match self.connection().await {
                Ok(mut conn) => {
                    let looked = timeout(TRY_TIMEOUT, look_up(&mut conn, position)).await;
                    match looked {
                        Ok(Ok(found)) => {
                            self.conn = Some(conn);
                            return Ok(found.is_some_and(|it| it == command_id.to_string()));
                        }
                        Ok(Err(error)) => last_error = error.to_string(),
                        Err(_) => last_error = String::from("no answer"),
                    }
                }
                Err(error) => last_error = error,
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Err(AppendError::Unavailable(format!("the outcome is unknown: {last_error}")))
    }

    /// One transaction, from the lock to the commit. `sent` holds what COMMIT was sent for.
    async fn transact(
        &self,
        conn: &mut Conn,
        appends: &[Append],
        sent: &mut Option<Decided>,
    ) -> Result<Decided, Failure> {
        lock(conn).await.map_err(Failure::passing)?;
        let (head, mut facts) = read_facts(conn, appends).await.map_err(classify)?;
        if head.epoch != self.setup.epoch {
            conn.rollback().await.map_err(Failure::passing)?;
            let error = AppendError::OtherEpoch { found: head.epoch, ours: self.setup.epoch };
            return Ok(Decided {
                before: head.position,
                outcomes: vec![Err(error); appends.len()],
                recorded: Vec::new(),
                kept: Vec::new(),
                witness: None,
            });
        }
        let recorded_at = self.setup.clock.now().max(from_micros(head.recorded_at));
        let keys = read_keys(conn, appends, recorded_at).await.map_err(classify)?;
        facts.keys = keys;
        let decided = decide(appends, &head, recorded_at, &mut facts);
        if decided.recorded.is_empty() {
            conn.rollback().await.map_err(Failure::passing)?;
            return Ok(decided);
        }
        let written = self.statements(conn, appends, &decided, &facts).await.map_err(classify)?;
        let end = end_sql(conn.dialect(), decided.before + count(&decided.recorded), recorded_at);
        let sent = sent.insert(decided);
        match conn.commit_after(written, &end).await {
            Ok(()) => Ok(std::mem::take(sent)),
            Err(error) if is_answer(&error) => Err(classify(error)),
            Err(error) => Err(Failure::InDoubt(error.to_string())),
        }
    }

    /// What writes the batch.
    async fn statements(
        &self,
        conn: &mut Conn,
        appends: &[Append],
        decided: &Decided,
        facts: &Facts,
    ) -> Result<Statements, sqlx::Error> {
        let accepted: Vec<&Append> = appends
            .iter()
            .zip(&decided.outcomes)
            .filter(|(_, outcome)| outcome.is_ok())
            .map(|(append, _)| append)
            .collect();
        let mut statements = Statements::of(conn.dialect());
        store_events(&accepted, &decided.recorded, &mut statements)?;
        store_claims(facts, &mut statements)?;
        store_secrets(&accepted, &mut statements)?;
        store_answers(&decided.kept, &mut statements)?;
        fold(conn, &self.setup.views, &decided.recorded, "", &mut statements).await?;
        Ok(statements)
    }
}

/// What metrics call an outcome.
fn label(outcome: &Result<Appended, AppendError>) -> &'static str {
    match outcome {
        Ok(_) => "written",
        Err(AppendError::Stale { .. }) => "stale",
        Err(
            AppendError::Taken { .. }
            | AppendError::Overlaps { .. }
            | AppendError::LastOne { .. }
            | AppendError::KeyUsed
            | AppendError::TooLarge,
        ) => "refused",
        Err(AppendError::Unavailable(_) | AppendError::OtherEpoch { .. }) => "unavailable",
        Err(AppendError::Broken(_)) => "broken",
    }
}

/// How many of the waiting commands fit into one batch; at least one.
fn fitting(waiting: &[Waiting]) -> usize {
    let (mut events, mut bytes) = (0, 0);
    let fit = waiting.iter().take(MAX_COMMANDS).take_while(|it| {
        events += it.append.event_count();
        bytes += it.append.bytes();
        events <= MAX_EVENTS && bytes <= MAX_BYTES
    });
    fit.count().max(1)
}

fn count<T>(items: &[T]) -> i64 {
    i64::try_from(items.len()).unwrap_or(i64::MAX)
}

/// Whether an error at COMMIT says that nothing was written. That the server is going down (class
/// 57), or the connection (08), says nothing of the commit before.
fn is_answer(error: &sqlx::Error) -> bool {
    error.as_database_error().and_then(sqlx::error::DatabaseError::code).is_some_and(|code| {
        !(code.len() == 5 && (code.starts_with("57") || code.starts_with("08")))
    })
}

/// A fault of the connection or of the moment may pass; a fault of the statement will not.
fn classify(error: sqlx::Error) -> Failure {
    let passing = match error.as_database_error() {
        Some(database) => database.code().is_some_and(|code| {
            // Class 08 connection, 25 transaction state (a standby, an idle timeout), 40 rollback, 53
            // resources, 55 lock not available, 57 operator intervention and timeouts (PostgreSQL,
            // Appendix A); busy, locked, disk full and input/output (SQLite).
            ["08", "25", "40", "53", "55", "57"]
                .iter()
                .any(|class| code.len() == 5 && code.starts_with(class))
                || (code.len() < 5
                    && code.parse().is_ok_and(|code: u32| [5, 6, 10, 13].contains(&(code & 0xff))))
        }),
        None => !matches!(
            error,
            sqlx::Error::Encode(_)
                | sqlx::Error::Decode(_)
                | sqlx::Error::ColumnDecode { .. }
                | sqlx::Error::ColumnNotFound(_)
                | sqlx::Error::RowNotFound
        ),
    };
    let why = error.to_string();
    if passing { Failure::Passing(why) } else { Failure::Refused(why) }
}

/// Decides each command and gives the accepted ones their positions.
fn decide(
    appends: &[Append],
    head: &Head,
    recorded_at: DateTime<Utc>,
    facts: &mut Facts,
) -> Decided {
    let mut recorded = Vec::new();
    let mut kept = Vec::new();
    let mut witness = None;
    let outcomes = appends
        .iter()
        .map(|append| {
            let before = head.position + count(&recorded);
            let first_position = before + 1;
            // Before it is accepted: a command that can't be answered is not carried out.
            let answer = match &append.answering {
                Some(answering) => {
                    let events: Vec<_> = recorded_after(before, append, recorded_at).collect();
                    let sealed = (answering.make)(&events).map_err(AppendError::Broken)?;
                    answering.keep.clone().zip(sealed)
                }
                None => None,
            };
            facts.admit(append)?;
            recorded.extend(recorded_after(before, append, recorded_at));
            kept.extend(answer.map(|((key, until), sealed)| (key, until, sealed)));
            witness = witness.or(Some((first_position, append.command_id)));
            Ok(Appended {
                first_position,
                last_position: head.position + count(&recorded),
                recorded_at,
            })
        })
        .collect();
    Decided { before: head.position, outcomes, recorded, kept, witness }
}

/// A command's events as they lie in the log after position `before`.
fn recorded_after(
    before: i64,
    append: &Append,
    recorded_at: DateTime<Utc>,
) -> impl Iterator<Item = Recorded> {
    let events = append.streams.iter().flat_map(|stream| {
        let sequences = stream.expected_version + 1..;
        stream.events.iter().zip(sequences).map(move |(event, sequence)| (stream, event, sequence))
    });
    events.zip(before + 1..).map(move |((stream, event, sequence), position)| Recorded {
        position,
        recorded_at,
        aggregate_type: stream.aggregate_type.to_owned(),
        aggregate_id: stream.aggregate_id.clone(),
        sequence,
        event: event.event.clone(),
        metadata: event.metadata.clone(),
    })
}
