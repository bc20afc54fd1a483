//! VPN connections, active and past.

use crate::db::{Arg, Db, Dialect};
use crate::list::{Holds, Keyset, ListError, Listed, Place, Query, Sort, Wanted, columns};
use crate::rows::{Rows, View};
use crate::search::{ACCOUNTS, GATEWAY_NAMES};
use crate::table::table;
use crate::totals::of;
use chrono::{DateTime, Utc};
use gatekey_aggregates::session::{Counters, Event as SessionEvent};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded};
use std::net::IpAddr;

table! {
    /// A VPN connection.
    pub struct ConnectionRow: "connections" by [id] {
        /// `con-…`
        id: String,
        /// At which gateway.
        gateway_id: String,
        /// Who.
        user_id: String,
        /// With which certificate.
        certificate_id: String,
        /// Its serial.
        serial: String,
        /// Its common name. None: erased.
        common_name: Option<String>,
        /// From where. None: not known, or erased.
        client_ip: Option<String>,
        /// The address inside the VPN.
        vpn_ip: Option<String>,
        /// The IPv6 address inside the VPN.
        vpn_ipv6: Option<String>,
        /// When it began.
        connected_at: i64,
        /// When it ended; none while it is open.
        disconnected_at: Option<i64>,
        /// Why it ended.
        end_reason: Option<String>,
        /// How long it lasted, as the gateway counted.
        duration_seconds: Option<i64>,
        /// Bytes from the client.
        bytes_received: Option<i64>,
        /// Bytes to the client.
        bytes_sent: Option<i64>,
        /// Where it began in the log.
        position: i64,
        /// Sequence of its last event.
        version: i64,
    }
}

impl ConnectionRow {
    /// A count never shrinks, and what is not said wipes nothing.
    fn count(&mut self, counters: Counters) {
        let greater = |standing: Option<i64>, said: Option<u64>| {
            standing.max(said.map(|count| i64::try_from(count).unwrap_or(i64::MAX)))
        };
        self.duration_seconds = greater(self.duration_seconds, counters.duration_seconds);
        self.bytes_received = greater(self.bytes_received, counters.bytes_received);
        self.bytes_sent = greater(self.bytes_sent, counters.bytes_sent);
    }
}

/// The view of connections.
pub struct Connections;

impl View for Connections {
    fn name(&self) -> &'static str {
        "connections"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["connections"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        match &recorded.event {
            Event::Session(SessionEvent::Began(_)) => {}
            Event::Session(_) => rows.want::<ConnectionRow>(vec![recorded.aggregate_id.clone()]),
            _ => {}
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        let Event::Session(event) = &recorded.event else { return };
        let id = recorded.aggregate_id.clone();
        if let SessionEvent::Began(it) = event {
            rows.put(ConnectionRow {
                id,
                gateway_id: it.gateway_id.to_string(),
                user_id: it.user_id.to_string(),
                certificate_id: it.certificate_id.to_string(),
                serial: it.serial.to_string(),
                common_name: it.common_name.open().map(ToString::to_string),
                client_ip: it.client_ip.as_ref().and_then(|ip| ip.open()).map(ToString::to_string),
                vpn_ip: it.vpn_ip.map(|ip| ip.to_string()),
                vpn_ipv6: it.vpn_ipv6.map(|ip| ip.to_string()),
                connected_at: micros(it.connected_at),
                disconnected_at: None,
                end_reason: None,
                duration_seconds: None,
                bytes_received: None,
                bytes_sent: None,
                position: recorded.position,
                version: recorded.sequence,
            });
            return;
        }
        rows.change::<ConnectionRow>(&vec![id], |row| {
            row.version = recorded.sequence;
            match event {
                SessionEvent::Began(_) => {}
                SessionEvent::Ended { reason, disconnected_at, counters } => {
                    row.disconnected_at = Some(micros(*disconnected_at));
                    row.end_reason = Some(reason.as_str().to_owned());
                    row.count(counters.unwrap_or_default());
                }
                SessionEvent::Resumed { .. } => {
                    row.disconnected_at = None;
                    row.end_reason = None;
                }
                SessionEvent::CountersReported { counters } => row.count(*counters),
            }
        });
    }
}

/// A connection with the names of its person and its gateway.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Connection {
    /// The connection.
    #[sqlx(flatten)]
    pub row: ConnectionRow,
    /// The person's user name.
    pub username: Option<String>,
    /// The person's e-mail.
    pub email: Option<String>,
    /// What the gateway is called.
    pub gateway_name: Option<String>,
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Open.
    Active,
    /// Over.
    Ended,
}

/// So many connections are rather sorted than looked for among all.
const FEW_CONNECTIONS: i64 = 2_000;

/// Which connections are listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Those that stand so.
    pub status: Option<Status>,
    /// Those of this user.
    pub user_id: Option<String>,
    /// Those at this gateway.
    pub gateway_id: Option<String>,
    /// Those with this certificate.
    pub certificate_id: Option<String>,
}

fn query() -> Query {
    Query::new(
        format!("{}, u.username, u.email, g.name AS gateway_name", columns::<ConnectionRow>("t")),
        "connections t",
    )
    .beside("LEFT JOIN users u ON u.id = t.user_id LEFT JOIN gateways g ON g.id = t.gateway_id")
}

/// The connection with this id.
pub async fn find(db: &Db, id: &str) -> Result<Option<Connection>, sqlx::Error> {
    query().with("t.id = {}", id).optional(db).await
}

/// Whether a user's connection with this VPN address at a gateway ended at this time or later.
pub async fn ended_since(
    db: &Db,
    gateway_id: &str,
    user_id: &str,
    vpn_ip: IpAddr,
    since: DateTime<Utc>,
) -> Result<bool, sqlx::Error> {
    let sql = "SELECT COUNT(*) FROM connections WHERE user_id = $1 AND gateway_id = $2 \
               AND vpn_ip = $3 AND disconnected_at >= $4";
    let args: [Arg; 4] =
        [user_id.into(), gateway_id.into(), vpn_ip.to_string().into(), micros(since).into()];
    let (count,): (i64,) = db.one(sql, &args).await?;
    Ok(count > 0)
}

/// Connections, the newest first; `q` looks at the user's user name and e-mail, the gateway's name,
/// and the addresses.
pub async fn list(
    db: &Db,
    wanted: &Wanted,
    filter: &Filter,
) -> Result<Listed<Connection>, ListError> {
    let mut query = query()
        .totalled_as(of::CONNECTIONS)
        .when("t.user_id = {}", filter.user_id.clone())
        .when("t.gateway_id = {}", filter.gateway_id.clone())
        // By its owner, for whom there is an index.
        .when(
            "t.user_id = (SELECT c.user_id FROM certificates c WHERE c.id = {})",
            filter.certificate_id.clone(),
        )
        .when("t.certificate_id = {}", filter.certificate_id.clone());
    query = match filter.status {
        None => query,
        Some(Status::Active) => query.and("t.disconnected_at IS NULL"),
        Some(Status::Ended) => query.and("t.disconnected_at IS NOT NULL"),
    };
    let keyset = Keyset {
        columns: &[("t.connected_at", Holds::Ints), ("t.id", Holds::Texts)],
        place: |it: &Connection| {
            vec![Place::Int(it.row.connected_at), Place::Text(it.row.id.clone())]
        },
        descending: by_age(wanted)?,
    };
    let Some(q) = wanted.q.as_deref() else { return query.keyset(db, wanted, &keyset).await };
    let Some((users, gateways)) = few_sides(db, q).await? else {
        let columns = ["u.username", "u.email", "g.name", "t.client_ip", "t.vpn_ip", "t.vpn_ipv6"];
        return query.search(&columns, Some(q)).keyset(db, wanted, &keyset).await;
    };
    let dialect = db.dialect();
    let found = |users_in, gateways_in| {
        let sides = [(users_in, &*users), (gateways_in, &*gateways)];
        query.clone().asking_for(q).among(dialect, &sides)
    };
    let query = found("t.user_id", "t.gateway_id");
    let (total, exact) = query.total(db).await?;
    let query = match dialect {
        _ if total <= FEW_CONNECTIONS => query.few(),
        Dialect::Postgres => query,
        // Without an index for these, it looks through the connections in their order.
        Dialect::Sqlite => found("+t.user_id", "+t.gateway_id"),
    };
    let mut listed = query.keyset_of(db, wanted, &keyset, total).await?;
    listed.total_exact = exact;
    Ok(listed)
}

/// What connections can be sorted by.
pub const SORT: &[&str] = &["connected_at"];

/// Whether the newest come first.
fn by_age(wanted: &Wanted) -> Result<bool, ListError> {
    match wanted.sort {
        None => Ok(true),
        Some(Sort { by: "connected_at", descending }) => Ok(descending),
        Some(Sort { by, .. }) => Err(ListError::Sort(by)),
    }
}

/// Users and gateways whose connections have the text in them, if it can only be theirs and they are
/// few.
async fn few_sides(db: &Db, q: &str) -> Result<Option<(Vec<String>, Vec<String>)>, sqlx::Error> {
    let is_part_of_address = q.contains(['.', ':'])
        && q.chars().all(|it| it.is_ascii_hexdigit() || it == '.' || it == ':');
    if is_part_of_address {
        return Ok(None);
    }
    let Some(users) = ACCOUNTS.few(db, q).await? else { return Ok(None) };
    Ok(GATEWAY_NAMES.few(db, q).await?.map(|gateways| (users, gateways)))
}
