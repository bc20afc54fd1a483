//! How many there are of each thing: what an unfiltered list need not count.

use crate::rows::{Rows, View};
use crate::table::table;
use gatekey_aggregates::certificate::{Event as CertificateEvent, Subject};
use gatekey_aggregates::{
    Event, Recorded, access_rule, gateway, geo_fence_rule, mesh_hub, network, session, user,
};

/// What is counted: the name of its list.
pub(crate) mod of {
    pub const ACCESS_RULES: &str = "access_rules";
    pub const CONFIGS: &str = "configs";
    pub const CONNECTIONS: &str = "connections";
    pub const GATEWAYS: &str = "gateways";
    pub const GEO_FENCE_RULES: &str = "geo_fence_rules";
    pub const MESH_HUBS: &str = "mesh_hubs";
    pub const NETWORKS: &str = "networks";
    pub const USERS: &str = "users";
}

table! {
    /// How many there are of something.
    pub struct TotalRow: "totals" by [name] {
        /// Of what: the name of its list.
        name: String,
        /// How many.
        count: i64,
    }
}

/// The view of totals.
pub struct Totals;

impl View for Totals {
    fn name(&self) -> &'static str {
        "totals"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["totals"]
    }

    /// Counts are added to, without being looked at.
    fn want(&self, _: &Recorded, _: &mut Rows) {}

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        let (name, change) = match &recorded.event {
            Event::AccessRule(access_rule::Event::Created { .. }) => (of::ACCESS_RULES, 1),
            Event::AccessRule(access_rule::Event::Deleted {}) => (of::ACCESS_RULES, -1),
            Event::Certificate(CertificateEvent::Issued(it)) => match it.subject {
                Subject::Client { .. } | Subject::HubClient { .. } => (of::CONFIGS, 1),
                Subject::Server { .. } | Subject::HubServer { .. } | Subject::Spoke { .. } => {
                    return;
                }
            },
            Event::Gateway(gateway::Event::Registered { .. }) => (of::GATEWAYS, 1),
            Event::Gateway(gateway::Event::Deleted {}) => (of::GATEWAYS, -1),
            Event::GeoFenceRule(geo_fence_rule::Event::Created { .. }) => (of::GEO_FENCE_RULES, 1),
            Event::GeoFenceRule(geo_fence_rule::Event::Deleted {}) => (of::GEO_FENCE_RULES, -1),
            Event::MeshHub(mesh_hub::Event::Created { .. }) => (of::MESH_HUBS, 1),
            Event::MeshHub(mesh_hub::Event::Deleted {}) => (of::MESH_HUBS, -1),
            Event::Network(network::Event::Created { .. }) => (of::NETWORKS, 1),
            Event::Network(network::Event::Deleted {}) => (of::NETWORKS, -1),
            Event::Session(session::Event::Began(_)) => (of::CONNECTIONS, 1),
            Event::User(user::Event::Created { .. }) => (of::USERS, 1),
            Event::User(user::Event::Deleted {}) => (of::USERS, -1),
            _ => return,
        };
        rows.count(name, change);
    }
}
