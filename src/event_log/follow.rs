//! Following the log: subscriptions by position, and what wakes them.

use super::reader::{ReadError, Reader};
use gatekey_aggregates::Recorded;
use gatekey_projections::{Arg, Db};
use sqlx::postgres::PgListener;
use std::time::Duration;
use tokio::sync::watch;

/// How long a follower sleeps at most before it looks by itself.
const POLL: Duration = Duration::from_secs(1);
/// Events read at once.
const BATCH: i64 = 500;
/// The channel on which every commit is announced.
const CHANNEL: &str = "gatekey_log";

/// A place in the log that moves on as events are handled.
pub struct Subscription {
    reader: Reader,
    wake: watch::Receiver<i64>,
    position: i64,
    durable: Option<(Db, &'static str)>,
    /// Only events of aggregates of these types; empty: all.
    types: &'static [&'static str],
}

impl Subscription {
    /// Starts after `position`, and is forgotten when dropped.
    pub fn from(reader: Reader, wake: watch::Receiver<i64>, position: i64) -> Self {
        Self { reader, wake, position, durable: None, types: &[] }
    }

    /// Goes on where the subscription of that name stopped; a new one starts at the beginning.
    pub async fn resume(
        reader: Reader,
        wake: watch::Receiver<i64>,
        db: Db,
        name: &'static str,
    ) -> Result<Self, ReadError> {
        let sql = "SELECT position FROM cursors WHERE name = $1";
        let row: Option<(i64,)> = db.optional(sql, &[name.into()]).await?;
        let position = row.map_or(0, |row| row.0);
        Ok(Self { reader, wake, position, durable: Some((db, name)), types: &[] })
    }

    /// Passes over the events of all other aggregates.
    pub fn only(mut self, types: &'static [&'static str]) -> Self {
        self.types = types;
        self
    }

    /// Nothing that matters lies before `position`: not kept, for it will be found again.
    pub fn skip_to(&mut self, position: i64) {
        self.position = self.position.max(position);
    }

    /// The last position that was handled.
    pub fn position(&self) -> i64 {
        self.position
    }

    /// The next events that are there already, in order, without a gap. For those who come by
    /// now and then.
    pub async fn ready(&mut self) -> Result<Vec<Recorded>, ReadError> {
        if self.types.is_empty() {
            self.reader.after(self.position, BATCH).await
        } else {
            self.reader.after_of(self.types, self.position, BATCH).await
        }
    }

    /// The next events, in order, without a gap; empty when a second passed without any. They count
    /// as handled when [`Self::handled`] says so, and come again if it never does.
    pub async fn next(&mut self) -> Result<Vec<Recorded>, ReadError> {
        self.wake.borrow_and_update();
        let batch = self.ready().await?;
        if !batch.is_empty() {
            return Ok(batch);
        }
        // Whether it was woken or not, and even if the writer is gone, it looks again.
        if let Ok(Err(_)) = tokio::time::timeout(POLL, self.wake.changed()).await {
            tokio::time::sleep(POLL).await;
        }
        self.ready().await
    }

    /// Moves on to `position`; for a durable subscription, for good.
    pub async fn handled(&mut self, position: i64) -> Result<(), ReadError> {
        self.position = position;
        if let Some((db, name)) = &self.durable {
            let args: [Arg; 2] = [(*name).into(), position.into()];
            let sql = "INSERT INTO cursors (name, position) VALUES ($1, $2) \
                       ON CONFLICT (name) DO UPDATE SET position = excluded.position";
            db.execute(sql, &args).await?;
        }
        Ok(())
    }
}

/// Wakes this node's followers when another node commits. Runs until dropped; a lost connection
/// costs a second's delay, not an event.
pub async fn listen(db: Db, wake: watch::Sender<i64>) {
    let Db::Postgres(pool, _) = db else { return };
    loop {
        if let Ok(mut listener) = PgListener::connect_with(&pool).await
            && listener.listen(CHANNEL).await.is_ok()
        {
            while let Ok(notification) = listener.recv().await {
                if let Ok(position) = notification.payload().parse::<i64>() {
                    wake.send_if_modified(|seen| {
                        let newer = position > *seen;
                        *seen = position.max(*seen);
                        newer
                    });
                }
            }
        }
        tokio::time::sleep(POLL).await;
    }
}
