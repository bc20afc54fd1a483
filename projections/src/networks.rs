//! Networks: addresses behind gateways, under a name.

use crate::db::Db;
use crate::list::{BY_NAME, ListError, Listed, Orders, Query, Wanted, columns, names};
use crate::rows::{Rows, View};
use crate::table::{stamp, table};
use crate::totals::of;
use gatekey_aggregates::network::{Definition, Event as NetworkEvent};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded};

table! {
    /// A network.
    pub struct NetworkRow: "networks" by [id] {
        /// `net-…`
        id: String,
        /// Unique among those that were not deleted.
        name: String,
        /// Its addresses.
        cidr: String,
        /// Free text.
        description: String,
        /// When it was made known.
        created_at: i64,
        /// When an admin last changed it.
        updated_at: i64,
        /// When it was deleted.
        deleted_at: Option<i64>,
        /// Sequence of the last change by an admin.
        revision: i64,
        /// Position of the last change by an admin.
        etag: i64,
    }
}

impl NetworkRow {
    fn define(&mut self, it: &Definition) {
        self.name = it.name.to_string();
        self.cidr = it.cidr.to_string();
        self.description = it.description.to_string();
    }
}

/// The view of networks.
pub struct Networks;

impl View for Networks {
    fn name(&self) -> &'static str {
        "networks"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["networks"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        if matches!(recorded.event, Event::Network(_)) {
            rows.want::<NetworkRow>(vec![recorded.aggregate_id.clone()]);
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        let Event::Network(event) = &recorded.event else { return };
        let id = &recorded.aggregate_id;
        let at = micros(recorded.recorded_at);
        let mut change = |change: &dyn Fn(&mut NetworkRow)| {
            rows.change::<NetworkRow>(&vec![id.clone()], |row| {
                change(row);
                stamp!(row, recorded);
            });
        };
        match event {
            NetworkEvent::Created { definition } => {
                let mut row = NetworkRow {
                    id: id.clone(),
                    name: String::new(),
                    cidr: String::new(),
                    description: String::new(),
                    created_at: at,
                    updated_at: at,
                    deleted_at: None,
                    revision: recorded.sequence,
                    etag: recorded.position,
                };
                row.define(definition);
                rows.put(row);
            }
            NetworkEvent::Updated { definition } => change(&|row| row.define(definition)),
            NetworkEvent::Deleted {} => change(&|row| row.deleted_at = Some(at)),
        }
    }
}

/// A network, and how much hangs on it.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Network {
    /// The network.
    #[sqlx(flatten)]
    pub row: NetworkRow,
    /// Through how many gateways it can be reached.
    pub gateways: i64,
    /// How many access rules name it.
    pub access_rules: i64,
    /// Through how many mesh hubs it can be reached.
    pub mesh_hubs: i64,
}

/// Which networks are listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Those that can be reached through this gateway.
    pub gateway_id: Option<String>,
}

const ORDERS: [(&str, &str); 3] =
    [("name", "lower(t.name) {}"), ("cidr", "t.cidr {}"), ("created_at", "t.created_at {}")];

/// What networks can be sorted by.
pub const SORT: &[&str] = &names(&ORDERS);

fn query() -> Query {
    let columns = columns::<NetworkRow>("t");
    Query::new(
        format!(
            "{columns}, \
             (SELECT COUNT(*) FROM gateway_networks a WHERE a.network_id = t.id) AS gateways, \
             (SELECT COUNT(*) FROM access_rules r \
              WHERE r.network_id = t.id AND r.deleted_at IS NULL) AS access_rules, \
             (SELECT COUNT(*) FROM mesh_hub_networks a WHERE a.network_id = t.id) AS mesh_hubs"
        ),
        "networks t",
    )
}

/// The network with this id, unless it was deleted.
pub async fn find(db: &Db, id: &str) -> Result<Option<Network>, sqlx::Error> {
    query().with("t.id = {}", id).and("t.deleted_at IS NULL").optional(db).await
}

/// The network with this id, deleted or not.
pub async fn find_any(db: &Db, id: &str) -> Result<Option<Network>, sqlx::Error> {
    query().with("t.id = {}", id).optional(db).await
}

/// Networks; `q` looks at name, addresses and description.
pub async fn list(db: &Db, wanted: &Wanted, filter: &Filter) -> Result<Listed<Network>, ListError> {
    query()
        .and("t.deleted_at IS NULL")
        .totalled_as(of::NETWORKS)
        .when(
            "EXISTS (SELECT 1 FROM gateway_networks a \
             WHERE a.network_id = t.id AND a.gateway_id = {})",
            filter.gateway_id.clone(),
        )
        .search(&["t.name", "t.cidr", "t.description"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &ORDERS, default: BY_NAME, tie: "t.id" })
        .await
}
