//! Gateways: who they are, who may use them, and what can be reached through them.

use crate::db::Db;
use crate::grants::{Granting, give, grant, holder_is_gone, take, thing_is_gone};
use crate::list::{BY_NAME, ListError, Listed, Orders, Query, Wanted, columns, names};
use crate::rows::{Rows, View};
use crate::search::GATEWAYS;
use crate::table::{Texts, stamp, table};
use crate::totals::of;
use gatekey_aggregates::gateway::{Configuration, Event as GatewayEvent};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded, network, user};

table! {
    /// A gateway.
    pub struct GatewayRow: "gateways" by [id] {
        /// `gw-…`
        id: String,
        /// Unique among those that were not deleted.
        name: String,
        /// Free text.
        description: String,
        /// Where clients find it.
        hostname: String,
        /// Its address, where an admin fixed it.
        public_ip: Option<String>,
        /// OpenVPN's `port`.
        port: i64,
        /// `udp` or `tcp`.
        protocol: String,
        /// What clients are given addresses from.
        vpn_subnet: String,
        /// `modern`, `fips` or `compatible`.
        crypto_profile: String,
        /// Whether the control channel is authenticated with a shared key.
        tls_auth: bool,
        /// Whether clients send all their traffic through it.
        full_tunnel: bool,
        /// Whether clients are told to use `dns_servers`.
        push_dns: bool,
        /// Addresses.
        dns_servers: Texts,
        /// Whether it lets anybody in.
        active: bool,
        /// Whether its agent was heard of lately.
        online: bool,
        /// The address that its agent reports.
        reported_ip: Option<String>,
        /// Hash of its agent's token.
        token_hash: String,
        /// Where its tls-auth key is kept.
        tls_auth_key: String,
        /// Its server certificate's id.
        server_certificate: Option<String>,
        /// How often it was asked to provision anew.
        reprovisions: i64,
        /// When it was registered.
        created_at: i64,
        /// When an admin last changed it.
        updated_at: i64,
        /// When it was deleted.
        deleted_at: Option<i64>,
        /// Sequence of the last change by an admin.
        revision: i64,
        /// Position of the last change by an admin.
        etag: i64,
        /// Position of its beginning: by it the search index knows it.
        number: i64,
    }
}

grant! {
    /// A user who may use a gateway by themselves.
    GatewayUserRow: "gateway_users", gateway_id to user_id
}

grant! {
    /// A group whose members may use a gateway.
    GatewayGroupRow: "gateway_groups", gateway_id to group_name
}

grant! {
    /// A network that can be reached through a gateway.
    GatewayNetworkRow: "gateway_networks", gateway_id to network_id
}

/// Gateways as what is given.
pub const GRANTING: Granting = Granting { things: "gateways", kind: "gateway", id: "gateway_id" };

impl GatewayRow {
    fn configure(&mut self, it: &Configuration) {
        self.name = it.name.to_string();
        self.description = it.description.to_string();
        self.hostname = it.hostname.to_string();
        self.public_ip = it.public_ip.map(|ip| ip.to_string());
        self.port = it.port.into();
        it.protocol.as_str().clone_into(&mut self.protocol);
        self.vpn_subnet = it.vpn_subnet.to_string();
        it.crypto_profile.as_str().clone_into(&mut self.crypto_profile);
        self.tls_auth = it.tls_auth;
        self.full_tunnel = it.full_tunnel;
        self.push_dns = it.push_dns;
        self.dns_servers = it.dns_servers.iter().collect();
        self.active = it.active;
    }
}

/// The view of gateways.
pub struct Gateways;

impl View for Gateways {
    fn name(&self) -> &'static str {
        "gateways"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["gateways", "gateway_users", "gateway_groups", "gateway_networks"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        if matches!(recorded.event, Event::Gateway(_)) {
            rows.want::<GatewayRow>(vec![recorded.aggregate_id.clone()]);
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        let id = recorded.aggregate_id.as_str();
        match &recorded.event {
            Event::Gateway(event) => apply(recorded, event, rows),
            Event::User(user::Event::Deleted {}) => {
                holder_is_gone::<GatewayUserRow>(rows, id);
            }
            Event::Network(network::Event::Deleted {}) => {
                holder_is_gone::<GatewayNetworkRow>(rows, id);
            }
            _ => {}
        }
    }
}

fn apply(recorded: &Recorded, event: &GatewayEvent, rows: &mut Rows) {
    let id = &recorded.aggregate_id;
    let at = micros(recorded.recorded_at);
    let mut change = |change: &dyn Fn(&mut GatewayRow)| {
        rows.change::<GatewayRow>(&vec![id.clone()], |row| {
            change(row);
            stamp!(row, recorded);
        });
    };
    match event {
        GatewayEvent::Registered { configuration, token_hash, tls_auth_key } => {
            let mut row = GatewayRow {
                id: id.clone(),
                name: String::new(),
                description: String::new(),
                hostname: String::new(),
                public_ip: None,
                port: 0,
                protocol: String::new(),
                vpn_subnet: String::new(),
                crypto_profile: String::new(),
                tls_auth: false,
                full_tunnel: false,
                push_dns: false,
                dns_servers: Texts::default(),
                active: false,
                online: false,
                reported_ip: None,
                token_hash: token_hash.to_string(),
                tls_auth_key: tls_auth_key.to_string(),
                server_certificate: None,
                reprovisions: 0,
                created_at: at,
                updated_at: at,
                deleted_at: None,
                revision: recorded.sequence,
                etag: recorded.position,
                number: recorded.position,
            };
            row.configure(configuration);
            rows.put(row);
        }
        GatewayEvent::Updated { configuration } => change(&|row| row.configure(configuration)),
        GatewayEvent::UserGranted { user_id } => give::<GatewayUserRow>(rows, id, user_id, at),
        GatewayEvent::UserRevoked { user_id } => take::<GatewayUserRow>(rows, id, user_id),
        GatewayEvent::GroupGranted { group } => give::<GatewayGroupRow>(rows, id, group, at),
        GatewayEvent::GroupRevoked { group } => take::<GatewayGroupRow>(rows, id, group),
        GatewayEvent::NetworkAttached { network_id } => {
            give::<GatewayNetworkRow>(rows, id, network_id, at);
        }
        GatewayEvent::NetworkDetached { network_id } => {
            take::<GatewayNetworkRow>(rows, id, network_id);
        }
        GatewayEvent::TokenRotated { token_hash } => {
            change(&|row| row.token_hash = token_hash.to_string());
        }
        GatewayEvent::ReprovisionRequested {} => change(&|row| {
            row.reprovisions += 1;
            row.server_certificate = None;
        }),
        GatewayEvent::ServerCertificateInstalled { certificate_id } => {
            change(&|row| row.server_certificate = Some(certificate_id.to_string()));
        }
        GatewayEvent::CameOnline {} => change(&|row| row.online = true),
        GatewayEvent::WentOffline {} => change(&|row| row.online = false),
        GatewayEvent::AddressChanged { public_ip } => {
            change(&|row| row.reported_ip = Some(public_ip.to_string()));
        }
        GatewayEvent::Deleted {} => {
            change(&|row| {
                row.online = false;
                row.deleted_at = Some(at);
            });
            thing_is_gone::<GatewayUserRow>(rows, id);
            thing_is_gone::<GatewayGroupRow>(rows, id);
            thing_is_gone::<GatewayNetworkRow>(rows, id);
        }
    }
}

/// A gateway with what its agent last said.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Gateway {
    /// The gateway.
    #[sqlx(flatten)]
    pub row: GatewayRow,
    /// When it was last heard of, in any way.
    pub last_heard: Option<i64>,
    /// When it last sent a heartbeat.
    pub last_heartbeat: Option<i64>,
    /// How many clients its agent counts.
    pub active_clients: Option<i64>,
    /// Whether its agent sees OpenVPN run.
    pub openvpn_running: Option<bool>,
    /// Which configuration its agent has.
    pub config_version: Option<String>,
}

impl Gateway {
    /// One whose agent has never said anything.
    pub fn silent(row: GatewayRow) -> Self {
        Self {
            row,
            last_heard: None,
            last_heartbeat: None,
            active_clients: None,
            openvpn_running: None,
            config_version: None,
        }
    }
}

/// Which gateways are listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Those that let people in, or those that do not.
    pub active: Option<bool>,
    /// Those that were heard of at this time or later.
    pub heard_since: Option<i64>,
    /// Those that were last heard of before this time, or never.
    pub silent_since: Option<i64>,
    /// Those that this user may use, by themselves or as a member of a group.
    pub granted_to: Option<String>,
    /// Those that were granted to this group.
    pub group: Option<String>,
    /// Those through which this network can be reached.
    pub network_id: Option<String>,
}

const ORDERS: [(&str, &str); 5] = [
    ("name", "lower(t.name) {}"),
    ("hostname", "t.hostname {}"),
    ("online", "t.online {}"),
    ("created_at", "t.created_at {}"),
    ("last_heartbeat", "h.last_heartbeat {} NULLS LAST"),
];

/// What gateways can be sorted by.
pub const SORT: &[&str] = &names(&ORDERS);

fn query() -> Query {
    Query::new(
        format!(
            "{}, h.last_heard, h.last_heartbeat, h.active_clients, h.openvpn_running, h.config_version",
            columns::<GatewayRow>("t")
        ),
        "gateways t",
    )
    .beside("LEFT JOIN gateway_telemetry h ON h.gateway_id = t.id")
}

/// The gateway with this id, unless it was deleted.
pub async fn find(db: &Db, id: &str) -> Result<Option<Gateway>, sqlx::Error> {
    query().with("t.id = {}", id).and("t.deleted_at IS NULL").optional(db).await
}

/// The gateway with this id, deleted or not.
pub async fn find_any(db: &Db, id: &str) -> Result<Option<Gateway>, sqlx::Error> {
    query().with("t.id = {}", id).optional(db).await
}

/// Gateways; `q` looks at name, description and host name.
pub async fn list(db: &Db, wanted: &Wanted, filter: &Filter) -> Result<Listed<Gateway>, ListError> {
    query()
        .and("t.deleted_at IS NULL")
        .totalled_as(of::GATEWAYS)
        .when_true("t.active", filter.active)
        .when_beside("h.last_heard >= {}", filter.heard_since)
        .when_beside("h.last_heard IS NULL OR h.last_heard < {}", filter.silent_since)
        .when_few(db, &GRANTING.to_user(), &GRANTING.ids_of_user(), filter.granted_to.clone())
        .await?
        .when_few(db, &GRANTING.to_group(), &GRANTING.ids_of_group(), filter.group.clone())
        .await?
        .when_few(db, &GRANTING.to_network(), &GRANTING.ids_of_network(), filter.network_id.clone())
        .await?
        .searched(db, &GATEWAYS, &["t.name", "t.description", "t.hostname"], wanted.q.as_deref())
        .await?
        .page(db, wanted, &Orders { by: &ORDERS, default: BY_NAME, tie: "t.id" })
        .await
}
