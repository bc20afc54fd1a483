//! The access index: the state in memory, and how it keeps up with the log.
//!
//! This node's commits are folded in before their commands are answered, so a caller reads its own
//! writes. Other nodes' commits arrive by position: at their notification, or within a second.

use super::state::State;
use crate::event_log::{Follower, ReadError, Reader};
use gatekey_aggregates::Recorded;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// How long the index rests between two looks at the log.
const POLL: Duration = Duration::from_secs(1);
/// How long one look may take.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);
/// Events folded in at once.
const BATCH: i64 = 1000;

/// What is true now, in memory.
pub struct AccessIndex {
    state: RwLock<State>,
    reader: Reader,
    /// When it was last known to hold all that was committed.
    current_at: Mutex<Instant>,
    /// One catches up at a time.
    catching_up: tokio::sync::Mutex<()>,
}

impl AccessIndex {
    /// Goes on from `state`, which holds the log up to `state.position`.
    pub fn new(state: State, reader: Reader) -> Self {
        Self {
            state: RwLock::new(state),
            reader,
            current_at: Mutex::new(Instant::now()),
            catching_up: tokio::sync::Mutex::new(()),
        }
    }

    /// What is true now. Hold it briefly: it keeps commits from being folded in.
    pub fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read()
    }

    /// For how long nobody has known whether the index holds all that was committed.
    pub fn staleness(&self) -> Duration {
        self.current_at.lock().elapsed()
    }

    /// Forgets what time has made irrelevant.
    pub fn prune(&self, now: chrono::DateTime<chrono::Utc>) {
        self.state.write().prune(now);
    }

    /// Folds in whatever the log has that the index has not.
    pub async fn catch_up(&self) -> Result<(), ReadError> {
        let _one_at_a_time = self.catching_up.lock().await;
        loop {
            let asked_at = Instant::now();
            let position = self.state.read().position;
            let batch = self.reader.after(position, BATCH).await?;
            let more = batch.len() >= usize::try_from(BATCH).unwrap_or(usize::MAX);
            self.fold(&batch);
            if !more {
                let mut current_at = self.current_at.lock();
                *current_at = asked_at.max(*current_at);
                return Ok(());
            }
        }
    }

    fn fold(&self, batch: &[Recorded]) {
        let mut state = self.state.write();
        for event in batch {
            state.apply(event);
        }
    }

    /// Keeps up with the log until dropped.
    pub async fn follow(self: Arc<Self>, mut wake: watch::Receiver<i64>) {
        loop {
            let woken_at = *wake.borrow_and_update();
            // This node's own commits are in already.
            if self.state.read().position < woken_at || self.staleness() >= POLL {
                match tokio::time::timeout(LOOK_TIMEOUT, self.catch_up()).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => tracing::warn!(%error, "the access index can't read the log"),
                    Err(_) => tracing::warn!("the access index got no answer from the log"),
                }
            }
            if let Ok(Err(_)) = tokio::time::timeout(POLL, wake.changed()).await {
                tokio::time::sleep(POLL).await;
            }
        }
    }
}

#[async_trait::async_trait]
impl Follower for AccessIndex {
    async fn committed(&self, before: i64, batch: &[Recorded]) {
        if self.state.read().position < before {
            // Other nodes wrote in between: theirs first. If the log can't be read now, the events
            // of this batch come the same way later.
            match tokio::time::timeout(LOOK_TIMEOUT, self.catch_up()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::warn!(%error, "the access index is behind the log");
                    return;
                }
                Err(_) => {
                    tracing::warn!("the access index is behind the log: no answer");
                    return;
                }
            }
        }
        self.fold(batch);
        *self.current_at.lock() = Instant::now();
    }
}
