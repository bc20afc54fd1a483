//! Keeps the revocation list published: signed anew on every revocation, at most once a second, and
//! long before it expires, because an expired list locks every client out.
//!
//! The list is derived from the certificates, so it is no event. Any node may sign: the row in the
//! database is replaced only by the next number, so numbers never fall and never fork.

use super::{Crl, Error, Issuer, crl};
use crate::access::AccessIndex;
use crate::clock::Clock;
use crate::event_log::ReadError;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::values::{from_micros, micros};
use gatekey_projections::{Arg, Db};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

/// How long a list is good for.
const LIFETIME: TimeDelta = TimeDelta::days(7);
/// A list older than this is signed anew even if nobody was revoked.
const REFRESH: TimeDelta = TimeDelta::hours(12);
/// Revoked certificates stay on the list for a while after they expired (RFC 5280, 3.3).
const EXPIRED_KEPT: TimeDelta = TimeDelta::days(1);
/// The least time between two signatures.
const PACE: Duration = Duration::from_secs(1);
/// How long the publisher rests when nothing happens.
const POLL: Duration = Duration::from_secs(5);

/// A list as it is served.
#[derive(Clone, Debug)]
pub struct Published {
    /// The list.
    pub crl: Crl,
    /// It has every revocation up to this position of the log.
    pub position: i64,
}

/// Where the newest list is. Cheap to clone.
#[derive(Clone)]
pub struct CrlPublisher {
    newest: watch::Receiver<Option<Arc<Published>>>,
}

/// Why there is no new list. The old one goes on being served.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// It could not be signed.
    #[error(transparent)]
    Sign(#[from] Error),
    /// It could not be stored.
    #[error("the revocation list could not be stored: {0}")]
    Database(#[from] sqlx::Error),
    /// What was revoked is not known.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// What signs and stores lists.
pub struct Publishing {
    db: Db,
    issuer: Issuer,
    index: Arc<AccessIndex>,
    clock: Clock,
    newest: watch::Sender<Option<Arc<Published>>>,
}

#[derive(sqlx::FromRow)]
struct CrlRow {
    number: i64,
    position: i64,
    this_update: i64,
    next_update: i64,
    der: String,
}

impl CrlPublisher {
    /// The publisher, and what is to be run for it. A list is signed before this returns, so that
    /// there always is one.
    pub async fn new(
        db: Db,
        issuer: Issuer,
        index: Arc<AccessIndex>,
        clock: Clock,
    ) -> Result<(Self, Publishing), PublishError> {
        let (newest, receiver) = watch::channel(None);
        let publishing = Publishing { db, issuer, index, clock, newest };
        publishing.publish().await?;
        Ok((Self { newest: receiver }, publishing))
    }

    /// The newest list.
    pub fn newest(&self) -> Option<Arc<Published>> {
        self.newest.borrow().clone()
    }

    /// Waits until the list has what happened up to `position`, or for `patience`. Says whether it
    /// has.
    pub async fn has(&self, position: i64, patience: Duration) -> bool {
        let mut newest = self.newest.clone();
        let is_there =
            |it: &Option<Arc<Published>>| it.as_ref().is_some_and(|it| it.position >= position);
        timeout(patience, newest.wait_for(is_there)).await.is_ok_and(|it| it.is_ok())
    }
}

impl Publishing {
    /// Publishes whenever it must, until dropped.
    pub async fn run(self, mut wake: watch::Receiver<i64>) {
        let mut signed_at = Instant::now();
        loop {
            wake.borrow_and_update();
            if self.is_due() {
                sleep_until(signed_at + PACE).await;
                signed_at = Instant::now();
                if let Err(error) = self.publish().await {
                    tracing::warn!(%error, "the revocation list is late");
                }
            }
            // Woken or not, it looks again.
            if let Ok(Err(_)) = timeout(POLL, wake.changed()).await {
                tokio::time::sleep(POLL).await;
            }
        }
    }

    fn is_due(&self) -> bool {
        let revoked_up_to = self.index.read().last_revocation;
        let newest = self.newest.borrow();
        let now = self.clock.now();
        newest.as_ref().is_none_or(|it| {
            // A list from the future, signed while a clock was ahead, locks every client out.
            let is_old = now - it.crl.this_update > REFRESH || it.crl.this_update > now;
            it.position < revoked_up_to || is_old
        })
    }

    /// Takes another node's list if that will do, else signs one.
    async fn publish(&self) -> Result<(), PublishError> {
        loop {
            let stored = self.stored().await?;
            let known = self.newest.borrow().as_ref().map_or(-1, |it| number(&it.crl));
            if let Some(stored) = &stored
                && number(&stored.crl) > known
            {
                self.newest.send_replace(Some(Arc::new(stored.clone())));
                // At start the list is signed anew in any case: the index can't tell what a list
                // of before lacks.
                if known >= 0 && !self.is_due() {
                    return Ok(());
                }
            }
            let before = stored.as_ref().map_or(0, |it| number(&it.crl));
            // The next list must have all that the stored one has.
            if stored.is_some_and(|it| it.position > self.index.read().position) {
                self.index.catch_up().await?;
            }
            let signed = self.sign(before + 1)?;
            if self.store(before, &signed).await? {
                self.newest.send_replace(Some(Arc::new(signed)));
                return Ok(());
            }
            // Another node was faster: look at what it has signed.
        }
    }

    fn sign(&self, number: i64) -> Result<Published, Error> {
        let now = self.clock.now();
        let (position, entries) = {
            let state = self.index.read();
            let mut entries: Vec<_> = state
                .certificates
                .values()
                .filter(|it| it.not_after > now - EXPIRED_KEPT)
                .filter_map(|it| {
                    let (revoked_at, reason) = it.revoked?;
                    Some((it.serial.clone(), revoked_at, reason))
                })
                .collect();
            entries.sort_by(|a, b| a.0.cmp(&b.0));
            (state.position, entries)
        };
        let number = number.unsigned_abs();
        let crl = crl::sign(&self.issuer, number, now, now + LIFETIME, entries)?;
        Ok(Published { crl, position })
    }

    async fn stored(&self) -> Result<Option<Published>, PublishError> {
        let sql = "SELECT number, position, this_update, next_update, der FROM crl WHERE id = 1";
        let row: Option<CrlRow> = self.db.optional(sql, &[]).await?;
        let Some(row) = row else { return Ok(None) };
        let der = STANDARD_NO_PAD
            .decode(row.der)
            .map_err(|error| sqlx::Error::Decode(Box::new(error)))?;
        let time = |at: i64| -> DateTime<Utc> { from_micros(at) };
        Ok(Some(Published {
            crl: Crl {
                pem: super::pem::encode(super::pem::CRL, &der).to_string(),
                der,
                number: row.number.unsigned_abs(),
                this_update: time(row.this_update),
                next_update: time(row.next_update),
            },
            position: row.position,
        }))
    }

    /// Replaces list `before` by the next; false if it was replaced already.
    async fn store(&self, before: i64, next: &Published) -> Result<bool, sqlx::Error> {
        let args: [Arg; 6] = [
            number(&next.crl).into(),
            next.position.into(),
            micros(next.crl.this_update).into(),
            micros(next.crl.next_update).into(),
            STANDARD_NO_PAD.encode(&next.crl.der).into(),
            before.into(),
        ];
        let sql = "INSERT INTO crl (id, number, position, this_update, next_update, der) \
                   VALUES (1, $1, $2, $3, $4, $5) \
                   ON CONFLICT (id) DO UPDATE SET number = excluded.number, \
                     position = excluded.position, this_update = excluded.this_update, \
                     next_update = excluded.next_update, der = excluded.der \
                   WHERE crl.number = $6";
        Ok(self.db.execute(sql, &args).await? == 1)
    }
}

fn number(crl: &Crl) -> i64 {
    i64::try_from(crl.number).unwrap_or(i64::MAX)
}
