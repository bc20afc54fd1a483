//! The command bus: load, decide, append; again if the stream moved on meanwhile.

use super::append::{
    Answering, Append, AppendError, Appended, NewEvent, SealedSecret, StreamAppend,
};
use super::keyring::{Keyring, KeyringError};
use super::recent::Recent;
use super::sealing::{Place, people_in, seal_metadata, seal_payload};
use super::store::{LoadError, Loaded, Store};
use super::writer::Writer;
use crate::entropy::Entropy;
use cqrs_es::DomainEvent;
use cqrs_es::event_sink::EventSink;
use gatekey_aggregates::values::SecretId;
use gatekey_aggregates::{Claim, Event, Metadata, Refusal, RefusalKind, Root};
use std::any::Any;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// How often a command is decided anew when its stream has moved on.
const TRIES: u32 = 8;
/// How long the first of these waits at most; doubled each time.
const BACKOFF: Duration = Duration::from_millis(2);

/// Carries out commands. Cheap to clone.
#[derive(Clone)]
pub struct Bus {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    writer: Writer,
    keyring: Keyring,
    entropy: Entropy,
    recent: Recent,
}

/// A command on one aggregate, and what must be written with it.
pub struct Request {
    steps: Vec<Box<dyn Decide>>,
    metadata: Metadata,
    secrets: Vec<SealedSecret>,
    forgotten: Vec<SecretId>,
    answering: Option<Answering>,
}

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Outcome<A> {
    /// The state afterwards.
    pub state: A,
    /// The length of the stream.
    pub version: i64,
    /// The sequence of the last event that changed what an admin writes.
    pub revision: i64,
    /// Where the events lie; none if the command asked for what was so already.
    pub appended: Option<Appended>,
}

/// Why a command was not carried out.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommandError {
    /// The aggregate refused it.
    #[error("{message}")]
    Refused {
        /// Stable code.
        code: &'static str,
        /// How to answer.
        kind: RefusalKind,
        /// The field at fault.
        field: Option<&'static str>,
        /// For people.
        message: String,
    },
    /// The thing was changed since the caller read it.
    #[error("it was changed meanwhile; read it again")]
    ChangedMeanwhile,
    /// The stream kept moving on.
    #[error("too many changes at once; try again")]
    Contended,
    /// The log writer refused it.
    #[error(transparent)]
    Append(AppendError),
    /// The database did not answer. Nothing is known to be written.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// A newer server wrote what this one would have to decide on.
    #[error("{0}")]
    Newer(String),
    /// Our own fault, or damage.
    #[error("the command could not be carried out: {0}")]
    Broken(String),
}

impl From<LoadError> for CommandError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Unavailable(why) => Self::Unavailable(why),
            LoadError::Newer { .. } => Self::Newer(error.to_string()),
            LoadError::Corrupt { .. } => Self::Broken(error.to_string()),
        }
    }
}

impl From<KeyringError> for CommandError {
    fn from(error: KeyringError) -> Self {
        match error {
            KeyringError::Database(error) => Self::Unavailable(error.to_string()),
            KeyringError::Unusable(_) => Self::Broken(error.to_string()),
        }
    }
}

impl Request {
    /// Asks `command` of the aggregate `id`.
    pub fn new<A: Root>(id: impl ToString, command: A::Command, metadata: Metadata) -> Self {
        let step = Step::<A>::new(id.to_string(), command);
        Self {
            steps: vec![Box::new(step)],
            metadata,
            secrets: Vec::new(),
            forgotten: Vec::new(),
            answering: None,
        }
    }

    /// The first aggregate's id was made just now: it has no events to load.
    pub fn fresh(self) -> Self {
        self.at_version(0)
    }

    /// The first aggregate has this many events and decides nothing on them: they need no loading.
    /// If it has another number, it is loaded after all.
    pub fn at_version(mut self, version: i64) -> Self {
        if let Some(step) = self.steps.first_mut() {
            step.assume_version(version);
        }
        self
    }

    /// Only if the first aggregate's revision is still this one.
    pub fn if_revision(mut self, revision: Option<i64>) -> Self {
        if let Some(step) = self.steps.first_mut() {
            step.demand_revision(revision);
        }
        self
    }

    /// Also asks `command` of another aggregate, in the same transaction; but not if what the first
    /// one is asked for is so already.
    pub fn also<A: Root>(mut self, id: impl ToString, command: A::Command) -> Self {
        let step = Step::<A>::new(id.to_string(), command);
        self.steps.push(Box::new(step));
        self
    }

    /// A sealed blob that the events refer to, written with them.
    pub fn with_secret(mut self, secret: SealedSecret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// How it is answered, where the answer is made of the events and may be kept with them.
    pub fn answering(mut self, answering: Answering) -> Self {
        self.answering = Some(answering);
        self
    }

    /// A blob that nothing refers to any more, deleted with them.
    pub fn forget(mut self, secret: SecretId) -> Self {
        self.forgotten.push(secret);
        self
    }
}

impl Bus {
    /// Loads by `store`, appends by `writer`.
    pub fn new(store: Store, writer: Writer, keyring: Keyring, entropy: Entropy) -> Self {
        let recent = Recent::default();
        Self { inner: Arc::new(Inner { store, writer, keyring, entropy, recent }) }
    }

    /// Carries out a request whose first aggregate is an `A`. It is carried out even if the caller
    /// goes away.
    pub async fn execute<A: Root>(&self, request: Request) -> Result<Outcome<A>, CommandError> {
        let inner = self.inner.clone();
        let task = tokio::spawn(async move { inner.execute(request).await });
        let (decided, appended) =
            task.await.map_err(|error| CommandError::Broken(error.to_string()))??;
        let after = decided
            .into_iter()
            .next()
            .and_then(|first| first.after.downcast::<Loaded<A>>().ok())
            .map(Arc::unwrap_or_clone)
            .ok_or_else(|| CommandError::Broken("the outcome is of another type".to_owned()))?;
        Ok(Outcome {
            state: after.state,
            version: after.version,
            revision: after.revision,
            appended,
        })
    }

    /// Loads an aggregate.
    pub async fn load<A: Root>(&self, id: impl ToString) -> Result<Loaded<A>, CommandError> {
        Ok(self.inner.store.load(&id.to_string()).await?)
    }

    /// For those who append what was not decided by an aggregate's state: attempts.
    pub fn keyring(&self) -> &Keyring {
        &self.inner.keyring
    }
}

impl Inner {
    async fn execute(
        &self,
        mut request: Request,
    ) -> Result<(Vec<Decided>, Option<Appended>), CommandError> {
        for attempt in 0..TRIES {
            let mut decided = Vec::with_capacity(request.steps.len());
            for step in &request.steps {
                decided.push(step.decide(&self.store, &self.recent).await?);
            }
            if decided.first().is_none_or(|first| first.events.is_empty()) {
                return Ok((decided, None));
            }
            let append = self.prepare(&request, &decided).await?;
            match self.writer.append(append).await {
                Ok(appended) => {
                    for it in decided.iter().filter(|it| it.is_known) {
                        self.recent.put(it.aggregate_type, &it.aggregate_id, it.after.clone());
                    }
                    return Ok((decided, Some(appended)));
                }
                Err(AppendError::Stale { .. }) => {
                    for it in &decided {
                        self.recent.forget(it.aggregate_type, &it.aggregate_id);
                    }
                    // What was taken for granted is not so.
                    request.steps.iter_mut().for_each(|step| step.assume_nothing());
                    self.back_off(attempt).await;
                }
                Err(AppendError::Unavailable(why)) => return Err(CommandError::Unavailable(why)),
                Err(AppendError::Broken(why)) => return Err(CommandError::Broken(why)),
                Err(error) => return Err(CommandError::Append(error)),
            }
        }
        Err(CommandError::Contended)
    }

    async fn back_off(&self, attempt: u32) {
        let most = BACKOFF.saturating_mul(1 << attempt.min(6));
        let share = self.entropy.bytes::<1>().map_or(128, |bytes| u32::from(bytes[0]));
        tokio::time::sleep(most.saturating_mul(share) / 256).await;
    }

    async fn prepare(
        &self,
        request: &Request,
        decided: &[Decided],
    ) -> Result<Append, CommandError> {
        let no_entropy = |_| CommandError::Broken("no randomness".to_owned());
        let command_id = self.entropy.uuid().map_err(no_entropy)?;
        let mut people = BTreeSet::from([request.metadata.person.clone()]);
        decided
            .iter()
            .flat_map(|it| &it.events)
            .for_each(|event| people_in(&event.payload, &mut people));
        let keys = self.keyring.ensure(&people).await?;
        let mut metadata: HashMap<String, String> = request
            .metadata
            .to_map()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect();
        metadata.insert("command_id".to_owned(), command_id.to_string());

        let broken = |why: String| CommandError::Broken(why);
        let mut streams = Vec::with_capacity(decided.len());
        for it in decided.iter().filter(|it| !it.events.is_empty()) {
            let mut events = Vec::with_capacity(it.events.len());
            for (event, sequence) in it.events.iter().zip(it.version + 1..) {
                let place = Place {
                    aggregate_type: it.aggregate_type,
                    aggregate_id: &it.aggregate_id,
                    sequence,
                };
                let mut payload = event.payload.clone();
                seal_payload(&mut payload, place, &keys).map_err(|e| broken(e.to_string()))?;
                let mut metadata = metadata.clone();
                seal_metadata(&mut metadata, place, &keys).map_err(|e| broken(e.to_string()))?;
                events.push(NewEvent {
                    event: event.event.clone(),
                    version: event.version.clone(),
                    payload: payload.to_string(),
                    metadata: request.metadata.clone(),
                    stored_metadata: serde_json::to_string(&metadata)
                        .map_err(|error| broken(error.to_string()))?,
                });
            }
            streams.push(StreamAppend {
                aggregate_type: it.aggregate_type,
                aggregate_id: it.aggregate_id.clone(),
                expected_version: it.version,
                events,
                takes: it.takes.clone(),
                releases: it.releases.clone(),
            });
        }
        Ok(Append {
            command_id,
            streams,
            secrets: request.secrets.clone(),
            forgotten: request.forgotten.clone(),
            answering: request.answering.clone(),
        })
    }
}

/// A command on an aggregate of a type that the bus need not know.
#[async_trait::async_trait]
trait Decide: Send + Sync {
    async fn decide(&self, store: &Store, recent: &Recent) -> Result<Decided, CommandError>;
    fn assume_version(&mut self, version: i64);
    fn assume_nothing(&mut self);
    fn demand_revision(&mut self, revision: Option<i64>);
}

/// What a command was decided to do.
struct Decided {
    aggregate_type: &'static str,
    aggregate_id: String,
    /// The length of the stream that it was decided on.
    version: i64,
    events: Vec<DecidedEvent>,
    takes: Vec<Claim>,
    releases: Vec<Claim>,
    /// A `Loaded<A>`.
    after: Arc<dyn Any + Send + Sync>,
    /// Whether `after` is the whole state, and not what was taken for granted of it.
    is_known: bool,
}

struct DecidedEvent {
    event: Event,
    version: String,
    payload: serde_json::Value,
}

struct Step<A: Root> {
    id: String,
    command: A::Command,
    assumed_version: Option<i64>,
    if_revision: Option<i64>,
}

impl<A: Root> Step<A> {
    fn new(id: String, command: A::Command) -> Self {
        Self { id, command, assumed_version: None, if_revision: None }
    }

    /// Decides on a state.
    async fn decide_on(&self, before: Loaded<A>, is_known: bool) -> Result<Decided, CommandError> {
        if self.if_revision.is_some_and(|it| it != before.revision) {
            return Err(CommandError::ChangedMeanwhile);
        }
        let sink = EventSink::default();
        let mut working = before.state.clone();
        working.handle(self.command.clone(), &(), &sink).await.map_err(refused)?;

        let mut after = before.clone();
        let mut events = Vec::new();
        for event in sink.collect().await {
            let payload = serde_json::to_value(&event)
                .map_err(|error| CommandError::Broken(error.to_string()))?;
            after.apply(event.clone());
            let version = event.event_version();
            events.push(DecidedEvent { event: event.into(), version, payload });
        }
        let held: BTreeSet<Claim> = before.state.claims(&self.id).into_iter().collect();
        let wanted: BTreeSet<Claim> = after.state.claims(&self.id).into_iter().collect();
        Ok(Decided {
            aggregate_type: A::TYPE,
            aggregate_id: self.id.clone(),
            version: before.version,
            events,
            takes: wanted.difference(&held).cloned().collect(),
            releases: held.difference(&wanted).cloned().collect(),
            after: Arc::new(after),
            is_known,
        })
    }
}

#[async_trait::async_trait]
impl<A: Root> Decide for Step<A> {
    async fn decide(&self, store: &Store, recent: &Recent) -> Result<Decided, CommandError> {
        if let Some(version) = self.assumed_version {
            let assumed = Loaded { version, ..Loaded::empty() };
            return self.decide_on(assumed, version == 0).await;
        }
        if let Some(left) = recent.get::<Loaded<A>>(A::TYPE, &self.id)
            && let Ok(decided) = self.decide_on(left.as_ref().clone(), true).await
            && !decided.events.is_empty()
        {
            return Ok(decided);
        }
        self.decide_on(store.load(&self.id).await?, true).await
    }

    fn assume_version(&mut self, version: i64) {
        self.assumed_version = Some(version);
    }

    fn assume_nothing(&mut self) {
        self.assumed_version = None;
    }

    fn demand_revision(&mut self, revision: Option<i64>) {
        self.if_revision = revision;
    }
}

fn refused(error: impl Refusal) -> CommandError {
    CommandError::Refused {
        code: error.code(),
        kind: error.kind(),
        field: error.field(),
        message: error.to_string(),
    }
}
