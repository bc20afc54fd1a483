//! An event log in the test's own process, on an empty database of either kind.

use super::postgres::{Database, Postgres};
use super::server::MASTER_KEY;
use super::world::Kind;
use gatekey::clock::Clock;
use gatekey::entropy::Entropy;
use gatekey::event_log::{
    Append, Bus, Follower, NewEvent, OpenError, Opened, Options, Running, StreamAppend, open,
};
use gatekey::secrets::MasterKey;
use gatekey_aggregates::{Event, Metadata, PersonId, Recorded};
use gatekey_projections::{Db, Dialect, Location, View, all_views};
use std::collections::BTreeMap;
use std::sync::Arc;
use tempfile::TempDir;

/// A test on both databases: `on_both! { async fn a_test(kind: Kind) { … } }` gives the tests
/// `a_test::sqlite` and `a_test::postgres`.
macro_rules! on_both {
    ($($(#[$meta:meta])* async fn $name:ident($kind:ident: Kind) $body:block)+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;

            $(#[$meta])*
            async fn test($kind: $crate::harness::Kind) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                test($crate::harness::Kind::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                test($crate::harness::Kind::Postgres).await;
            }
        }
    )+};
}

/// A log, opened, on a database of its own.
pub struct Log {
    /// The first node. Dropped before what it stands on.
    pub node: Node,
    /// `postgres://…` or `sqlite://…`
    pub url: String,
    views: Vec<&'static dyn View>,
    _database: Option<Database>,
    _data: TempDir,
}

/// One node's log.
pub struct Node {
    /// What it reads by.
    pub opened: Opened,
    /// What it writes by.
    pub running: Running,
    /// Randomness.
    pub entropy: Entropy,
}

impl Log {
    /// A new one with every view.
    pub async fn new(kind: Kind) -> Self {
        Self::with(kind, all_views().to_vec(), Vec::new()).await
    }

    /// A new one with these views, whose first node has these followers.
    pub async fn with(
        kind: Kind,
        views: Vec<&'static dyn View>,
        followers: Vec<Arc<dyn Follower>>,
    ) -> Self {
        let database = (kind == Kind::Postgres).then(|| Postgres::shared().empty_database());
        let data = tempfile::tempdir().expect("a temporary directory");
        let url = match &database {
            Some(database) => database.url.clone(),
            None => format!("sqlite://{}", data.path().join("gatekey.db").display()),
        };
        let opened = open_at(&url, views.clone(), master()).await.expect("a new log");
        let node = Node::start(opened, followers);
        Self { node, url, views, _database: database, _data: data }
    }

    /// Opens it again, as another node would.
    pub async fn open(&self, master: MasterKey) -> Result<Opened, OpenError> {
        open_at(&self.url, self.views.clone(), master).await
    }

    /// Another node on the same log.
    pub async fn another_node(&self) -> Node {
        Node::start(self.open(master()).await.expect("the log once more"), Vec::new())
    }

    /// Where it is.
    pub fn location(&self) -> Location {
        Location::parse(&self.url).expect("a database URL")
    }

    /// The first node's database.
    pub fn db(&self) -> &Db {
        &self.node.opened.db
    }

    /// The first node's bus.
    pub fn bus(&self) -> &Bus {
        &self.node.running.bus
    }

    /// Every event, in order.
    pub async fn events(&self) -> Vec<Recorded> {
        self.node.opened.reader.after(0, i64::MAX).await.expect("the log")
    }
}

impl Node {
    /// A node in this process beside the servers that use the database at `url`.
    pub async fn at(url: &str) -> Self {
        let opened = open_at(url, all_views().to_vec(), master()).await.expect("the log");
        Self::start(opened, Vec::new())
    }

    fn start(opened: Opened, followers: Vec<Arc<dyn Follower>>) -> Self {
        let running = opened.start(followers);
        Self { opened, running, entropy: Entropy::system(Clock::system()) }
    }
}

/// The tests' master key.
pub fn master() -> MasterKey {
    MasterKey::from_base64(MASTER_KEY, "the tests' master key").expect("32 bytes, base64")
}

/// Opens the log at `url`.
pub async fn open_at(
    url: &str,
    views: Vec<&'static dyn View>,
    master: MasterKey,
) -> Result<Opened, OpenError> {
    let clock = Clock::system();
    let options = Options {
        location: Location::parse(url).expect("a database URL"),
        master: Arc::new(master),
        entropy: Entropy::system(clock.clone()),
        clock,
        views,
    };
    open(options, |_, _| {}).await
}

/// Who does what tests do.
pub fn metadata() -> Metadata {
    let mut metadata = Metadata::system("test", PersonId::from("usr-ada".to_owned()));
    metadata.source_ip = Some("192.0.2.7".to_owned());
    metadata
}

/// `events` for one stream that has `version` events, as nobody's decision and nothing sealed.
pub fn append(aggregate_id: &str, version: i64, events: Vec<Event>) -> Append {
    let aggregate_type = events.first().map_or("", Event::aggregate_type);
    let command_id = Entropy::system(Clock::system()).uuid().expect("randomness");
    let mut stored_metadata = metadata().to_map();
    stored_metadata.insert("command_id", command_id.to_string());
    let stored_metadata = serde_json::to_string(&stored_metadata).expect("JSON");
    let events = events
        .into_iter()
        .map(|event| NewEvent {
            version: "1".to_owned(),
            payload: event.payload().expect("JSON").to_string(),
            metadata: metadata(),
            stored_metadata: stored_metadata.clone(),
            event,
        })
        .collect();
    Append {
        command_id,
        streams: vec![StreamAppend {
            aggregate_type,
            aggregate_id: aggregate_id.to_owned(),
            expected_version: version,
            events,
            takes: Vec::new(),
            releases: Vec::new(),
        }],
        secrets: Vec::new(),
        forgotten: Vec::new(),
        answering: None,
    }
}

/// Every row of every table of `views`, as JSON, by table.
pub async fn rows_of(db: &Db, views: &[&'static dyn View]) -> BTreeMap<String, Vec<String>> {
    let mut tables = BTreeMap::new();
    for table in views.iter().flat_map(|view| view.tables()) {
        let row = match db.dialect() {
            Dialect::Postgres => "CAST(to_jsonb(t) AS text)".to_owned(),
            Dialect::Sqlite => {
                let sql = "SELECT name FROM pragma_table_info($1)";
                let columns: Vec<(String,)> =
                    db.all(sql, &[(*table).into()]).await.expect("the columns");
                let pairs: Vec<String> =
                    columns.iter().map(|(name,)| format!("'{name}', t.{name}")).collect();
                format!("json_object({})", pairs.join(", "))
            }
        };
        let sql = format!("SELECT {row} AS line FROM {table} t ORDER BY 1");
        let rows: Vec<(String,)> = db.all(&sql, &[]).await.expect("the rows");
        tables.insert((*table).to_owned(), rows.into_iter().map(|(row,)| row).collect());
    }
    tables
}
