//! What an import would do: found out, checked and put in order before anything is written.

use super::claims::{Claims, Clash};
use super::document::{Fault, Node, Value};
use super::kind::Section;
use super::world::{Names, World};
use crate::access::LoadError;
use crate::entropy::{Entropy, NoEntropy};
use crate::event_log::{self, Bus, CommandError, Request, SealedSecret, Store};
use crate::secrets::{Secret, Vault, VaultError};
use cqrs_es::event_sink::EventSink;
use gatekey_aggregates::values::{Cidr, SecretId};
use gatekey_aggregates::{Claim, ClaimRule, Metadata, Refusal, Root};
use gatekey_projections::Db;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::pin::Pin;

/// The format of the files that are read and written.
const VERSION: u64 = 1;
/// Most faults that are told at once.
const MAX_FAULTS: usize = 50;

/// What a plan is made with.
#[derive(Clone, Copy)]
pub struct Means<'a> {
    /// Reads the views.
    pub db: &'a Db,
    /// Loads what is to be changed.
    pub store: &'a Store,
    /// Seals the secrets of what is new.
    pub vault: &'a Vault,
    /// Makes ids and secrets.
    pub entropy: &'a Entropy,
}

/// Why there is no plan. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// The file is wrong.
    #[error("{}", list_of(.0))]
    Faults(Vec<Fault>),
    /// Somebody else is changing it at this moment.
    #[error("{0} was changed by somebody else just now; run it again")]
    Moved(String),
    /// There is always exactly one.
    #[error("{0} can only be changed")]
    Fixed(&'static str),
    /// The views can't be read.
    #[error(transparent)]
    Views(#[from] LoadError),
    /// A stream can't be read.
    #[error(transparent)]
    Stream(#[from] event_log::LoadError),
    /// A secret can't be sealed.
    #[error(transparent)]
    Secret(#[from] VaultError),
    /// The system has no randomness.
    #[error(transparent)]
    Entropy(#[from] NoEntropy),
    /// Our own fault.
    #[error("a definition can't be shown: {0}")]
    Json(#[from] serde_json::Error),
}

fn list_of(faults: &[Fault]) -> String {
    let mut lines: Vec<String> =
        faults.iter().take(MAX_FAULTS).map(|fault| format!("  {fault}")).collect();
    if faults.len() > MAX_FAULTS {
        lines.push(format!("  and {} more", faults.len() - MAX_FAULTS));
    }
    format!("the file can't be imported, and nothing was written:\n{}", lines.join("\n"))
}

/// All that an import will do, in the order in which it will.
pub struct Plan {
    pub(super) changes: Vec<Change>,
    kept: Vec<String>,
}

/// One thing that comes, changes or goes.
pub struct Change {
    pub(super) verb: Verb,
    /// `gateway us-east-1`
    pub(super) called: String,
    /// What of it, line by line.
    pub(super) lines: Vec<String>,
    pub(super) steps: Vec<Step>,
    /// The id of its aggregate.
    pub(super) owner: String,
    pub(super) takes: Vec<Claim>,
    pub(super) releases: Vec<Claim>,
    /// Whether its aggregate is new.
    pub(super) makes: bool,
    /// Whether it goes before all others.
    pub(super) urgent: bool,
    /// Ids of what must be there before.
    pub(super) needs: BTreeSet<String>,
    pub(super) place: Option<Place>,
}

/// What becomes of a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// It is new.
    Add,
    /// It changes.
    Change,
    /// It goes.
    Remove,
}

/// Where in the file something is asked for.
#[derive(Clone, Debug)]
pub struct Place {
    at: String,
    line: u64,
    lines: HashMap<&'static str, u64>,
}

/// One command.
pub struct Step {
    /// What it does.
    pub(super) what: String,
    pub(super) token: Option<Token>,
    run: Run,
}

type Run = Box<dyn FnOnce(Bus, Metadata) -> Running + Send>;
type Running = Pin<Box<dyn Future<Output = Result<(), CommandError>> + Send>>;

/// The one-time token of a gateway that an import has made.
pub struct Token {
    /// The gateway's id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What its agent proves itself with.
    pub token: Secret,
}

/// A new thing.
pub struct Made<A: Root> {
    /// Its id.
    pub id: String,
    /// What makes it.
    pub command: A::Command,
    /// Written with it.
    pub secret: Option<SealedSecret>,
    /// Of a gateway.
    pub token: Option<Token>,
}

impl Step {
    /// Makes a new thing.
    pub fn create<A: Root>(what: String, made: Made<A>) -> Self {
        let Made { id, command, secret, token } = made;
        let with = move |request: Request| match secret {
            Some(secret) => request.fresh().with_secret(secret),
            None => request.fresh(),
        };
        Self { token, ..Self::of::<A>(what, &id, command, with) }
    }

    /// Changes what an admin wrote, unless somebody else was faster.
    pub fn configure<A: Root>(what: String, id: &str, command: A::Command, revision: i64) -> Self {
        Self::of::<A>(what, id, command, move |request| request.if_revision(Some(revision)))
    }

    /// Gives or takes.
    pub fn ask<A: Root>(what: String, id: &str, command: A::Command) -> Self {
        Self::of::<A>(what, id, command, |request| request)
    }

    /// Removes a thing, unless somebody else has changed it, and the secret that it had.
    pub fn delete<A: Root>(
        what: String,
        id: &str,
        command: A::Command,
        revision: Option<i64>,
        secret: Option<SecretId>,
    ) -> Self {
        Self::of::<A>(what, id, command, move |request| {
            let request = request.if_revision(revision);
            match secret {
                Some(secret) => request.forget(secret),
                None => request,
            }
        })
    }

    fn of<A: Root>(
        what: String,
        id: &str,
        command: A::Command,
        with: impl FnOnce(Request) -> Request + Send + 'static,
    ) -> Self {
        let id = id.to_owned();
        let run: Run = Box::new(move |bus, metadata| {
            Box::pin(async move {
                let request = with(Request::new::<A>(id, command, metadata));
                bus.execute::<A>(request).await.map(drop)
            })
        });
        Self { what, token: None, run }
    }

    /// Carries it out.
    pub(super) async fn run(self, bus: &Bus, metadata: &Metadata) -> Result<(), CommandError> {
        (self.run)(bus.clone(), metadata.clone()).await
    }
}

/// Asks an aggregate, which is changed by it. A refusal names the field, where it is one's fault.
pub async fn attempt<A: Root>(
    state: &mut A,
    command: A::Command,
) -> Result<(), (Option<&'static str>, String)> {
    let sink = EventSink::default();
    let done = state.handle(command, &(), &sink).await;
    done.map_err(|refusal| (refusal.field(), refusal.to_string()))
}

/// A plan under way.
pub struct Planner<'a> {
    /// What is there.
    pub world: &'a World,
    /// What can be named: what is there, and what is coming.
    pub names: Names,
    /// Whether what the file does not have is removed.
    pub prune: bool,
    /// To make it with.
    pub means: Means<'a>,
    /// Subnets that are not free for those who name none.
    pub subnets: Vec<Cidr>,
    /// What is wrong with the file.
    pub faults: Vec<Fault>,
    /// What is to be done.
    pub changes: Vec<Change>,
    /// What is not in the file, and stays all the same.
    pub kept: Vec<String>,
}

impl Planner<'_> {
    /// Something is wrong with a field of an entry.
    pub fn fault(&mut self, entry: &Node, at: &str, field: &str, message: &str) {
        let (line, path) = if field.is_empty() {
            (entry.line, at.to_owned())
        } else {
            (entry.line_of(field), format!("{at}.{field}"))
        };
        self.faults.push(Fault { line, message: format!("`{path}` {message}") });
    }

    /// Where an entry stands, with those of its fields that can clash with others'.
    pub fn place(&self, entry: &Node, at: &str) -> Option<Place> {
        let lines = ["name", "cidr", "vpn_subnet"].map(|it| (it, entry.line_of(it))).into();
        Some(Place { at: at.to_owned(), line: entry.line, lines })
    }
}

impl Plan {
    /// Compares a file with what is there.
    pub async fn make(
        means: Means<'_>,
        yaml: &str,
        prune: bool,
        sections: &[&dyn Section],
    ) -> Result<Self, PlanError> {
        let file = Node::parse(yaml).map_err(|fault| PlanError::Faults(vec![fault]))?;
        let faults = outline(&file, sections);
        if !faults.is_empty() {
            return Err(PlanError::Faults(faults));
        }
        let world = World::read(means.db).await?;
        let mut claims = Claims::default();
        let mut called = HashMap::new();
        for section in sections {
            for (owner, name, its) in section.claims(&world)? {
                for claim in its {
                    // They were let in together: they don't clash.
                    let _ = claims.take(&claim, &owner);
                }
                called.insert(owner, name);
            }
        }
        let mut planner = Planner {
            names: world.names.clone(),
            world: &world,
            prune,
            means,
            subnets: subnets(&world, &file),
            faults,
            changes: Vec::new(),
            kept: Vec::new(),
        };
        for section in sections {
            if let Some(node) = file.get(section.name()) {
                section.plan(node, &mut planner).await?;
            }
        }
        let Planner { mut faults, changes, kept, .. } = planner;
        for change in &changes {
            called.insert(change.owner.clone(), change.called.clone());
        }
        if faults.is_empty() {
            faults = clashes(&changes, &claims, &called);
        }
        let changes = if faults.is_empty() {
            in_order(changes, claims).map_err(|fault| PlanError::Faults(vec![fault]))?
        } else {
            faults.sort();
            return Err(PlanError::Faults(faults));
        };
        Ok(Self { changes, kept })
    }

    /// Whether everything is as the file says.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// How many commands it takes.
    pub fn steps(&self) -> usize {
        self.changes.iter().map(|it| it.steps.len()).sum()
    }

    /// Whether there will be tokens to be told.
    pub fn makes_tokens(&self) -> bool {
        self.changes.iter().flat_map(|it| &it.steps).any(|it| it.token.is_some())
    }

    fn count(&self, verb: Verb) -> usize {
        self.changes.iter().filter(|it| it.verb == verb).count()
    }
}

/// What is wrong with the file as a whole.
fn outline(file: &Node, sections: &[&dyn Section]) -> Vec<Fault> {
    let fault = |line, message: String| Fault { line, message };
    if !matches!(file.value, Value::Map(_)) {
        return vec![fault(file.line, "a mapping is expected, with `version: 1` in it".to_owned())];
    }
    let mut faults = Vec::new();
    let known = || -> String {
        sections.iter().map(|it| format!("`{}`", it.name())).collect::<Vec<_>>().join(", ")
    };
    for (key, _) in file.entries() {
        let is_known = sections.iter().any(|it| it.name() == key.name);
        if !is_known && key.name != "version" {
            let name = &key.name;
            let message = format!("`{name}` is no kind of thing that is known here: {}", known());
            faults.push(fault(key.line, message));
        }
    }
    match file.get("version") {
        None => faults.push(fault(file.line, format!("`version: {VERSION}` is missing"))),
        Some(node) if node.json(&[]) != VERSION => {
            let message = format!("this GateKey reads files of `version: {VERSION}`");
            faults.push(fault(node.line, message));
        }
        Some(_) => {}
    }
    faults.sort();
    faults
}

/// Every subnet that is given to clients or is about to be.
fn subnets(world: &World, file: &Node) -> Vec<Cidr> {
    let named = file.entries().iter().flat_map(|(_, section)| match &section.value {
        Value::List(items) => items.as_slice(),
        _ => &[],
    });
    let named = named.filter_map(|entry| entry.get("vpn_subnet").and_then(Node::text));
    let of_gateways = world.now.gateways.iter().map(|it| it.vpn_subnet.as_str());
    let of_hubs = world.now.mesh_hubs.iter().map(|it| it.vpn_subnet.as_str());
    of_gateways.chain(of_hubs).chain(named).filter_map(|it| it.trim().parse().ok()).collect()
}

/// What would clash when all is done.
fn clashes(changes: &[Change], before: &Claims, called: &HashMap<String, String>) -> Vec<Fault> {
    let mut claims = before.clone();
    for change in changes {
        for claim in &change.releases {
            claims.release(claim, &change.owner);
        }
    }
    let mut faults = Vec::new();
    for change in changes {
        for claim in &change.takes {
            if let Err(clash) = claims.take(claim, &change.owner) {
                faults.push(change.clash(claim, &clash, called));
            }
        }
    }
    faults
}

impl Change {
    fn clash(&self, claim: &Claim, clash: &Clash, called: &HashMap<String, String>) -> Fault {
        let field = claim.kind.field();
        let other = called.get(&clash.owner).map_or(clash.owner.as_str(), String::as_str);
        let said = match claim.kind.rule() {
            ClaimRule::Disjoint => format!("{} overlaps {} of {other}", claim.key, clash.key),
            _ => format!("`{}` is taken by {other}", claim.key),
        };
        match &self.place {
            Some(place) => Fault {
                line: place.lines.get(field).copied().unwrap_or(place.line),
                message: format!("`{}.{field}` {said}", place.at),
            },
            None => Fault { line: 1, message: format!("{}: {said}", self.called) },
        }
    }
}

/// Puts changes in an order in which each finds what it needs, and nothing in its way: as they are,
/// but for those that have to wait for others.
fn in_order(changes: Vec<Change>, mut claims: Claims) -> Result<Vec<Change>, Fault> {
    let (removals, mut waiting): (Vec<_>, Vec<_>) =
        changes.into_iter().partition(|it| it.verb == Verb::Remove);
    waiting.sort_by_key(|it| !it.urgent);
    // What others hang on goes last.
    waiting.extend(removals.into_iter().rev());
    let mut missing: HashSet<String> =
        waiting.iter().filter(|it| it.makes).map(|it| it.owner.clone()).collect();
    let mut ordered = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let before = ordered.len();
        let mut still = Vec::new();
        for change in waiting {
            let ready = change.needs.iter().all(|it| !missing.contains(it));
            if ready && fits(&change, &mut claims) {
                missing.remove(&change.owner);
                ordered.push(change);
            } else {
                still.push(change);
            }
        }
        waiting = still;
        if ordered.len() == before {
            let names: Vec<&str> = waiting.iter().map(|it| it.called.as_str()).collect();
            let line = waiting.iter().find_map(|it| Some(it.place.as_ref()?.line)).unwrap_or(1);
            let message = format!(
                "{} are to trade names or addresses, which can't be done at once: import a file in \
                 which one of them has another first",
                names.join(", ")
            );
            return Err(Fault { line, message });
        }
    }
    Ok(ordered)
}

/// Makes the change to the claims; or none, if something is in its way.
fn fits(change: &Change, claims: &mut Claims) -> bool {
    for claim in &change.releases {
        claims.release(claim, &change.owner);
    }
    let mut taken = Vec::new();
    for claim in &change.takes {
        if claims.take(claim, &change.owner).is_err() {
            for claim in taken {
                claims.release(claim, &change.owner);
            }
            for claim in &change.releases {
                // It was its own a moment ago.
                let _ = claims.take(claim, &change.owner);
            }
            return false;
        }
        taken.push(claim);
    }
    true
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for change in &self.changes {
            let sign = match change.verb {
                Verb::Add => '+',
                Verb::Change => '~',
                Verb::Remove => '-',
            };
            writeln!(f, "{sign} {}", change.called)?;
            for line in &change.lines {
                writeln!(f, "    {line}")?;
            }
        }
        for it in &self.kept {
            writeln!(f, "= {it} (not in the file; --prune removes it)")?;
        }
        if self.is_empty() {
            write!(f, "No difference")
        } else {
            let (add, change, remove) =
                (self.count(Verb::Add), self.count(Verb::Change), self.count(Verb::Remove));
            write!(f, "{add} to add, {change} to change, {remove} to remove")
        }
    }
}

/// A value in a line of a difference: quoted only where it must be.
pub fn plain(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::Null => "none".to_owned(),
        serde_json::Value::String(text) if is_plain(text) => text.clone(),
        serde_json::Value::Array(items) => {
            format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

fn is_plain(text: &str) -> bool {
    let inner = |c: char| c.is_alphanumeric() || "._:/@*-".contains(c);
    text.starts_with(|c: char| c.is_alphanumeric() || c == '*' || c == ':')
        && text.chars().all(inner)
        && !["none", "true", "false"].contains(&text)
}
