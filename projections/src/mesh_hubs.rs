//! Mesh hubs and their spokes: who they are, who may use them, and what can be reached through them.

use crate::db::Db;
use crate::grants::{Granting, give, grant, holder_is_gone, take, thing_is_gone};
use crate::list::{BY_NAME, ListError, Listed, Orders, Query, Wanted, columns, names};
use crate::rows::{Key, Rows, View};
use crate::table::{Texts, stamp, table};
use crate::totals::of;
use gatekey_aggregates::mesh_hub::{Configuration, Event as HubEvent, SpokeDefinition};
use gatekey_aggregates::values::{SpokeId, micros};
use gatekey_aggregates::{Event, Recorded, network, user};

table! {
    /// A mesh hub.
    pub struct MeshHubRow: "mesh_hubs" by [id] {
        /// `hub-…`
        id: String,
        /// Unique among those that were not deleted.
        name: String,
        /// Free text.
        description: String,
        /// Where spokes and clients find it.
        public_endpoint: String,
        /// OpenVPN's `port`.
        port: i64,
        /// `udp` or `tcp`.
        protocol: String,
        /// What spokes and clients are given addresses from.
        vpn_subnet: String,
        /// `modern`, `fips` or `compatible`.
        crypto_profile: String,
        /// Whether the control channel is authenticated with a shared key.
        tls_auth: bool,
        /// The networks at its own site.
        local_networks: Texts,
        /// Where its tls-auth key is kept.
        tls_auth_key: String,
        /// Its server certificate's id.
        server_certificate: Option<String>,
        /// When it was created.
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

table! {
    /// A spoke.
    pub struct MeshSpokeRow: "mesh_spokes" by [hub_id, id] {
        /// The hub that it is joined to.
        hub_id: String,
        /// `spoke-…`
        id: String,
        /// Unique among its hub's that were not removed.
        name: String,
        /// Free text.
        description: String,
        /// The networks behind it.
        local_networks: Texts,
        /// Its router's certificate's id.
        certificate: Option<String>,
        /// When it was added.
        created_at: i64,
        /// When an admin last changed it.
        updated_at: i64,
        /// When it was removed, by itself or with its hub.
        deleted_at: Option<i64>,
        /// How often an admin wrote it.
        revision: i64,
        /// Position of the last change by an admin.
        etag: i64,
    }
}

grant! {
    /// A user who may use a hub by themselves.
    MeshHubUserRow: "mesh_hub_users", hub_id to user_id
}

grant! {
    /// A group whose members may use a hub.
    MeshHubGroupRow: "mesh_hub_groups", hub_id to group_name
}

grant! {
    /// A network that can be reached through a hub.
    MeshHubNetworkRow: "mesh_hub_networks", hub_id to network_id
}

/// Mesh hubs as what is given.
pub const GRANTING: Granting = Granting { things: "mesh_hubs", kind: "mesh_hub", id: "hub_id" };

impl MeshHubRow {
    fn configure(&mut self, it: &Configuration) {
        self.name = it.name.to_string();
        self.description = it.description.to_string();
        self.public_endpoint = it.public_endpoint.to_string();
        self.port = it.port.into();
        it.protocol.as_str().clone_into(&mut self.protocol);
        self.vpn_subnet = it.vpn_subnet.to_string();
        it.crypto_profile.as_str().clone_into(&mut self.crypto_profile);
        self.tls_auth = it.tls_auth;
        self.local_networks = it.local_networks.iter().collect();
    }
}

impl MeshSpokeRow {
    fn define(&mut self, it: &SpokeDefinition) {
        self.name = it.name.to_string();
        self.description = it.description.to_string();
        self.local_networks = it.local_networks.iter().collect();
    }
}

/// The view of mesh hubs.
pub struct MeshHubs;

impl View for MeshHubs {
    fn name(&self) -> &'static str {
        "mesh_hubs"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["mesh_hubs", "mesh_hub_users", "mesh_hub_groups", "mesh_hub_networks", "mesh_spokes"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        let Event::MeshHub(event) = &recorded.event else { return };
        rows.want::<MeshHubRow>(vec![recorded.aggregate_id.clone()]);
        match event {
            HubEvent::SpokeUpdated { spoke_id, .. }
            | HubEvent::SpokeRemoved { spoke_id }
            | HubEvent::SpokeCertificateInstalled { spoke_id, .. } => {
                rows.want::<MeshSpokeRow>(spoke_key(recorded, spoke_id));
            }
            _ => {}
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        let id = recorded.aggregate_id.as_str();
        match &recorded.event {
            Event::MeshHub(event) => apply(recorded, event, rows),
            Event::User(user::Event::Deleted {}) => holder_is_gone::<MeshHubUserRow>(rows, id),
            Event::Network(network::Event::Deleted {}) => {
                holder_is_gone::<MeshHubNetworkRow>(rows, id);
            }
            _ => {}
        }
    }
}

fn spoke_key(recorded: &Recorded, spoke_id: &SpokeId) -> Key {
    vec![recorded.aggregate_id.clone(), spoke_id.to_string()]
}

fn apply(recorded: &Recorded, event: &HubEvent, rows: &mut Rows) {
    let id = &recorded.aggregate_id;
    let at = micros(recorded.recorded_at);
    match event {
        HubEvent::Created { configuration, tls_auth_key } => {
            let mut row = MeshHubRow {
                id: id.clone(),
                name: String::new(),
                description: String::new(),
                public_endpoint: String::new(),
                port: 0,
                protocol: String::new(),
                vpn_subnet: String::new(),
                crypto_profile: String::new(),
                tls_auth: false,
                local_networks: Texts::default(),
                tls_auth_key: tls_auth_key.to_string(),
                server_certificate: None,
                created_at: at,
                updated_at: at,
                deleted_at: None,
                revision: recorded.sequence,
                etag: recorded.position,
            };
            row.configure(configuration);
            rows.put(row);
        }
        HubEvent::Updated { configuration } => {
            change(recorded, rows, |row| row.configure(configuration));
        }
        HubEvent::UserGranted { user_id } => give::<MeshHubUserRow>(rows, id, user_id, at),
        HubEvent::UserRevoked { user_id } => take::<MeshHubUserRow>(rows, id, user_id),
        HubEvent::GroupGranted { group } => give::<MeshHubGroupRow>(rows, id, group, at),
        HubEvent::GroupRevoked { group } => take::<MeshHubGroupRow>(rows, id, group),
        HubEvent::NetworkAttached { network_id } => {
            give::<MeshHubNetworkRow>(rows, id, network_id, at);
        }
        HubEvent::NetworkDetached { network_id } => {
            take::<MeshHubNetworkRow>(rows, id, network_id);
        }
        HubEvent::SpokeAdded { spoke_id, definition } => {
            let mut row = MeshSpokeRow {
                hub_id: id.clone(),
                id: spoke_id.to_string(),
                name: String::new(),
                description: String::new(),
                local_networks: Texts::default(),
                certificate: None,
                created_at: at,
                updated_at: at,
                deleted_at: None,
                revision: 1,
                etag: recorded.position,
            };
            row.define(definition);
            rows.put(row);
        }
        HubEvent::SpokeUpdated { spoke_id, definition } => {
            change_spoke(recorded, rows, spoke_id, |row| {
                row.define(definition);
                row.revision += 1;
                row.updated_at = at;
                row.etag = recorded.position;
            });
        }
        HubEvent::SpokeRemoved { spoke_id } => {
            change_spoke(recorded, rows, spoke_id, |row| row.deleted_at = Some(at));
        }
        HubEvent::ServerCertificateInstalled { certificate_id } => {
            change(recorded, rows, |row| row.server_certificate = Some(certificate_id.to_string()));
        }
        HubEvent::SpokeCertificateInstalled { spoke_id, certificate_id } => {
            change_spoke(recorded, rows, spoke_id, |row| {
                row.certificate = Some(certificate_id.to_string());
            });
        }
        HubEvent::Deleted {} => {
            change(recorded, rows, |row| row.deleted_at = Some(at));
            thing_is_gone::<MeshHubUserRow>(rows, id);
            thing_is_gone::<MeshHubGroupRow>(rows, id);
            thing_is_gone::<MeshHubNetworkRow>(rows, id);
        }
    }
}

fn change(recorded: &Recorded, rows: &mut Rows, change: impl FnOnce(&mut MeshHubRow)) {
    rows.change::<MeshHubRow>(&vec![recorded.aggregate_id.clone()], |row| {
        change(row);
        stamp!(row, recorded);
    });
}

fn change_spoke(
    recorded: &Recorded,
    rows: &mut Rows,
    spoke_id: &SpokeId,
    change: impl FnOnce(&mut MeshSpokeRow),
) {
    rows.change::<MeshSpokeRow>(&spoke_key(recorded, spoke_id), change);
}

/// A hub, and how much hangs on it.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct MeshHub {
    /// The hub.
    #[sqlx(flatten)]
    pub row: MeshHubRow,
    /// How many spokes are joined to it.
    pub spokes: i64,
    /// Until when its server certificate is good; none: it has none, or it was revoked.
    pub certificate_expires_at: Option<i64>,
}

/// Which hubs are listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Those that this user may use, by themselves or as a member of a group.
    pub granted_to: Option<String>,
    /// Those that were granted to this group.
    pub group: Option<String>,
    /// Those through which this network can be reached.
    pub network_id: Option<String>,
    /// Those whose server certificate is good at this time.
    pub provisioned_at: Option<i64>,
    /// Those whose server certificate is not good at this time, or that have none.
    pub pending_at: Option<i64>,
}

const ORDERS: [(&str, &str); 3] = [
    ("name", "lower(t.name) {}"),
    ("public_endpoint", "t.public_endpoint {}"),
    ("created_at", "t.created_at {}"),
];

/// What hubs can be sorted by.
pub const SORT: &[&str] = &names(&ORDERS);

fn query() -> Query {
    Query::new(
        format!(
            "{}, c.not_after AS certificate_expires_at, \
             (SELECT COUNT(*) FROM mesh_spokes s \
              WHERE s.hub_id = t.id AND s.deleted_at IS NULL) AS spokes",
            columns::<MeshHubRow>("t")
        ),
        "mesh_hubs t",
    )
    .beside("LEFT JOIN certificates c ON c.id = t.server_certificate AND c.revoked_at IS NULL")
}

/// The hub with this id, unless it was deleted.
pub async fn find(db: &Db, id: &str) -> Result<Option<MeshHub>, sqlx::Error> {
    query().with("t.id = {}", id).and("t.deleted_at IS NULL").optional(db).await
}

/// The hub with this id, deleted or not.
pub async fn find_any(db: &Db, id: &str) -> Result<Option<MeshHub>, sqlx::Error> {
    query().with("t.id = {}", id).optional(db).await
}

/// Hubs; `q` looks at name, description and public endpoint.
pub async fn list(db: &Db, wanted: &Wanted, filter: &Filter) -> Result<Listed<MeshHub>, ListError> {
    query()
        .and("t.deleted_at IS NULL")
        .totalled_as(of::MESH_HUBS)
        .when(&GRANTING.to_user(), filter.granted_to.clone())
        .when(&GRANTING.to_group(), filter.group.clone())
        .when(&GRANTING.to_network(), filter.network_id.clone())
        .when_beside("c.not_after > {}", filter.provisioned_at)
        .when_beside("c.not_after IS NULL OR c.not_after <= {}", filter.pending_at)
        .search(&["t.name", "t.description", "t.public_endpoint"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &ORDERS, default: BY_NAME, tie: "t.id" })
        .await
}

/// A spoke, with its router's certificate.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct MeshSpoke {
    /// The spoke.
    #[sqlx(flatten)]
    pub row: MeshSpokeRow,
    /// The certificate's serial, in hex; none: there is none, or it was revoked.
    pub serial: Option<String>,
    /// Until when the certificate is good.
    pub certificate_expires_at: Option<i64>,
}

const SPOKE_ORDERS: [(&str, &str); 2] =
    [("name", "lower(t.name) {}"), ("created_at", "t.created_at {}")];

/// What spokes can be sorted by.
pub const SPOKE_SORT: &[&str] = &names(&SPOKE_ORDERS);

fn spoke_query() -> Query {
    Query::new(
        format!(
            "{}, c.serial, c.not_after AS certificate_expires_at",
            columns::<MeshSpokeRow>("t")
        ),
        "mesh_spokes t",
    )
    .beside("LEFT JOIN certificates c ON c.id = t.certificate AND c.revoked_at IS NULL")
}

/// The spoke with this id, unless it was removed.
pub async fn find_spoke(db: &Db, id: &str) -> Result<Option<MeshSpoke>, sqlx::Error> {
    spoke_query().with("t.id = {}", id).and("t.deleted_at IS NULL").optional(db).await
}

/// The spoke with this id, removed or not.
pub async fn find_any_spoke(db: &Db, id: &str) -> Result<Option<MeshSpoke>, sqlx::Error> {
    spoke_query().with("t.id = {}", id).optional(db).await
}

/// A hub's spokes; `q` looks at name, description and networks.
pub async fn spokes(
    db: &Db,
    hub_id: &str,
    wanted: &Wanted,
) -> Result<Listed<MeshSpoke>, ListError> {
    spoke_query()
        .with("t.hub_id = {}", hub_id)
        .and("t.deleted_at IS NULL")
        .search(&["t.name", "t.description", "t.local_networks"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &SPOKE_ORDERS, default: BY_NAME, tie: "t.id" })
        .await
}
