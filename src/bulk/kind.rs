//! What a kind of thing must say of itself to be exported and imported, and what follows from that
//! for every kind alike.

use super::document::{self, Fault, NOT_A_TEXT, Node, Out, Value};
use super::plan::{Change, Made, PlanError, Planner, Step, Verb, attempt, plain};
use super::world::{Holders, Names, World};
use crate::access::LoadError;
use crate::api::{FieldError, fields_of};
use async_trait::async_trait;
use cqrs_es::Aggregate;
use gatekey_aggregates::values::{GroupName, NetworkId, SecretId, UserId};
use gatekey_aggregates::{Claim, Root};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Map;
use std::collections::{BTreeSet, HashMap};

/// A kind of thing that stands in a file: one section of it.
pub trait Kind: Send + Sync + 'static {
    /// The aggregate.
    type Root: Root;
    /// What the API takes of one: the parser of a file is the API's.
    type Body: DeserializeOwned;
    /// What an admin writes of one, as the aggregate has it. In JSON its fields are named as in
    /// [`Kind::Body`].
    type Definition: Clone + PartialEq + Serialize + Send + Sync;

    /// Its section in a file.
    const SECTION: &'static str;
    /// What one is called.
    const ONE: &'static str;
    /// Whether there is always exactly one, without a name.
    const SINGLE: bool = false;
    /// Fields that are called otherwise in a file than in the API: ids there are names here.
    const ALIASES: &'static [(&'static str, &'static str)] = &[];

    /// Those that are there.
    fn current(world: &World) -> Result<Vec<Current<Self>>, LoadError>;

    /// What one is called.
    #[expect(clippy::unnecessary_literal_bound, reason = "others have the name of their own")]
    fn name(_definition: &Self::Definition) -> &str {
        ""
    }

    /// The aggregate, with as much of its state as its claims depend on.
    fn state(_definition: &Self::Definition) -> Self::Root {
        Self::Root::default()
    }

    /// Whether the aggregate is still what the views said.
    fn is_still(_definition: &Self::Definition, _state: &Self::Root) -> bool {
        true
    }

    /// Whether a file can say what it is.
    fn can_be_written(_definition: &Self::Definition, _names: &Names) -> bool {
        true
    }

    /// Whom and what one is given to, and what is attached to it.
    fn lists() -> Vec<List<Self::Root>> {
        Vec::new()
    }

    /// Turns what a file has into what the API takes: names into ids.
    fn from_file(
        _fields: &mut Map<String, serde_json::Value>,
        _planner: &Planner<'_>,
    ) -> Result<(), FieldError> {
        Ok(())
    }

    /// Turns what the aggregate has into what a file has: ids into names.
    fn to_file(_fields: &mut Map<String, serde_json::Value>, _world: &Names) {}

    /// What was asked for: of one that is there `before`, or of a new one.
    fn define(
        body: Self::Body,
        before: Option<&Self::Definition>,
        planner: &mut Planner<'_>,
    ) -> Result<Self::Definition, FieldError>;

    /// What the API checks of a change that neither the parser nor the aggregate can.
    fn check(_definition: &Self::Definition, _planner: &Planner<'_>) -> Result<(), FieldError> {
        Ok(())
    }

    /// Whether that change is made before all others, and not in its turn.
    fn is_urgent(_before: &Self::Definition, _after: &Self::Definition) -> bool {
        false
    }

    /// What must be there before it: ids.
    fn needs(_definition: &Self::Definition) -> Vec<String> {
        Vec::new()
    }

    /// Makes a new one.
    fn create(
        _definition: &Self::Definition,
        _planner: &Planner<'_>,
    ) -> Result<Made<Self::Root>, PlanError> {
        Err(PlanError::Fixed(Self::ONE))
    }

    /// Changes one.
    fn configure(definition: &Self::Definition) -> Command<Self>;

    /// Removes one; none if it can't be removed.
    fn delete() -> Option<Command<Self>> {
        None
    }

    /// From now on others can name it: this id, so defined.
    fn arrives(_id: &str, _definition: &Self::Definition, _planner: &mut Planner<'_>) {}
    /// From now on others can't name it any more.
    fn leaves(_definition: &Self::Definition, _planner: &mut Planner<'_>) {}
}

/// What can be asked of one of a kind.
pub type Command<K> = <<K as Kind>::Root as Aggregate>::Command;

/// One that is there.
pub struct Current<K: Kind + ?Sized> {
    /// Its aggregate's id.
    pub id: String,
    /// The sequence of the last event that changed what an admin writes; none where the views don't
    /// say, and [`Kind::is_still`] does.
    pub revision: Option<i64>,
    /// What an admin wrote.
    pub definition: K::Definition,
    /// As many as [`Kind::lists`].
    pub lists: Vec<Holders>,
    /// The secret that is gone when it is.
    pub secret: Option<SecretId>,
}

impl<K: Kind> Current<K> {
    /// The only one of its kind.
    pub fn single(id: &str, definition: K::Definition) -> Self {
        Self { id: id.to_owned(), revision: None, definition, lists: Vec::new(), secret: None }
    }
}

/// A list of those to whom something is given.
pub struct List<A: Root> {
    /// Its name in a file.
    pub name: &'static str,
    /// Who is on it.
    pub of: Of<A>,
}

/// Who can be on a list, how they are put on it, and how they are taken off it.
pub enum Of<A: Root> {
    /// Users, by their name or e-mail address.
    Users(fn(UserId) -> A::Command, fn(UserId) -> A::Command),
    /// Groups, by their name.
    Groups(fn(GroupName) -> A::Command, fn(GroupName) -> A::Command),
    /// Networks, by their name.
    Networks(fn(NetworkId) -> A::Command, fn(NetworkId) -> A::Command),
    /// Everybody or nobody: a file has `true` or `false`.
    Everybody(fn() -> A::Command, fn() -> A::Command),
}

/// What is on a list that everybody is on.
const EVERYBODY: &str = "everybody";

impl<A: Root> List<A> {
    /// Everybody, if they are on it.
    pub fn everybody(is_on_it: bool) -> Holders {
        let everybody = (EVERYBODY.to_owned(), EVERYBODY.to_owned());
        is_on_it.then_some(everybody).into_iter().collect()
    }

    fn is_switch(&self) -> bool {
        matches!(self.of, Of::Everybody(..))
    }

    fn read(&self, name: &str, planner: &Planner<'_>) -> Result<(String, String), String> {
        match self.of {
            Of::Everybody(..) => Ok((EVERYBODY.to_owned(), EVERYBODY.to_owned())),
            Of::Users(..) => planner.names.user(name),
            // Any group may be named.
            Of::Groups(..) => {
                let group = name.parse::<GroupName>().map_err(|error| error.0)?.to_string();
                Ok((group.clone(), group))
            }
            Of::Networks(..) => {
                planner.names.network(name).map(|it| (it.id.to_string(), it.name.clone()))
            }
        }
    }

    /// The command that puts `holder` on the list, or takes them off it.
    fn command(&self, holder: &str, give: bool) -> Option<A::Command> {
        Some(match self.of {
            Of::Everybody(to, from) => (if give { to } else { from })(),
            Of::Users(to, from) => (if give { to } else { from })(holder.parse().ok()?),
            Of::Groups(to, from) => (if give { to } else { from })(holder.parse().ok()?),
            Of::Networks(to, from) => (if give { to } else { from })(holder.parse().ok()?),
        })
    }

    /// `user ada`
    fn holder(&self, name: &str) -> String {
        let name = plain(&name.into());
        match self.of {
            Of::Users(..) => format!("user {name}"),
            Of::Groups(..) => format!("group {name}"),
            Of::Networks(..) => format!("network {name}"),
            Of::Everybody(..) => name,
        }
    }

    /// As it stands in a file.
    fn out(&self, holders: &Holders) -> Out {
        if self.is_switch() {
            Out::Value((!holders.is_empty()).into())
        } else {
            Out::List(sorted(holders).into_iter().map(Out::Value).collect())
        }
    }

    /// The line of a difference that says who comes (true) and who goes (false).
    fn line(&self, moved: &[(bool, &String)]) -> Option<String> {
        let mut moved = moved.to_vec();
        moved.sort_by_cached_key(|(give, name)| (!*give, name.to_lowercase(), (*name).clone()));
        let (give, _) = *moved.first()?;
        if self.is_switch() {
            return Some(format!("{}: {} -> {give}", self.name, !give));
        }
        let signed = |(give, name): (bool, &String)| {
            format!("{} {}", if give { "+" } else { "-" }, plain(&name.as_str().into()))
        };
        let names: Vec<String> = moved.into_iter().map(signed).collect();
        Some(format!("{}: {}", self.name, names.join(", ")))
    }
}

/// A kind, as those see it who need not know which it is.
#[async_trait]
pub trait Section: Send + Sync {
    /// Its name in a file.
    fn name(&self) -> &'static str;
    /// All of it, in order.
    fn export(&self, world: &World) -> Result<Out, LoadError>;
    /// Who claims what: their id, what they are called, their claims.
    fn claims(&self, world: &World) -> Result<Vec<(String, String, Vec<Claim>)>, LoadError>;
    /// Plans what makes `node` of what is there.
    async fn plan(&self, node: &Node, planner: &mut Planner<'_>) -> Result<(), PlanError>;
}

#[async_trait]
impl<K: Kind> Section for K {
    fn name(&self) -> &'static str {
        K::SECTION
    }

    fn export(&self, world: &World) -> Result<Out, LoadError> {
        let mut current = by_name::<K>(world)?;
        current.retain(|it| K::can_be_written(&it.definition, &world.names));
        let things = current.iter().map(|it| {
            let mut entries: Vec<(String, Out)> = shown::<K>(&it.definition, &world.names)
                .map_err(|error| LoadError::damaged(K::SECTION, &it.id, error))?
                .into_iter()
                .map(|(name, value)| (name.to_owned(), Out::Value(value)))
                .collect();
            for (list, holders) in K::lists().iter().zip(&it.lists) {
                entries.push((list.name.to_owned(), list.out(holders)));
            }
            Ok(Out::Map(entries))
        });
        let mut things = things.collect::<Result<Vec<_>, LoadError>>()?;
        Ok(if K::SINGLE { things.pop().unwrap_or(Out::Map(Vec::new())) } else { Out::List(things) })
    }

    fn claims(&self, world: &World) -> Result<Vec<(String, String, Vec<Claim>)>, LoadError> {
        let current = K::current(world)?.into_iter();
        Ok(current
            .map(|it| {
                let claims = K::state(&it.definition).claims(&it.id);
                (it.id, called::<K>(&it.definition), claims)
            })
            .collect())
    }

    async fn plan(&self, node: &Node, planner: &mut Planner<'_>) -> Result<(), PlanError> {
        let current = by_name::<K>(planner.world)?;
        let entries: Vec<(String, &Node)> = match &node.value {
            _ if K::SINGLE => vec![(K::SECTION.to_owned(), node)],
            Value::List(items) => {
                let at = |(n, item)| (format!("{}[{n}]", K::SECTION), item);
                items.iter().enumerate().map(at).collect()
            }
            _ => {
                let message = format!("`{}` must be a list; `[]` is none", K::SECTION);
                planner.faults.push(Fault { line: node.line, message });
                return Ok(());
            }
        };
        let places: HashMap<String, usize> = current
            .iter()
            .enumerate()
            .map(|(n, it)| (K::name(&it.definition).to_lowercase(), n))
            .collect();
        let mut seen: HashMap<String, u64> = HashMap::new();
        let mut wanted = Vec::new();
        for (at, entry) in entries {
            let name = entry.get("name").and_then(Node::text).unwrap_or_default().trim();
            let key = if K::SINGLE { String::new() } else { name.to_lowercase() };
            if let Some(line) = seen.insert(key.clone(), entry.line).filter(|_| !key.is_empty()) {
                let of = format!("is also the name of the {} in line {line}", K::ONE);
                planner.fault(entry, &at, "name", &of);
                continue;
            }
            let before = places.get(&key).and_then(|n| current.get(*n));
            if let Some(it) = read::<K>(entry, at, before, planner) {
                wanted.push(it);
            }
        }
        // First those that go, and then those that come: names may move from one to the other.
        let left: Vec<&Current<K>> = current
            .iter()
            .filter(|it| !seen.contains_key(&K::name(&it.definition).to_lowercase()))
            .collect();
        for it in left {
            match K::delete().filter(|_| planner.prune) {
                Some(delete) => {
                    K::leaves(&it.definition, planner);
                    remove::<K>(it, delete, planner);
                }
                None => planner.kept.push(called::<K>(&it.definition)),
            }
        }
        for it in wanted {
            match it.before {
                Some(before) => change(&it, before, planner).await?,
                None => add(&it, planner).await?,
            }
        }
        Ok(())
    }
}

/// Those that are there, in the order of their names.
fn by_name<K: Kind>(world: &World) -> Result<Vec<Current<K>>, LoadError> {
    let mut current = K::current(world)?;
    current.sort_by_cached_key(|it| {
        let name = K::name(&it.definition);
        (name.to_lowercase(), name.to_owned())
    });
    Ok(current)
}

/// What a file asks for.
struct Wanted<'a, K: Kind> {
    entry: &'a Node,
    at: String,
    before: Option<&'a Current<K>>,
    definition: K::Definition,
    /// None where the file says nothing of a list.
    lists: Vec<Option<Holders>>,
}

/// Reads an entry; none if it is wrong.
fn read<'a, K: Kind>(
    entry: &'a Node,
    at: String,
    before: Option<&'a Current<K>>,
    planner: &mut Planner<'_>,
) -> Option<Wanted<'a, K>> {
    let lists = K::lists();
    let names: Vec<&str> = lists.iter().map(|it| it.name).collect();
    let mut given = entry.json(&names);
    if let Some((api, file)) = K::ALIASES.iter().find(|(api, _)| given.get(api).is_some()) {
        let message = format!("is not known in a file: name it as `{file}`");
        planner.fault(entry, &at, api, &message);
        return None;
    }
    let definition = given.as_object_mut().map_or(Ok(()), |it| K::from_file(it, planner));
    let definition = definition.and_then(|()| {
        let body = document::typed(given)?;
        K::define(body, before.map(|it| &it.definition), planner)
    });
    let mut holders = Vec::new();
    for list in &lists {
        holders.push(entry.get(list.name).map(|node| on_list(list, node, entry, &at, planner)));
    }
    match definition {
        Ok(definition) => Some(Wanted { entry, at, before, definition, lists: holders }),
        Err(wrong) => {
            planner.fault(entry, &at, in_file::<K>(&wrong.field), &wrong.message);
            None
        }
    }
}

fn on_list<A: Root>(
    list: &List<A>,
    node: &Node,
    entry: &Node,
    at: &str,
    planner: &mut Planner<'_>,
) -> Holders {
    let mut holders = Holders::new();
    if list.is_switch() {
        match node.value {
            Value::Bool(is_on_it) => return List::<A>::everybody(is_on_it),
            _ => planner.fault(entry, at, list.name, "must be `true` or `false`"),
        }
        return holders;
    }
    let Value::List(items) = &node.value else {
        planner.fault(entry, at, list.name, "must be a list; `[]` is none");
        return holders;
    };
    for (n, item) in items.iter().enumerate() {
        let text = item.text().ok_or_else(|| NOT_A_TEXT.to_owned());
        match text.and_then(|text| list.read(text, planner)) {
            Ok((id, called)) => {
                holders.insert(id, called);
            }
            Err(wrong) => {
                let said = item.text().map_or(wrong.clone(), |text| format!("`{text}` {wrong}"));
                planner.fault(entry, at, &format!("{}[{n}]", list.name), &said);
            }
        }
    }
    holders
}

async fn add<K: Kind>(it: &Wanted<'_, K>, planner: &mut Planner<'_>) -> Result<(), PlanError> {
    let called = called::<K>(&it.definition);
    if let Err(wrong) = K::check(&it.definition, planner) {
        planner.fault(it.entry, &it.at, in_file::<K>(&wrong.field), &wrong.message);
        return Ok(());
    }
    let made = K::create(&it.definition, planner)?;
    let id = made.id.clone();
    let mut state = K::Root::default();
    if !tried::<K>(&mut state, made.command.clone(), it, planner).await {
        return Ok(());
    }
    let mut lines: Vec<String> = shown::<K>(&it.definition, &planner.names)?
        .into_iter()
        .map(|(name, value)| format!("{name}: {}", plain(&value)))
        .collect();
    let mut needs: BTreeSet<String> = K::needs(&it.definition).into_iter().collect();
    let mut steps = vec![Step::create(format!("add {called}"), made)];
    for (list, holders) in K::lists().iter().zip(&it.lists) {
        let Some(holders) = holders.as_ref().filter(|it| !it.is_empty()) else { continue };
        lines.push(if list.is_switch() {
            format!("{}: true", list.name)
        } else {
            let names: Vec<String> = sorted(holders).iter().map(plain).collect();
            format!("{}: {}", list.name, names.join(", "))
        });
        for (holder, name) in holders {
            needs.insert(holder.clone());
            let Some(command) = list.command(holder, true) else { continue };
            let what = format!("give {called} to {}", list.holder(name));
            if tried::<K>(&mut state, command.clone(), it, planner).await {
                steps.push(Step::ask::<K::Root>(what, &id, command));
            }
        }
    }
    K::arrives(&id, &it.definition, planner);
    planner.changes.push(Change {
        verb: Verb::Add,
        takes: state.claims(&id),
        releases: Vec::new(),
        makes: true,
        urgent: false,
        place: planner.place(it.entry, &it.at),
        owner: id,
        called,
        lines,
        steps,
        needs,
    });
    Ok(())
}

async fn change<K: Kind>(
    it: &Wanted<'_, K>,
    before: &Current<K>,
    planner: &mut Planner<'_>,
) -> Result<(), PlanError> {
    let called = called::<K>(&it.definition);
    let id = &before.id;
    let lists = K::lists();
    K::arrives(id, &it.definition, planner);
    let is_changed = it.definition != before.definition;
    let mut moves = Vec::new();
    for ((list, wanted), held) in lists.iter().zip(&it.lists).zip(&before.lists) {
        let Some(wanted) = wanted else { continue };
        let gone = held.iter().filter(|(holder, _)| !wanted.contains_key(*holder));
        let (taken, kept): (Vec<_>, Vec<_>) = gone.partition(|_| planner.prune || list.is_switch());
        for (_, name) in kept {
            planner.kept.push(format!("{} of {called}", list.holder(name)));
        }
        let given = wanted.iter().filter(|(holder, _)| !held.contains_key(*holder));
        let both = given.map(|it| (true, it)).chain(taken.into_iter().map(|it| (false, it)));
        moves.push((list, both.collect::<Vec<_>>()));
    }
    if !is_changed && moves.iter().all(|(_, both)| both.is_empty()) {
        return Ok(());
    }
    if is_changed && let Err(wrong) = K::check(&it.definition, planner) {
        planner.fault(it.entry, &it.at, in_file::<K>(&wrong.field), &wrong.message);
        return Ok(());
    }
    let loaded = planner.means.store.load::<K::Root>(id).await?;
    let revision = loaded.revision;
    let mut state = loaded.state;
    if before.revision.is_some_and(|it| it != revision) || !K::is_still(&before.definition, &state)
    {
        return Err(PlanError::Moved(called));
    }
    let mut lines = Vec::new();
    let mut steps = Vec::new();
    if is_changed {
        let command = K::configure(&it.definition);
        if !tried::<K>(&mut state, command.clone(), it, planner).await {
            return Ok(());
        }
        let what = format!("change {called}");
        steps.push(Step::configure::<K::Root>(what, id, command, revision));
        let old: HashMap<_, _> =
            shown::<K>(&before.definition, &planner.names)?.into_iter().collect();
        let new = shown::<K>(&it.definition, &planner.names)?;
        for name in fields::<K>() {
            let was = old.get(name).unwrap_or(&serde_json::Value::Null);
            let is = new.iter().find(|(it, _)| *it == name).map(|(_, value)| value);
            let is = is.unwrap_or(&serde_json::Value::Null);
            if was != is {
                lines.push(format!("{name}: {} -> {}", plain(was), plain(is)));
            }
        }
    }
    let mut needs: BTreeSet<String> = K::needs(&it.definition).into_iter().collect();
    // Given first: who changes from one list to another is not without it in between.
    for give in [true, false] {
        for (list, both) in &moves {
            for (_, (holder, name)) in both.iter().filter(|(it, _)| *it == give) {
                let Some(command) = list.command(holder, give) else { continue };
                if !tried::<K>(&mut state, command.clone(), it, planner).await {
                    continue;
                }
                let (verb, to) = if give { ("give", "to") } else { ("take", "from") };
                let what = format!("{verb} {called} {to} {}", list.holder(name));
                if give {
                    needs.insert((*holder).clone());
                }
                steps.push(Step::ask::<K::Root>(what, id, command));
            }
        }
    }
    for (list, both) in &moves {
        let moved: Vec<_> = both.iter().map(|(give, (_, name))| (*give, *name)).collect();
        lines.extend(list.line(&moved));
    }
    let (old, new) = (K::state(&before.definition).claims(id), K::state(&it.definition).claims(id));
    planner.changes.push(Change {
        verb: Verb::Change,
        takes: new.iter().filter(|it| !old.contains(it)).cloned().collect(),
        releases: old.iter().filter(|it| !new.contains(it)).cloned().collect(),
        makes: false,
        urgent: K::is_urgent(&before.definition, &it.definition),
        place: planner.place(it.entry, &it.at),
        owner: id.clone(),
        called,
        lines,
        steps,
        needs,
    });
    Ok(())
}

fn remove<K: Kind>(it: &Current<K>, delete: Command<K>, planner: &mut Planner<'_>) {
    let called = called::<K>(&it.definition);
    let what = format!("remove {called}");
    let step = Step::delete::<K::Root>(what, &it.id, delete, it.revision, it.secret.clone());
    planner.changes.push(Change {
        verb: Verb::Remove,
        takes: Vec::new(),
        releases: K::state(&it.definition).claims(&it.id),
        makes: false,
        urgent: false,
        place: None,
        owner: it.id.clone(),
        called,
        lines: Vec::new(),
        steps: vec![step],
        needs: BTreeSet::new(),
    });
}

/// Asks the aggregate, which is changed by it; whether it would do it.
async fn tried<K: Kind>(
    state: &mut K::Root,
    command: Command<K>,
    it: &Wanted<'_, K>,
    planner: &mut Planner<'_>,
) -> bool {
    match attempt(state, command).await {
        Ok(()) => true,
        Err((field, message)) => {
            planner.fault(it.entry, &it.at, in_file::<K>(field.unwrap_or_default()), &message);
            false
        }
    }
}

/// `gateway us-east-1`
fn called<K: Kind>(definition: &K::Definition) -> String {
    if K::SINGLE {
        K::ONE.to_owned()
    } else {
        format!("{} {}", K::ONE, plain(&K::name(definition).into()))
    }
}

/// The fields' names, in order, as a file has them.
fn fields<K: Kind>() -> Vec<&'static str> {
    fields_of::<K::Body>().iter().map(|it| in_file::<K>(it)).collect()
}

fn in_file<K: Kind>(field: &str) -> &str {
    K::ALIASES.iter().find(|(api, _)| *api == field).map_or(field, |(_, file)| file)
}

/// The fields as a file has them, in order, without those that are null.
fn shown<K: Kind>(
    definition: &K::Definition,
    names: &Names,
) -> Result<Vec<(&'static str, serde_json::Value)>, serde_json::Error> {
    let serde_json::Value::Object(mut whole) = serde_json::to_value(definition)? else {
        return Ok(Vec::new());
    };
    K::to_file(&mut whole, names);
    let known = fields::<K>().into_iter();
    Ok(known
        .filter_map(|name| whole.remove(name).filter(|it| !it.is_null()).map(|it| (name, it)))
        .collect())
}

fn sorted(holders: &Holders) -> Vec<serde_json::Value> {
    let mut names: Vec<&String> = holders.values().collect();
    names.sort_by_cached_key(|it| (it.to_lowercase(), (*it).clone()));
    names.into_iter().map(|it| it.clone().into()).collect()
}
