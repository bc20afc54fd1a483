//! What the access index starts from.

use crate::samples::*;
use crate::world::{World, at, on_each};
use gatekey_aggregates::session::EndReason;
use gatekey_aggregates::settings::{self, Values};
use gatekey_aggregates::values::RevocationReason;
use gatekey_aggregates::{access_rule, gateway, geo_fence, geo_fence_rule, login, user};
use gatekey_projections::Table;
use gatekey_projections::index::{Since, Snapshot, snapshot};
use std::collections::BTreeSet;

fn since() -> Since {
    Since { certificates: at(50), lost_connections: at(50), logins: at(60), api_keys: at(60) }
}

fn ids<T: Table>(rows: &[T]) -> Vec<String> {
    let mut ids: Vec<String> = rows.iter().map(|row| row.key().join("/")).collect();
    ids.sort();
    ids
}

#[tokio::test]
async fn an_empty_log_gives_an_empty_snapshot() {
    on_each(async |world: World| {
        assert_eq!(snapshot(&world.db, since()).await.unwrap(), Snapshot::default());
    })
    .await;
}

#[tokio::test]
async fn a_snapshot_holds_what_still_matters() {
    on_each(async |mut world: World| {
        let values = Values { login_idle_minutes: 7, ..Values::default() };
        let fence = geo_fence::Values { enabled: true, mode: geo_fence::Mode::Audit };
        world
            .commit(vec![
                ("authority", authority_created()),
                ("settings", settings::Event::Changed { values }.into()),
                ("net-a", created_network("lab", "10.1.0.0/16")),
                ("net-b", created_network("attic", "10.2.0.0/16")),
                ("usr-a", created_user("usr-a", "ada", &["ops"])),
                ("usr-b", created_user("usr-b", "bob", &["ops"])),
                ("usr-c", created_user("usr-c", "cy", &[])),
                ("gw-a", registered("east")),
                ("gw-b", registered("west")),
                ("rule-a", created_rule(rule_definition("wiki"))),
                ("rule-b", created_rule(rule_definition("files"))),
                ("geo-fence", geo_fence::Event::Changed { values: fence }.into()),
                ("fence-a", created_fence_rule("office", "198.51.100.0/24")),
                ("fence-b", created_fence_rule("hotel", "203.0.113.0/24")),
                ("hub-a", created_hub("europe")),
                ("hub-b", created_hub("asia")),
            ])
            .await;
        for hub in ["hub-a", "hub-b"] {
            world
                .commit(vec![
                    (hub, hub_granted_to_user("usr-a")),
                    (hub, hub_granted_to_user("usr-b")),
                    (hub, hub_granted_to_group("ops")),
                    (hub, network_attached_to_hub("net-a")),
                    (hub, network_attached_to_hub("net-b")),
                    (hub, spoke_added("spoke-a", spoke_definition("berlin", "10.20.0.0/16"))),
                    (hub, spoke_added("spoke-b", spoke_definition("paris", "10.30.0.0/16"))),
                    (hub, spoke_removed("spoke-b")),
                ])
                .await;
        }
        for gateway in ["gw-a", "gw-b"] {
            world
                .commit(vec![
                    (gateway, user_granted("usr-a")),
                    (gateway, user_granted("usr-b")),
                    (gateway, group_granted("ops")),
                    (gateway, network_attached("net-a")),
                    (gateway, network_attached("net-b")),
                ])
                .await;
        }
        for rule in ["rule-a", "rule-b"] {
            world
                .commit(vec![
                    (rule, user_assigned("usr-a")),
                    (rule, user_assigned("usr-b")),
                    (rule, group_assigned("ops")),
                ])
                .await;
        }
        for rule in ["fence-a", "fence-b"] {
            world
                .commit(vec![
                    (rule, geo_fence_rule::Event::GloballyAttached {}.into()),
                    (rule, fenced_user("usr-a")),
                    (rule, fenced_user("usr-b")),
                    (rule, fenced_group("ops")),
                ])
                .await;
        }
        world
            .commit(vec![
                ("cfg-a", issued("usr-a", "1", 100)),
                ("cfg-b", issued("usr-a", "2", 100)),
                ("cfg-c", issued("usr-a", "3", 40)),
                ("cfg-b", revoked(RevocationReason::Unspecified)),
                ("con-d", connected("usr-a", 4)),
                ("con-a", connected("usr-a", 1)),
                ("con-b", connected("usr-a", 2)),
                ("con-c", connected("usr-a", 3)),
                ("con-e", connected("usr-a", 5)),
                ("con-b", ended(EndReason::Disconnected, 99, None)),
                ("con-c", ended(EndReason::GatewayLost, 60, None)),
                ("con-d", ended(EndReason::GatewayLost, 40, None)),
                ("ses-a", signed_in("usr-a", 'a', 100)),
                ("ses-b", signed_in("usr-a", 'b', 55)),
                ("ses-c", signed_in("usr-a", 'c', 100)),
                ("ses-c", signed_out(login::EndReason::Logout)),
                ("ses-d", signed_in("usr-b", 'd', 100)),
                ("ses-e", signed_in("usr-c", 'e', 100)),
                ("usr-c", user::Event::Disabled {}.into()),
                ("usr-a", api_key("key-a", 'a', None)),
                ("usr-a", api_key("key-b", 'b', Some(55))),
                ("usr-a", api_key("key-c", 'c', Some(100))),
                ("usr-a", api_key("key-d", 'd', None)),
                ("usr-a", user::Event::ApiKeyRevoked { id: value("key-d") }.into()),
                ("usr-b", api_key("key-e", 'e', None)),
            ])
            .await;
        world
            .commit(vec![
                ("usr-b", deleted_user()),
                ("net-b", deleted_network()),
                ("gw-b", gateway::Event::Deleted {}.into()),
                ("hub-b", spoke_removed("spoke-a")),
                ("hub-b", deleted_hub()),
                ("rule-b", access_rule::Event::Deleted {}.into()),
                ("fence-b", geo_fence_rule::Event::Deleted {}.into()),
            ])
            .await;
        let it = snapshot(&world.db, since()).await.unwrap();
        assert_eq!(it.position, 88);
        assert_eq!(ids(&it.gateways), ["gw-a"]);
        assert_eq!(ids(&it.gateway_users), ["gw-a/usr-a"]);
        assert_eq!(ids(&it.gateway_groups), ["gw-a/ops"]);
        assert_eq!(ids(&it.gateway_networks), ["gw-a/net-a"]);
        assert_eq!(ids(&it.mesh_hubs), ["hub-a"]);
        assert_eq!(ids(&it.mesh_hub_users), ["hub-a/usr-a"]);
        assert_eq!(ids(&it.mesh_hub_groups), ["hub-a/ops"]);
        assert_eq!(ids(&it.mesh_hub_networks), ["hub-a/net-a"]);
        assert_eq!(ids(&it.mesh_spokes), ["hub-a/spoke-a"]);
        assert_eq!(ids(&it.users), ["usr-a", "usr-c"]);
        assert_eq!(ids(&it.user_groups), ["usr-a/ops"]);
        assert_eq!(ids(&it.networks), ["net-a"]);
        assert_eq!(ids(&it.access_rules), ["rule-a"]);
        assert_eq!(ids(&it.access_rule_users), ["rule-a/usr-a"]);
        assert_eq!(ids(&it.access_rule_groups), ["rule-a/ops"]);
        assert_eq!(ids(&it.certificates), ["cfg-a", "cfg-b"]);
        let connections: Vec<_> = it.connections.iter().map(|it| it.id.as_str()).collect();
        assert_eq!(connections, ["con-a", "con-c", "con-e"]);
        assert_eq!(ids(&it.logins), ["ses-a"]);
        assert_eq!(ids(&it.api_keys), ["key-a", "key-c"]);
        assert_eq!(it.geo_fence, fence);
        assert_eq!(ids(&it.geo_fence_rules), ["fence-a"]);
        assert_eq!(ids(&it.geo_fence_rule_users), ["fence-a/usr-a"]);
        assert_eq!(ids(&it.geo_fence_rule_groups), ["fence-a/ops"]);
        assert_eq!(it.settings, values);
        assert_eq!(it.authority.unwrap().key, "sec-ca");
    })
    .await;
}

/// Writers go on while snapshots are read: each must be of one moment.
#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_of_one_moment() {
    on_each(async |mut world: World| {
        let db = world.db.clone();
        let reading = tokio::spawn(async move {
            let mut seen = BTreeSet::new();
            while seen.len() < 5 {
                let it = snapshot(&db, since()).await.unwrap();
                // Each batch adds one of each.
                let of = [it.gateways.len(), it.networks.len(), it.access_rules.len()];
                let count = it.connections.len();
                assert!(of.iter().all(|it| *it == count), "{count} {of:?}");
                assert_eq!(it.position, i64::try_from(count * 4).unwrap());
                seen.insert(count);
            }
        });
        for n in 0..2000 {
            if reading.is_finished() {
                break;
            }
            let (gateway, network) = (format!("gw-{n}"), format!("net-{n}"));
            let (rule, connection) = (format!("rule-{n}"), format!("con-{n}"));
            world
                .commit(vec![
                    (&gateway, registered(&gateway)),
                    (&network, created_network(&network, "10.0.0.0/8")),
                    (&rule, created_rule(rule_definition(&rule))),
                    (&connection, connected("usr-a", n)),
                ])
                .await;
        }
        assert!(reading.is_finished(), "nothing was read in between");
        reading.await.unwrap();
    })
    .await;
}
