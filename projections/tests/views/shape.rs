//! The tables are the same in both dialects, and the row types are like them.

use crate::world::{World, on_each};
use gatekey_projections::access_rules::{AccessRuleGroupRow, AccessRuleRow, AccessRuleUserRow};
use gatekey_projections::api_keys::ApiKeyRow;
use gatekey_projections::authorities::AuthorityRow;
use gatekey_projections::certificates::CertificateRow;
use gatekey_projections::connections::ConnectionRow;
use gatekey_projections::gateways::{
    GatewayGroupRow, GatewayNetworkRow, GatewayRow, GatewayUserRow,
};
use gatekey_projections::geo_fence::GeoFenceRow;
use gatekey_projections::geo_fence_rules::{
    GeoFenceRuleGroupRow, GeoFenceRuleRow, GeoFenceRuleUserRow,
};
use gatekey_projections::logins::{LoginFailureRow, LoginRow};
use gatekey_projections::mesh_hubs::{
    MeshHubGroupRow, MeshHubNetworkRow, MeshHubRow, MeshHubUserRow, MeshSpokeRow,
};
use gatekey_projections::networks::NetworkRow;
use gatekey_projections::settings::SettingsRow;
use gatekey_projections::totals::TotalRow;
use gatekey_projections::users::{UserGroupRow, UserRow};
use gatekey_projections::{Conn, Table, all_views};
use std::collections::{BTreeMap, BTreeSet};

/// Every row of one table, in order of its key.
async fn rows_of<T: Table>(conn: &mut Conn, suffix: &str) -> Vec<String> {
    let sql = format!("SELECT {} FROM {}{suffix}", T::COLUMNS.join(", "), T::NAME);
    let mut rows: Vec<T> = conn.all(&sql, &[]).await.unwrap();
    // Not by the database: its collation is its own.
    rows.sort_by_key(Table::key);
    rows.iter().map(|row| format!("{row:?}")).collect()
}

macro_rules! tables {
    ($($row:ident),+ $(,)?) => {
        /// Every row of every view, by table.
        pub async fn dump(conn: &mut Conn, suffix: &str) -> BTreeMap<&'static str, Vec<String>> {
            let mut dump = BTreeMap::new();
            $(dump.insert($row::NAME, rows_of::<$row>(conn, suffix).await);)+
            dump
        }

        /// Each row type's table, key and columns.
        const TABLES: &[(&str, &[&str], &[&str])] =
            &[$(($row::NAME, $row::KEY, $row::COLUMNS)),+];
    };
}

tables! {
    AccessRuleGroupRow, AccessRuleRow, AccessRuleUserRow, ApiKeyRow, AuthorityRow, CertificateRow,
    ConnectionRow, GatewayGroupRow, GatewayNetworkRow, GatewayRow, GatewayUserRow, GeoFenceRow,
    GeoFenceRuleGroupRow, GeoFenceRuleRow, GeoFenceRuleUserRow, LoginFailureRow, LoginRow,
    MeshHubGroupRow, MeshHubNetworkRow, MeshHubRow, MeshHubUserRow, MeshSpokeRow,
    NetworkRow, SettingsRow, TotalRow, UserGroupRow, UserRow,
}

#[tokio::test]
async fn columns_are_in_the_order_of_the_row_types() {
    on_each(async |world: World| {
        for (table, key, columns) in TABLES {
            let sql = match &world.db {
                gatekey_projections::Db::Postgres(..) => {
                    "SELECT CAST(column_name AS TEXT) FROM information_schema.columns \
                     WHERE table_name = $1 ORDER BY ordinal_position"
                }
                gatekey_projections::Db::Sqlite { .. } => {
                    "SELECT name FROM pragma_table_info($1) ORDER BY cid"
                }
            };
            let stored: Vec<(String,)> = world.db.all(sql, &[(*table).into()]).await.unwrap();
            let stored: Vec<&str> = stored.iter().map(|(name,)| name.as_str()).collect();
            assert_eq!(stored, *columns, "{table}");
            assert!(columns.starts_with(key), "{table}");
        }
    })
    .await;
}

#[test]
fn each_table_belongs_to_one_view() {
    let of_views: Vec<&str> = all_views().iter().flat_map(|it| it.tables()).copied().collect();
    let distinct: BTreeSet<&str> = of_views.iter().copied().collect();
    assert_eq!(of_views.len(), distinct.len(), "{of_views:?}");
    assert_eq!(distinct, TABLES.iter().map(|(table, ..)| *table).collect());
    let names: BTreeSet<&str> = all_views().iter().map(|it| it.name()).collect();
    assert_eq!(names.len(), all_views().len());
}
