//! All that the access index starts from, read at one moment of the log.

use crate::access_rules::{AccessRuleGroupRow, AccessRuleRow, AccessRuleUserRow};
use crate::api_keys::ApiKeyRow;
use crate::authorities::AuthorityRow;
use crate::certificates::CertificateRow;
use crate::connections::ConnectionRow;
use crate::db::{Arg, Conn, Db, Dialect, Turn};
use crate::gateways::{GatewayGroupRow, GatewayNetworkRow, GatewayRow, GatewayUserRow};
use crate::geo_fence::GeoFenceRow;
use crate::geo_fence_rules::{GeoFenceRuleGroupRow, GeoFenceRuleRow, GeoFenceRuleUserRow};
use crate::list::columns;
use crate::logins::{LIVE, LoginRow};
use crate::mesh_hubs::{
    MeshHubGroupRow, MeshHubNetworkRow, MeshHubRow, MeshHubUserRow, MeshSpokeRow,
};
use crate::networks::NetworkRow;
use crate::rows::Table;
use crate::settings::SettingsRow;
use crate::users::{UserGroupRow, UserRow};
use chrono::{DateTime, Utc};
use gatekey_aggregates::geo_fence;
use gatekey_aggregates::settings::Values;
use gatekey_aggregates::values::micros;
use sqlx::Connection;

/// How far back what is over still matters.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    /// Certificates that had not expired then.
    pub certificates: DateTime<Utc>,
    /// Connections that were lost with their gateway then or later. Open ones always matter.
    pub lost_connections: DateTime<Utc>,
    /// Logins that had not expired then.
    pub logins: DateTime<Utc>,
    /// API keys that had not expired then.
    pub api_keys: DateTime<Utc>,
}

/// What is true at `position`. Nothing deleted is in it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    /// The last event that is in it.
    pub position: i64,
    /// Gateways.
    pub gateways: Vec<GatewayRow>,
    /// Who may use them by themselves.
    pub gateway_users: Vec<GatewayUserRow>,
    /// Whose members may use them.
    pub gateway_groups: Vec<GatewayGroupRow>,
    /// What can be reached through them.
    pub gateway_networks: Vec<GatewayNetworkRow>,
    /// Mesh hubs.
    pub mesh_hubs: Vec<MeshHubRow>,
    /// Who may use them by themselves.
    pub mesh_hub_users: Vec<MeshHubUserRow>,
    /// Whose members may use them.
    pub mesh_hub_groups: Vec<MeshHubGroupRow>,
    /// What can be reached through them.
    pub mesh_hub_networks: Vec<MeshHubNetworkRow>,
    /// What is joined to them.
    pub mesh_spokes: Vec<MeshSpokeRow>,
    /// Users.
    pub users: Vec<UserRow>,
    /// The groups they are in.
    pub user_groups: Vec<UserGroupRow>,
    /// Networks.
    pub networks: Vec<NetworkRow>,
    /// Access rules.
    pub access_rules: Vec<AccessRuleRow>,
    /// Whom they are assigned to by themselves.
    pub access_rule_users: Vec<AccessRuleUserRow>,
    /// Whose members they are assigned to.
    pub access_rule_groups: Vec<AccessRuleGroupRow>,
    /// Certificates, revoked or not, the oldest first.
    pub certificates: Vec<CertificateRow>,
    /// Connections that are open or were lost with their gateway, the oldest first.
    pub connections: Vec<ConnectionRow>,
    /// Logins that were not ended.
    pub logins: Vec<LoginRow>,
    /// API keys that were not revoked.
    pub api_keys: Vec<ApiKeyRow>,
    /// The geo-fence's settings in force.
    pub geo_fence: geo_fence::Values,
    /// Its rules.
    pub geo_fence_rules: Vec<GeoFenceRuleRow>,
    /// Whom they are attached to by themselves.
    pub geo_fence_rule_users: Vec<GeoFenceRuleUserRow>,
    /// Whose members they are attached to.
    pub geo_fence_rule_groups: Vec<GeoFenceRuleGroupRow>,
    /// The settings in force.
    pub settings: Values,
    /// The authority; none before first start.
    pub authority: Option<AuthorityRow>,
}

/// Reads all of it in one transaction.
pub async fn snapshot(db: &Db, since: Since) -> Result<Snapshot, sqlx::Error> {
    // A connection of its own: one that fails half-way takes its transaction with it.
    let mut conn = match db {
        Db::Postgres(pool, _) => Conn::Postgres(pool.acquire().await?.detach()),
        Db::Sqlite { read, .. } => Conn::Sqlite(read.acquire().await?.detach(), Turn::default()),
    };
    let begin = match conn.dialect() {
        Dialect::Postgres => "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY",
        Dialect::Sqlite => "BEGIN",
    };
    conn.execute(begin, &[]).await?;
    let snapshot = read(&mut conn, since).await?;
    conn.commit().await?;
    match conn {
        Conn::Postgres(connection) => connection.close().await?,
        Conn::Sqlite(connection, _) => connection.close().await?,
    }
    Ok(snapshot)
}

async fn read(conn: &mut Conn, since: Since) -> Result<Snapshot, sqlx::Error> {
    // The first read: it fixes what the others see.
    let (position,): (i64,) = conn.one("SELECT position FROM head WHERE id = 1", &[]).await?;
    let live_login = format!("JOIN users o ON o.id = t.user_id WHERE {LIVE} AND t.expires_at > $1");
    let settings: Vec<SettingsRow> = rows(conn, "", &[]).await?;
    let fences: Vec<GeoFenceRow> = rows(conn, "", &[]).await?;
    Ok(Snapshot {
        position,
        gateways: rows(conn, "WHERE t.deleted_at IS NULL", &[]).await?,
        gateway_users: rows(conn, "", &[]).await?,
        gateway_groups: rows(conn, "", &[]).await?,
        gateway_networks: rows(conn, "", &[]).await?,
        mesh_hubs: rows(conn, "WHERE t.deleted_at IS NULL", &[]).await?,
        mesh_hub_users: rows(conn, "", &[]).await?,
        mesh_hub_groups: rows(conn, "", &[]).await?,
        mesh_hub_networks: rows(conn, "", &[]).await?,
        mesh_spokes: rows(conn, "WHERE t.deleted_at IS NULL", &[]).await?,
        users: rows(conn, "WHERE t.deleted_at IS NULL", &[]).await?,
        user_groups: rows(conn, "", &[]).await?,
        networks: rows(conn, "WHERE t.deleted_at IS NULL", &[]).await?,
        access_rules: rows(conn, "WHERE t.deleted_at IS NULL", &[]).await?,
        access_rule_users: rows(conn, "", &[]).await?,
        access_rule_groups: rows(conn, "", &[]).await?,
        certificates: rows(
            conn,
            "WHERE t.not_after > $1 ORDER BY t.issued_at, t.id",
            &[micros(since.certificates).into()],
        )
        .await?,
        connections: rows(
            conn,
            "WHERE t.disconnected_at IS NULL \
             OR (t.end_reason = 'gateway_lost' AND t.disconnected_at >= $1) ORDER BY t.position",
            &[micros(since.lost_connections).into()],
        )
        .await?,
        logins: rows(conn, &live_login, &[micros(since.logins).into()]).await?,
        api_keys: rows(
            conn,
            "JOIN users o ON o.id = t.user_id WHERE o.deleted_at IS NULL \
             AND t.revoked_at IS NULL AND (t.expires_at IS NULL OR t.expires_at > $1)",
            &[micros(since.api_keys).into()],
        )
        .await?,
        geo_fence: fences.first().map(GeoFenceRow::values).transpose()?.unwrap_or_default(),
        geo_fence_rules: rows(conn, "WHERE t.deleted_at IS NULL", &[]).await?,
        geo_fence_rule_users: rows(conn, "", &[]).await?,
        geo_fence_rule_groups: rows(conn, "", &[]).await?,
        settings: settings.first().map(SettingsRow::values).transpose()?.unwrap_or_default(),
        authority: rows(conn, "", &[]).await?.pop(),
    })
}

async fn rows<T: Table>(
    conn: &mut Conn,
    conditions: &str,
    args: &[Arg],
) -> Result<Vec<T>, sqlx::Error> {
    let sql = format!("SELECT {} FROM {} t {conditions}", columns::<T>("t"), T::NAME);
    conn.all(&sql, args).await
}
