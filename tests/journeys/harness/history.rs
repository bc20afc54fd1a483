//! Random histories: commands and events of every kind on a few streams of each type, the same ones
//! for the same seed.

use super::log::{append, metadata};
use gatekey::event_log::{Append, Bus, CommandError, Request};
use gatekey_aggregates::access_rule::AccessRule;
use gatekey_aggregates::attempt::Attempt;
use gatekey_aggregates::authority::{self, Authority};
use gatekey_aggregates::certificate::Certificate;
use gatekey_aggregates::gateway::Gateway;
use gatekey_aggregates::geo_fence::{self, GeoFence};
use gatekey_aggregates::geo_fence_rule::GeoFenceRule;
use gatekey_aggregates::login::Login;
use gatekey_aggregates::mesh_hub::MeshHub;
use gatekey_aggregates::network::Network;
use gatekey_aggregates::session::Session;
use gatekey_aggregates::settings::{self, Settings};
use gatekey_aggregates::user::User;
use gatekey_aggregates::{Event, Root, arbitrary};
use proptest::strategy::{BoxedStrategy, Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;

/// A command to be carried out; gives whether it was news.
pub type Deed = Box<dyn FnOnce(Bus) -> Doing + Send>;
type Doing = Pin<Box<dyn Future<Output = Result<bool, CommandError>> + Send>>;

/// Makes it all up.
pub struct History {
    runner: TestRunner,
    versions: HashMap<(String, String), i64>,
}

/// Types of aggregates.
const TYPES: usize = 13;
/// Streams of each type.
const LETTERS: usize = 5;
const ATTEMPTS: Ids = Ids::One("node/2026-11-24");
const AUTHORITY: Ids = Ids::One(authority::ID);
const GEO_FENCE: Ids = Ids::One(geo_fence::ID);
const SETTINGS: Ids = Ids::One(settings::ID);
/// What the commands that begin a stream look like.
const FIRST: [&str; 5] = ["Create {", "Create(", "Register {", "Begin(", "Issue("];

/// What the streams of a type are called: this, or one of a few that begin with it.
#[derive(Clone, Copy)]
enum Ids {
    One(&'static str),
    Some(&'static str),
}

impl History {
    /// Another one for each seed.
    pub fn new(seed: u8) -> Self {
        let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[seed; 32]);
        let runner = TestRunner::new_with_rng(Config::default(), rng);
        Self { runner, versions: HashMap::new() }
    }

    /// A first command for every stream that [`Self::commands`] may go on with: users first.
    pub fn beginnings(&mut self) -> Vec<Deed> {
        (0..TYPES * LETTERS).map(|n| self.deed(n / LETTERS, Some(n % LETTERS))).collect()
    }

    /// That many commands, of each type in turn.
    pub fn commands(&mut self, number: usize) -> Vec<Deed> {
        (0..number).map(|n| self.deed(n % TYPES, None)).collect()
    }

    /// A command on an aggregate of the type; `first`: the one that begins the stream of that letter.
    fn deed(&mut self, of_type: usize, first: Option<usize>) -> Deed {
        match of_type {
            0 => self.command::<User>(Ids::Some("usr-"), first, arbitrary::user_command()),
            1 => self.command::<Gateway>(Ids::Some("gw-"), first, arbitrary::gateway_command()),
            2 => self.command::<Network>(Ids::Some("net-"), first, arbitrary::network_command()),
            3 => {
                let commands = arbitrary::access_rule_command();
                self.command::<AccessRule>(Ids::Some("rule-"), first, commands)
            }
            4 => {
                let commands = arbitrary::certificate_command();
                self.command::<Certificate>(Ids::Some("cfg-"), first, commands)
            }
            5 => self.command::<Session>(Ids::Some("con-"), first, arbitrary::session_command()),
            6 => self.command::<Login>(Ids::Some("ses-"), first, arbitrary::login_command()),
            7 => self.command::<Attempt>(ATTEMPTS, None, arbitrary::attempt_command()),
            8 => self.command::<Authority>(AUTHORITY, None, arbitrary::authority_command()),
            9 => self.command::<GeoFence>(GEO_FENCE, None, arbitrary::geo_fence_command()),
            10 => {
                let commands = arbitrary::geo_fence_rule_command();
                self.command::<GeoFenceRule>(Ids::Some("fence-"), first, commands)
            }
            11 => self.command::<MeshHub>(Ids::Some("hub-"), first, arbitrary::mesh_hub_command()),
            _ => self.command::<Settings>(SETTINGS, None, arbitrary::settings_command()),
        }
    }

    /// That many events of every kind, decided by nobody, up to `together` to a command. The log
    /// must have no other events of their streams.
    pub fn events(&mut self, number: usize, together: usize) -> Vec<Append> {
        let kinds = arbitrary::events();
        let mut appends = Vec::new();
        let mut made = 0;
        while made < number {
            let event = self.draw(&kinds[made % kinds.len()]);
            let id = self.id(ids_of(&event), None);
            let same_kind = move |it: &Event| it.aggregate_type() == event.aggregate_type();
            let mut events = vec![self.draw(&kinds[made % kinds.len()])];
            let more = self.below(together);
            let others: Vec<_> = (0..more * 3)
                .map(|n| self.draw(&kinds[(made + n) % kinds.len()]))
                .filter(same_kind)
                .take(more)
                .collect();
            events.extend(others);
            made += events.len();
            let key = (events[0].aggregate_type().to_owned(), id.clone());
            let version = self.versions.entry(key).or_default();
            let at = *version;
            *version += i64::try_from(events.len()).expect("a few");
            appends.push(append(&id, at, events));
        }
        appends
    }

    fn command<A: Root>(
        &mut self,
        ids: Ids,
        first: Option<usize>,
        commands: BoxedStrategy<A::Command>,
    ) -> Deed
    where
        A::Command: std::fmt::Debug,
    {
        let id = self.id(ids, first);
        let mut command = self.draw(&commands);
        loop {
            let text = format!("{command:?}");
            let will_do = match first {
                Some(_) => FIRST.iter().any(|start| text.starts_with(start)),
                // What is deleted stays so: else nothing would be left after a while.
                None => text != "Delete" || self.below(12) == 0,
            };
            if will_do {
                break;
            }
            command = self.draw(&commands);
        }
        Box::new(move |bus| {
            Box::pin(async move {
                let request = Request::new::<A>(id, command, metadata());
                Ok(bus.execute::<A>(request).await?.appended.is_some())
            })
        })
    }

    fn id(&mut self, ids: Ids, letter: Option<usize>) -> String {
        match ids {
            Ids::One(id) => id.to_owned(),
            Ids::Some(prefix) => {
                let letter = letter.unwrap_or_else(|| self.below(LETTERS));
                let letter = ('a'..='z').nth(letter).expect("a letter");
                format!("{prefix}{letter}")
            }
        }
    }

    fn below(&mut self, limit: usize) -> usize {
        self.draw(&(0..limit.max(1)).boxed())
    }

    fn draw<T: std::fmt::Debug>(&mut self, strategy: &BoxedStrategy<T>) -> T {
        strategy.new_tree(&mut self.runner).expect("a value").current()
    }
}

fn ids_of(event: &Event) -> Ids {
    match event {
        Event::User(_) => Ids::Some("usr-"),
        Event::Gateway(_) => Ids::Some("gw-"),
        Event::MeshHub(_) => Ids::Some("hub-"),
        Event::Network(_) => Ids::Some("net-"),
        Event::AccessRule(_) => Ids::Some("rule-"),
        Event::Certificate(_) => Ids::Some("cfg-"),
        Event::Session(_) => Ids::Some("con-"),
        Event::Login(_) => Ids::Some("ses-"),
        Event::Attempt(_) => ATTEMPTS,
        Event::Authority(_) => AUTHORITY,
        Event::GeoFence(_) => GEO_FENCE,
        Event::GeoFenceRule(_) => Ids::Some("fence-"),
        Event::Settings(_) => SETTINGS,
    }
}

/// Carries out `deeds` from several tasks at once; how many were news. What an aggregate or the log
/// refuses is no failure.
pub async fn carry_out(bus: &Bus, deeds: Vec<Deed>, tasks: usize) -> usize {
    let mut shares: Vec<Vec<Deed>> = (0..tasks).map(|_| Vec::new()).collect();
    for (n, deed) in deeds.into_iter().enumerate() {
        shares[n % tasks].push(deed);
    }
    let mut running = tokio::task::JoinSet::new();
    for share in shares {
        let bus = bus.clone();
        running.spawn(async move {
            let mut news = 0;
            for deed in share {
                match deed(bus.clone()).await {
                    Ok(is_news) => news += usize::from(is_news),
                    Err(
                        CommandError::Refused { .. }
                        | CommandError::Append(_)
                        | CommandError::Contended,
                    ) => {}
                    Err(error) => panic!("{error:?}"),
                }
            }
            news
        });
    }
    running.join_all().await.iter().sum()
}
