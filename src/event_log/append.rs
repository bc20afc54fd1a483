//! What is asked of the log writer, and what it answers.

use chrono::{DateTime, Utc};
use gatekey_aggregates::values::SecretId;
use gatekey_aggregates::{Claim, ClaimKind, Event, Metadata, Recorded};
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// What one command wants written. All of it is written, or none.
#[derive(Clone, Debug)]
pub struct Append {
    /// Identifies the command, should the answer to COMMIT get lost.
    pub command_id: Uuid,
    /// One stream, or a few that must change together.
    pub streams: Vec<StreamAppend>,
    /// Sealed blobs that the events refer to.
    pub secrets: Vec<SealedSecret>,
    /// Blobs that nothing refers to any more.
    pub forgotten: Vec<SecretId>,
    /// What is answered, where the answer is made of the events.
    pub answering: Option<Answering>,
}

/// Makes an answer of a command's events: sealed, where it is to be kept.
pub type Make = dyn Fn(&[Recorded]) -> Result<Option<String>, String> + Send + Sync;

/// How a command that creates something is answered.
#[derive(Clone)]
pub struct Answering {
    /// Makes the answer of the command's events, as they come to lie in the log, and gives it sealed
    /// where it is to be kept. It may be asked several times; the last time counts. Quick, and
    /// without doing anything else: everybody's commands wait for it.
    pub make: Arc<Make>,
    /// Under which key it is kept, and until when.
    pub keep: Option<(RequestKey, DateTime<Utc>)>,
}

impl fmt::Debug for Answering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answering").field("keep", &self.keep).finish_non_exhaustive()
    }
}

/// What tells a request from others, and a repetition from another request.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestKey {
    /// Who made it.
    pub caller: String,
    /// Of which operation.
    pub route: String,
    /// What the caller calls it.
    pub key: String,
}

/// What is added to one stream.
#[derive(Clone, Debug)]
pub struct StreamAppend {
    /// The aggregate's type.
    pub aggregate_type: &'static str,
    /// The aggregate's id.
    pub aggregate_id: String,
    /// How many events the decision was made on; 0 for a new stream.
    pub expected_version: i64,
    /// What happened, in order.
    pub events: Vec<NewEvent>,
    /// Claims that the new state adds.
    pub takes: Vec<Claim>,
    /// Claims that it drops.
    pub releases: Vec<Claim>,
}

/// An event on its way into the log.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// As views and followers see it.
    pub event: Event,
    /// The schema version of its payload.
    pub version: String,
    /// As stored: JSON with personal values sealed.
    pub payload: String,
    /// The circumstances.
    pub metadata: Metadata,
    /// As stored: JSON with personal values sealed.
    pub stored_metadata: String,
}

/// A row of the secrets table.
#[derive(Clone, Debug)]
pub struct SealedSecret {
    /// What events call it.
    pub id: SecretId,
    /// Sealed by the master key; base64.
    pub sealed: String,
    /// When it may be forgotten.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Where a command's events came to lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Position of the first event.
    pub first_position: i64,
    /// Position of the last event.
    pub last_position: i64,
    /// The time of all of them.
    pub recorded_at: DateTime<Utc>,
}

/// Why nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The stream has moved on since the decision: load and decide again.
    #[error("{aggregate_type} {aggregate_id} has changed meanwhile")]
    Stale {
        /// The aggregate's type.
        aggregate_type: &'static str,
        /// The aggregate's id.
        aggregate_id: String,
    },
    /// Another stream holds what the command claims.
    #[error("{key} is taken by {owner}")]
    Taken {
        /// What kind of claim.
        kind: ClaimKind,
        /// The claimed value.
        key: String,
        /// Who holds it.
        owner: String,
    },
    /// A claimed network shares addresses with another's.
    #[error("{key} overlaps {other} of {owner}")]
    Overlaps {
        /// What kind of claim.
        kind: ClaimKind,
        /// The claimed network.
        key: String,
        /// The network that is there already.
        other: String,
        /// Who holds it.
        owner: String,
    },
    /// The command would leave none of a kind of which one must be left.
    #[error("one must be left")]
    LastOne {
        /// Of what.
        kind: ClaimKind,
    },
    /// Another command was written under the same idempotency key.
    #[error("the idempotency key was used already")]
    KeyUsed,
    /// More than a batch may hold.
    #[error("the command writes more than one batch may hold")]
    TooLarge,
    /// The database did not answer, or not in time. Nothing is known to be written.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// The database belongs to another version of the server.
    #[error("the database was migrated by another version (epoch {found}, this one has {ours})")]
    OtherEpoch {
        /// The database's.
        found: i64,
        /// This binary's.
        ours: i64,
    },
    /// Our own fault.
    #[error("the log writer failed: {0}")]
    Broken(String),
}

impl Append {
    /// How many events it has.
    pub fn event_count(&self) -> usize {
        self.streams.iter().map(|stream| stream.events.len()).sum()
    }

    /// How many bytes of events it has.
    pub fn bytes(&self) -> usize {
        self.streams
            .iter()
            .flat_map(|stream| &stream.events)
            .map(|event| event.payload.len() + event.stored_metadata.len())
            .sum()
    }
}
