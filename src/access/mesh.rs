//! Mesh hubs in the index: who may use them, and what is joined to them.
//!
//! A hub has no agent that would ask at each connect; who may come in is decided by the certificates
//! that are issued and revoked. So the index is asked when one is issued, and again whenever a
//! grant, a group or an account changes.

use super::decision::{Reason, check_active, ways};
use super::load::{LoadError, Wrong, damaged, maybe, named, read, small};
use super::state::UserEntry;
use gatekey_aggregates::mesh_hub::{Configuration, Event, SpokeDefinition};
use gatekey_aggregates::values::{
    CertificateId, GroupName, MeshHubId, NetworkId, SecretId, SpokeId, UserId,
};
use gatekey_projections::index::Snapshot;
use gatekey_projections::mesh_hubs::{MeshHubRow, MeshSpokeRow};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A hub that was not deleted.
#[derive(Clone, Debug, PartialEq)]
pub struct HubEntry {
    /// Its settings.
    pub configuration: Configuration,
    /// Where its tls-auth key is kept.
    pub tls_auth_key: SecretId,
    /// Users who were granted it by themselves.
    pub users: HashSet<UserId>,
    /// Groups whose members were granted it.
    pub groups: HashSet<GroupName>,
    /// Networks that can be reached through it.
    pub networks: HashSet<NetworkId>,
    /// What is joined to it; ordered, so that its server's settings are.
    pub spokes: BTreeMap<SpokeId, SpokeEntry>,
    /// Its server certificate.
    pub server_certificate: Option<CertificateId>,
}

/// A spoke that was not removed.
#[derive(Clone, Debug, PartialEq)]
pub struct SpokeEntry {
    /// What it is.
    pub definition: SpokeDefinition,
    /// Its router's certificate.
    pub certificate: Option<CertificateId>,
}

impl HubEntry {
    fn new(configuration: Configuration, tls_auth_key: SecretId) -> Self {
        Self {
            configuration,
            tls_auth_key,
            users: HashSet::new(),
            groups: HashSet::new(),
            networks: HashSet::new(),
            spokes: BTreeMap::new(),
            server_certificate: None,
        }
    }

    /// Whether a user may use it.
    pub fn check_user(&self, user_id: &UserId, user: &UserEntry) -> Result<(), Reason> {
        check_active(user)?;
        let granted = ways(&self.users, &self.groups, user_id, user).next();
        granted.map(|_| ()).ok_or(Reason::NotGranted)
    }
}

/// Those that were not deleted, by id.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Hubs(HashMap<MeshHubId, HubEntry>);

impl Hubs {
    /// The hub with this id.
    pub fn get(&self, id: &MeshHubId) -> Option<&HubEntry> {
        self.0.get(id)
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&MeshHubId, &HubEntry)> {
        self.0.iter()
    }

    /// Folds an event of a hub in.
    pub(super) fn apply(&mut self, id: &str, event: &Event) {
        let Ok(id) = id.parse::<MeshHubId>() else { return };
        if let Event::Created { configuration, tls_auth_key } = event {
            self.0.insert(id, HubEntry::new(configuration.clone(), tls_auth_key.clone()));
            return;
        }
        let Some(hub) = self.0.get_mut(&id) else { return };
        match event {
            Event::Created { .. } => {}
            Event::Updated { configuration } => hub.configuration = configuration.clone(),
            Event::UserGranted { user_id } => {
                hub.users.insert(user_id.clone());
            }
            Event::UserRevoked { user_id } => {
                hub.users.remove(user_id);
            }
            Event::GroupGranted { group } => {
                hub.groups.insert(group.clone());
            }
            Event::GroupRevoked { group } => {
                hub.groups.remove(group);
            }
            Event::NetworkAttached { network_id } => {
                hub.networks.insert(network_id.clone());
            }
            Event::NetworkDetached { network_id } => {
                hub.networks.remove(network_id);
            }
            Event::SpokeAdded { spoke_id, definition } => {
                let spoke = SpokeEntry { definition: definition.clone(), certificate: None };
                hub.spokes.insert(spoke_id.clone(), spoke);
            }
            Event::SpokeUpdated { spoke_id, definition } => {
                if let Some(spoke) = hub.spokes.get_mut(spoke_id) {
                    spoke.definition = definition.clone();
                }
            }
            Event::SpokeRemoved { spoke_id } => {
                hub.spokes.remove(spoke_id);
            }
            Event::ServerCertificateInstalled { certificate_id } => {
                hub.server_certificate = Some(certificate_id.clone());
            }
            Event::SpokeCertificateInstalled { spoke_id, certificate_id } => {
                if let Some(spoke) = hub.spokes.get_mut(spoke_id) {
                    spoke.certificate = Some(certificate_id.clone());
                }
            }
            Event::Deleted {} => {
                self.0.remove(&id);
            }
        }
    }

    /// A user was deleted.
    pub(super) fn forget_user(&mut self, id: &UserId) {
        for hub in self.0.values_mut() {
            hub.users.remove(id);
        }
    }

    /// A network was deleted.
    pub(super) fn forget_network(&mut self, id: &NetworkId) {
        for hub in self.0.values_mut() {
            hub.networks.remove(id);
        }
    }

    /// As the views have them.
    pub(super) fn load(snapshot: &Snapshot) -> Result<Self, LoadError> {
        let mut hubs = HashMap::new();
        for row in &snapshot.mesh_hubs {
            let failed = damaged("mesh_hubs", &row.id);
            let id: MeshHubId = read(&row.id).map_err(&failed)?;
            hubs.insert(id, hub(row).map_err(&failed)?);
        }
        for row in &snapshot.mesh_hub_users {
            let failed = damaged("mesh_hub_users", &row.hub_id);
            if let Some(hub) = hubs.get_mut(&read(&row.hub_id).map_err(&failed)?) {
                hub.users.insert(read(&row.user_id).map_err(&failed)?);
            }
        }
        for row in &snapshot.mesh_hub_groups {
            let failed = damaged("mesh_hub_groups", &row.hub_id);
            if let Some(hub) = hubs.get_mut(&read(&row.hub_id).map_err(&failed)?) {
                hub.groups.insert(read(&row.group_name).map_err(&failed)?);
            }
        }
        for row in &snapshot.mesh_hub_networks {
            let failed = damaged("mesh_hub_networks", &row.hub_id);
            if let Some(hub) = hubs.get_mut(&read(&row.hub_id).map_err(&failed)?) {
                hub.networks.insert(read(&row.network_id).map_err(&failed)?);
            }
        }
        for row in &snapshot.mesh_spokes {
            let failed = damaged("mesh_spokes", &row.id);
            if let Some(hub) = hubs.get_mut(&read(&row.hub_id).map_err(&failed)?) {
                hub.spokes.insert(read(&row.id).map_err(&failed)?, spoke(row).map_err(&failed)?);
            }
        }
        Ok(Self(hubs))
    }
}

fn hub(row: &MeshHubRow) -> Result<HubEntry, Wrong> {
    let configuration = Configuration {
        name: read(&row.name)?,
        description: read(&row.description)?,
        public_endpoint: read(&row.public_endpoint)?,
        port: small(row.port)?,
        protocol: named(&row.protocol)?,
        vpn_subnet: read(&row.vpn_subnet)?,
        crypto_profile: named(&row.crypto_profile)?,
        tls_auth: row.tls_auth,
        local_networks: row.local_networks.iter().map(|it| read(it)).collect::<Result<_, _>>()?,
    };
    let server_certificate = maybe(row.server_certificate.as_ref())?;
    let entry = HubEntry::new(configuration, read(&row.tls_auth_key)?);
    Ok(HubEntry { server_certificate, ..entry })
}

fn spoke(row: &MeshSpokeRow) -> Result<SpokeEntry, Wrong> {
    let definition = SpokeDefinition {
        name: read(&row.name)?,
        description: read(&row.description)?,
        local_networks: row.local_networks.iter().map(|it| read(it)).collect::<Result<_, _>>()?,
    };
    Ok(SpokeEntry { definition, certificate: maybe(row.certificate.as_ref())? })
}
