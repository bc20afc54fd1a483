//! A world for one test: an empty database of either kind, a server on it, and its first admin.

use super::client::Api;
use super::epilogue::Epilogue;
use super::postgres::{Database, Postgres};
use super::server::{ADMIN_PASSWORD, Refused, Server};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file in the data directory.
    Sqlite,
    /// A database of its own in the tests' PostgreSQL.
    Postgres,
}

/// A running control plane with nothing in it but its first admin.
pub struct World {
    /// The server. Dropped before what it stands on.
    pub server: Server,
    database: Option<Database>,
    data: TempDir,
}

/// A test on both databases: `both! { async fn a_journey(world: World) { … } }` gives the tests
/// `a_journey::sqlite` and `a_journey::postgres`. What its server's environment has besides may stand
/// behind the world: `(world: World, "GATEKEY_RATE_LIMITS" = "on")`.
macro_rules! both {
    ($(
        $(#[$meta:meta])*
        async fn $name:ident($world:ident: World $(, $variable:literal = $value:expr)*) $body:block
    )+) => {$(
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            use $crate::harness::{Kind, World};

            $(#[$meta])*
            async fn journey($world: World) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn sqlite() {
                journey(World::start_with(Kind::Sqlite, &[$(($variable, $value)),*])).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn postgres() {
                journey(World::start_with(Kind::Postgres, &[$(($variable, $value)),*])).await;
            }
        }
    )+};
}

impl World {
    /// A new one.
    pub fn start(kind: Kind) -> Self {
        Self::start_with(kind, &[])
    }

    /// A new one whose server gets `more` environment.
    pub fn start_with(kind: Kind, more: &[(&str, &str)]) -> Self {
        let database = (kind == Kind::Postgres).then(|| Postgres::shared().copy_of(template()));
        Self::on(database, more)
    }

    /// One whose database has never seen a server.
    pub fn on(database: Option<Database>, more: &[(&str, &str)]) -> Self {
        let data = tempfile::tempdir().expect("a temporary directory");
        let url = database.as_ref().map(|database| database.url.as_str());
        let server = Server::start(data.path(), url, more);
        Self { server, database, data }
    }

    /// Which database it stands on.
    pub fn kind(&self) -> Kind {
        if self.database.is_some() { Kind::Postgres } else { Kind::Sqlite }
    }

    /// The URL of its database.
    pub fn database_url(&self) -> String {
        match &self.database {
            Some(database) => database.url.clone(),
            None => format!("sqlite://{}", self.data.path().join("gatekey.db").display()),
        }
    }

    /// Its data directory.
    pub fn data(&self) -> &std::path::Path {
        self.data.path()
    }

    /// A second server on the same database: on PostgreSQL another node with a data directory of
    /// its own, on SQLite the one that must refuse.
    pub fn second_server(&self, data: &std::path::Path) -> Result<Server, Refused> {
        match &self.database {
            Some(database) => Server::try_start(data, Some(&database.url), &[]),
            None => Server::try_start(self.data.path(), None, &[]),
        }
    }

    /// Nobody's client.
    pub fn anyone(&self) -> Api {
        Api::new(&self.server.url())
    }

    /// The first admin, signed in.
    pub async fn admin(&self) -> Api {
        self.anyone().login("admin", ADMIN_PASSWORD).await
    }
}

/// A database that a server has once started on and left: its schema, authority and first admin are
/// there, and a copy of it saves each test the making.
fn template() -> &'static Database {
    static TEMPLATE: OnceLock<(Database, Option<Epilogue>)> = OnceLock::new();
    let (database, _) = TEMPLATE.get_or_init(|| {
        let database = Postgres::shared().empty_database();
        let data = tempfile::tempdir().expect("a temporary directory");
        let server = Server::start(data.path(), Some(&database.url), &[]);
        let status = server.stop();
        assert!(status.success(), "the template's server ended with {status}");
        let epilogue = Postgres::shared().drop_at_exit(&database);
        (database, epilogue)
    });
    database
}
