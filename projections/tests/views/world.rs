//! A database with views, and a log that is written by hand.

use gatekey_aggregates::values::{from_micros, micros};
use gatekey_aggregates::{Event, Metadata, PersonId, Recorded};
use gatekey_projections::{Arg, Conn, Db, Location, all_views, project};
use std::collections::HashMap;

use crate::postgres::{Database, Postgres};

const SQLITE_SCRIPTS: [&str; 2] = [
    include_str!("../../../migrations/sqlite/0001_log.sql"),
    include_str!("../../../migrations/sqlite/0002_views.sql"),
];
const POSTGRES_SCRIPTS: [&str; 2] = [
    include_str!("../../../migrations/postgres/0001_log.sql"),
    include_str!("../../../migrations/postgres/0002_views.sql"),
];

/// What a database needs to be there, and to go in the end.
#[expect(dead_code, reason = "they are held")]
enum Home {
    Directory(tempfile::TempDir),
    Database(Database),
}

pub struct World {
    pub db: Db,
    pub conn: Conn,
    position: i64,
    sequences: HashMap<(String, String), i64>,
    // Last: it goes when nothing is connected any more.
    _home: Home,
}

/// Runs a test on each of the two databases.
pub async fn on_each(test: impl AsyncFn(World)) {
    test(World::sqlite().await).await;
    test(World::postgres().await).await;
}

/// When the event at this position is recorded.
pub fn time(position: i64) -> i64 {
    (1_800_000_000 + position) * 1_000_000
}

/// The same as a time.
pub fn at(position: i64) -> chrono::DateTime<chrono::Utc> {
    from_micros(time(position))
}

impl World {
    pub async fn sqlite() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", directory.path().join("views.db").display());
        Self::open(&url, &SQLITE_SCRIPTS, Home::Directory(directory)).await
    }

    pub async fn postgres() -> Self {
        let database = Postgres::shared().empty_database();
        let url = database.url.clone();
        Self::open(&url, &POSTGRES_SCRIPTS, Home::Database(database)).await
    }

    async fn open(url: &str, scripts: &[&str], home: Home) -> Self {
        let location = Location::parse(url).unwrap();
        // Whether a commit outlives a crash is not what is tested here.
        let mut conn = location.connect(&[("synchronous_commit", "off")]).await.unwrap();
        for script in scripts {
            conn.script(script).await.unwrap();
        }
        let db = location.open(gatekey_projections::Purpose::Queries).await.unwrap();
        Self { db, conn, position: 0, sequences: HashMap::new(), _home: home }
    }

    /// Gives the events their places in the log.
    pub fn record(&mut self, events: Vec<(&str, Event)>) -> Vec<Recorded> {
        events
            .into_iter()
            .map(|(id, event)| {
                self.position += 1;
                let stream = (event.aggregate_type().to_owned(), id.to_owned());
                let sequence = self.sequences.entry(stream).or_default();
                *sequence += 1;
                Recorded {
                    position: self.position,
                    recorded_at: at(self.position),
                    aggregate_type: event.aggregate_type().to_owned(),
                    aggregate_id: id.to_owned(),
                    sequence: *sequence,
                    event,
                    metadata: metadata("usr-root"),
                }
            })
            .collect()
    }

    /// Writes a batch, as the log writer would.
    pub async fn commit(&mut self, events: Vec<(&str, Event)>) {
        self.commit_by("usr-root", events).await;
    }

    /// The same, by somebody.
    pub async fn commit_by(&mut self, actor: &str, events: Vec<(&str, Event)>) {
        let mut batch = self.record(events);
        for event in &mut batch {
            event.metadata = metadata(actor);
        }
        self.conn.begin().await.unwrap();
        for event in &batch {
            self.append(event).await;
        }
        project(&mut self.conn, all_views(), &batch, "").await.unwrap();
        let sql = "UPDATE head SET position = $1 WHERE id = 1";
        self.conn.execute(sql, &[self.position.into()]).await.unwrap();
        self.conn.commit().await.unwrap();
    }

    async fn append(&mut self, event: &Recorded) {
        let json = match &self.conn {
            Conn::Postgres(_) => "json",
            Conn::Sqlite(..) => "text",
        };
        let sql = format!(
            "INSERT INTO events (aggregate_type, aggregate_id, sequence, event_type, event_version, \
               payload, metadata, position, recorded_at) \
             VALUES ($1, $2, $3, $4, '1', CAST($5 AS {json}), CAST($6 AS {json}), $7, $8)"
        );
        let args: [Arg; 8] = [
            event.aggregate_type.clone().into(),
            event.aggregate_id.clone().into(),
            event.sequence.into(),
            event.event.code().into(),
            event.event.payload().unwrap().to_string().into(),
            serde_json::to_string(&event.metadata.to_map()).unwrap().into(),
            event.position.into(),
            micros(event.recorded_at).into(),
        ];
        self.conn.execute(&sql, &args).await.unwrap();
    }

    /// What is no event.
    pub async fn execute(&mut self, sql: &str) {
        self.conn.script(sql).await.unwrap();
    }
}

fn metadata(actor: &str) -> Metadata {
    Metadata::system(actor, PersonId::from(actor.to_owned()))
}
