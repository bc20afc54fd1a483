//! Every view that there is.

use crate::access_rules::AccessRules;
use crate::api_keys::ApiKeys;
use crate::authorities::Authorities;
use crate::certificates::Certificates;
use crate::connections::Connections;
use crate::gateways::Gateways;
use crate::geo_fence::GeoFences;
use crate::geo_fence_rules::GeoFenceRules;
use crate::logins::Logins;
use crate::mesh_hubs::MeshHubs;
use crate::networks::Networks;
use crate::rows::View;
use crate::settings::SettingsView;
use crate::totals::Totals;
use crate::users::Users;

/// Every view, for the log writer and the rebuild.
pub fn all() -> &'static [&'static dyn View] {
    &[
        &AccessRules,
        &ApiKeys,
        &Authorities,
        &Certificates,
        &Connections,
        &Gateways,
        &GeoFences,
        &GeoFenceRules,
        &Logins,
        &MeshHubs,
        &Networks,
        &SettingsView,
        &Totals,
        &Users,
    ]
}
