//! A mesh hub: a stock OpenVPN server that joins sites, its spokes, and who may use it.

use crate::grants::{Grants, NeverGiven};
use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{
    CertificateId, Cidr, CryptoProfile, Description, GroupName, Host, NetworkId, ResourceName,
    SecretId, SpokeId, Transport, UserId, VpnSubnet,
};
use crate::{Claim, ClaimKind};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Most local networks of a hub, and of a spoke.
pub const MAX_LOCAL_NETWORKS: usize = 64;
/// Most spokes of a hub.
pub const MAX_SPOKES: usize = 500;

const VPN_SUBNET: &str = "vpn_subnet";
const LOCAL_NETWORKS: &str = "local_networks";

/// What an admin writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Unique among hubs.
    pub name: ResourceName,
    /// Free text.
    pub description: Description,
    /// Where spokes and clients find it.
    pub public_endpoint: Host,
    /// OpenVPN's `port`, never 0.
    pub port: u16,
    /// OpenVPN's `proto`.
    pub protocol: Transport,
    /// What spokes and clients are given addresses from.
    pub vpn_subnet: VpnSubnet,
    /// Ciphers and digests.
    pub crypto_profile: CryptoProfile,
    /// Whether the control channel is authenticated with a shared key.
    pub tls_auth: bool,
    /// The networks at the hub's own site, at most [`MAX_LOCAL_NETWORKS`].
    pub local_networks: Vec<Cidr>,
}

/// What an admin writes of a spoke.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpokeDefinition {
    /// Unique among the spokes of its hub.
    pub name: ResourceName,
    /// Free text.
    pub description: Description,
    /// The networks behind it, at most [`MAX_LOCAL_NETWORKS`].
    pub local_networks: Vec<Cidr>,
}

/// A site that is joined to the hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spoke {
    /// What an admin wrote.
    pub definition: SpokeDefinition,
    /// How often an admin wrote it.
    pub version: i64,
    /// Its router's certificate.
    pub certificate: Option<CertificateId>,
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshHub {
    /// None before it is created.
    pub configuration: Option<Configuration>,
    /// Deleted ones stay deleted.
    pub deleted: bool,
    /// Users who were granted it by themselves.
    pub users: Grants<UserId>,
    /// Groups whose members were granted it.
    pub groups: Grants<GroupName>,
    /// Networks that can be reached through it.
    pub networks: Grants<NetworkId>,
    /// The sites that are joined to it.
    pub spokes: BTreeMap<SpokeId, Spoke>,
    /// Those that were removed.
    pub removed_spokes: BTreeSet<SpokeId>,
    /// Its current server certificate.
    pub server_certificate: Option<CertificateId>,
}

/// What can be asked of a hub.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make it known.
    Create {
        /// Its settings.
        configuration: Configuration,
        /// Where its tls-auth key is kept.
        tls_auth_key: SecretId,
    },
    /// Replace its settings.
    Configure(Configuration),
    /// Let a user in.
    GrantUser(UserId),
    /// No longer let a user in.
    RevokeUser(UserId),
    /// Let a group's members in.
    GrantGroup(GroupName),
    /// No longer let a group's members in.
    RevokeGroup(GroupName),
    /// Make a network reachable through it.
    AttachNetwork(NetworkId),
    /// No longer make a network reachable through it.
    DetachNetwork(NetworkId),
    /// Join a site to it.
    AddSpoke {
        /// Its id.
        spoke_id: SpokeId,
        /// What it is.
        definition: SpokeDefinition,
    },
    /// Replace what an admin wrote of a spoke.
    UpdateSpoke {
        /// Which.
        spoke_id: SpokeId,
        /// What it is now.
        definition: SpokeDefinition,
        /// Only if that is its version.
        if_version: Option<i64>,
    },
    /// Part a site from it.
    RemoveSpoke {
        /// Which.
        spoke_id: SpokeId,
        /// Only if that is its version.
        if_version: Option<i64>,
    },
    /// A server certificate was issued for it.
    InstallServerCertificate(CertificateId),
    /// A certificate was issued for a spoke's router.
    InstallSpokeCertificate {
        /// Whose.
        spoke_id: SpokeId,
        /// Which.
        certificate_id: CertificateId,
    },
    /// Remove it, and its spokes.
    Delete,
}

/// What happened to a hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was made known.
    Created {
        /// Its settings.
        configuration: Configuration,
        /// Where its tls-auth key is kept.
        tls_auth_key: SecretId,
    },
    /// Its settings were replaced.
    Updated {
        /// The new settings.
        configuration: Configuration,
    },
    /// A user may use it.
    UserGranted {
        /// Who.
        user_id: UserId,
    },
    /// A user may no longer use it by themselves.
    UserRevoked {
        /// Who.
        user_id: UserId,
    },
    /// A group's members may use it.
    GroupGranted {
        /// Which group.
        group: GroupName,
    },
    /// A group's members may no longer use it.
    GroupRevoked {
        /// Which group.
        group: GroupName,
    },
    /// A network can be reached through it.
    NetworkAttached {
        /// Which.
        network_id: NetworkId,
    },
    /// A network can no longer be reached through it.
    NetworkDetached {
        /// Which.
        network_id: NetworkId,
    },
    /// A site was joined to it.
    SpokeAdded {
        /// Its id.
        spoke_id: SpokeId,
        /// What it is.
        definition: SpokeDefinition,
    },
    /// What an admin wrote of a spoke was replaced.
    SpokeUpdated {
        /// Which.
        spoke_id: SpokeId,
        /// What it is now.
        definition: SpokeDefinition,
    },
    /// A site was parted from it.
    SpokeRemoved {
        /// Which.
        spoke_id: SpokeId,
    },
    /// A server certificate was issued for it.
    ServerCertificateInstalled {
        /// Which.
        certificate_id: CertificateId,
    },
    /// A certificate was issued for a spoke's router.
    SpokeCertificateInstalled {
        /// Whose.
        spoke_id: SpokeId,
        /// Which.
        certificate_id: CertificateId,
    },
    /// It was removed.
    Deleted {},
}

/// What a network overlaps with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// Another network of the same list.
    SameList,
    /// The addresses that the hub gives out.
    VpnSubnet,
    /// A network of the hub's own site.
    Hub,
    /// A network of a spoke.
    Spoke(SpokeId, ResourceName),
}

impl fmt::Display for Other {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SameList => f.write_str("the same list"),
            Self::VpnSubnet => f.write_str("the hub's vpn_subnet"),
            Self::Hub => f.write_str("the hub's local_networks"),
            Self::Spoke(id, name) => write!(f, "the spoke `{name}` ({id})"),
        }
    }
}

/// Why a command on a hub was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none with that id.
    #[error("there is no such mesh hub")]
    NotFound,
    /// The id is in use.
    #[error("this mesh hub exists already")]
    AlreadyCreated,
    /// Taken from whom it was never given to.
    #[error("it was never given to them")]
    NeverGiven,
    /// The hub has no spoke of that id.
    #[error("there is no such spoke")]
    SpokeNotFound,
    /// The spoke's id is in use.
    #[error("this spoke exists already")]
    SpokeExists,
    /// The spoke was written since it was read.
    #[error("it was changed since it was read")]
    SpokeChanged,
    /// Another spoke of the hub has the name.
    #[error("`{name}` is taken by {spoke_id}")]
    SpokeNameTaken {
        /// The name.
        name: ResourceName,
        /// Who has it.
        spoke_id: SpokeId,
    },
    /// More than [`MAX_SPOKES`].
    #[error("a hub has at most {MAX_SPOKES} spokes")]
    TooManySpokes,
    /// Port 0.
    #[error("must be from 1 to 65535")]
    PortZero,
    /// More than [`MAX_LOCAL_NETWORKS`].
    #[error("must be at most {MAX_LOCAL_NETWORKS} networks")]
    TooManyLocalNetworks,
    /// Two networks share addresses, so that packets would not know where to go.
    #[error("{network} overlaps {other} of {of}")]
    Overlaps {
        /// The field that it stands in.
        field: &'static str,
        /// The network that is not taken.
        network: Cidr,
        /// The one in its way.
        other: Cidr,
        /// Whose that is.
        of: Other,
    },
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "mesh_hub_not_found",
            Self::AlreadyCreated => "mesh_hub_exists",
            Self::NeverGiven => "grant_not_found",
            Self::SpokeNotFound => "spoke_not_found",
            Self::SpokeExists => "spoke_exists",
            Self::SpokeChanged => "changed_meanwhile",
            Self::SpokeNameTaken { .. } => "already_taken",
            Self::TooManySpokes => "too_many_spokes",
            Self::PortZero | Self::TooManyLocalNetworks => "invalid_mesh_hub",
            Self::Overlaps { .. } => "overlaps",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound | Self::NeverGiven | Self::SpokeNotFound => RefusalKind::NotFound,
            Self::AlreadyCreated
            | Self::SpokeExists
            | Self::SpokeChanged
            | Self::SpokeNameTaken { .. }
            | Self::TooManySpokes
            | Self::Overlaps { .. } => RefusalKind::Conflict,
            Self::PortZero | Self::TooManyLocalNetworks => RefusalKind::Invalid,
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::PortZero => Some("port"),
            Self::SpokeNameTaken { .. } => Some("name"),
            Self::TooManyLocalNetworks => Some(LOCAL_NETWORKS),
            Self::Overlaps { field, .. } => Some(field),
            _ => None,
        }
    }
}

impl From<NeverGiven> for Error {
    fn from(NeverGiven: NeverGiven) -> Self {
        Self::NeverGiven
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Created { .. } => "mesh_hub.created",
            Self::Updated { .. } => "mesh_hub.updated",
            Self::UserGranted { .. } => "mesh_hub.user_granted",
            Self::UserRevoked { .. } => "mesh_hub.user_revoked",
            Self::GroupGranted { .. } => "mesh_hub.group_granted",
            Self::GroupRevoked { .. } => "mesh_hub.group_revoked",
            Self::NetworkAttached { .. } => "mesh_hub.network_attached",
            Self::NetworkDetached { .. } => "mesh_hub.network_detached",
            Self::SpokeAdded { .. } => "mesh_hub.spoke_added",
            Self::SpokeUpdated { .. } => "mesh_hub.spoke_updated",
            Self::SpokeRemoved { .. } => "mesh_hub.spoke_removed",
            Self::ServerCertificateInstalled { .. } => "mesh_hub.server_certificate_installed",
            Self::SpokeCertificateInstalled { .. } => "mesh_hub.spoke_certificate_installed",
            Self::Deleted {} => "mesh_hub.deleted",
        }
    }

    /// Of the hub's own fields; a spoke is edited by itself, and counts its versions.
    fn is_configuration(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::Updated { .. } | Self::Deleted {})
    }
}

aggregate!(MeshHub, "mesh_hub");

impl Root for MeshHub {
    fn exists(&self) -> bool {
        self.configuration.is_some() && !self.deleted
    }

    fn claims(&self, _id: &str) -> Vec<Claim> {
        match &self.configuration {
            Some(it) if !self.deleted => vec![
                Claim::new(ClaimKind::MeshHubName, it.name.as_str().to_lowercase()),
                Claim::new(ClaimKind::VpnSubnet, it.vpn_subnet.to_string()),
            ],
            _ => Vec::new(),
        }
    }
}

impl MeshHub {
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        if let Command::Create { configuration, tls_auth_key } = command {
            if self.configuration.is_some() {
                return Err(Error::AlreadyCreated);
            }
            check(&configuration)?;
            return Ok(vec![Event::Created { configuration, tls_auth_key }]);
        }
        let takes = matches!(
            command,
            Command::RevokeUser(_)
                | Command::RevokeGroup(_)
                | Command::DetachNetwork(_)
                | Command::RemoveSpoke { .. }
                | Command::Delete
        );
        if !(self.exists() || self.deleted && takes) {
            return Err(Error::NotFound);
        }
        // Asking for what is so already is no change, and no event.
        let event = match command {
            Command::Create { .. } => None,
            Command::Configure(configuration) => {
                check(&configuration)?;
                self.check_spokes(&configuration)?;
                let changed = self.configuration.as_ref() != Some(&configuration);
                changed.then_some(Event::Updated { configuration })
            }
            Command::GrantUser(user_id) => {
                self.users.giving(user_id, |user_id| Event::UserGranted { user_id })
            }
            Command::RevokeUser(user_id) => {
                self.users.taking(user_id, |user_id| Event::UserRevoked { user_id })?
            }
            Command::GrantGroup(group) => {
                self.groups.giving(group, |group| Event::GroupGranted { group })
            }
            Command::RevokeGroup(group) => {
                self.groups.taking(group, |group| Event::GroupRevoked { group })?
            }
            Command::AttachNetwork(network_id) => {
                self.networks.giving(network_id, |network_id| Event::NetworkAttached { network_id })
            }
            Command::DetachNetwork(network_id) => {
                let event = |network_id| Event::NetworkDetached { network_id };
                self.networks.taking(network_id, event)?
            }
            Command::AddSpoke { spoke_id, definition } => {
                if self.spokes.contains_key(&spoke_id) || self.removed_spokes.contains(&spoke_id) {
                    return Err(Error::SpokeExists);
                }
                if self.spokes.len() >= MAX_SPOKES {
                    return Err(Error::TooManySpokes);
                }
                self.check_spoke(&spoke_id, &definition)?;
                Some(Event::SpokeAdded { spoke_id, definition })
            }
            Command::UpdateSpoke { spoke_id, definition, if_version } => {
                let spoke = self.spoke(&spoke_id, if_version)?;
                self.check_spoke(&spoke_id, &definition)?;
                let changed = spoke.definition != definition;
                changed.then_some(Event::SpokeUpdated { spoke_id, definition })
            }
            Command::RemoveSpoke { spoke_id, if_version } => {
                if self.removed_spokes.contains(&spoke_id) {
                    None
                } else {
                    self.spoke(&spoke_id, if_version)?;
                    Some(Event::SpokeRemoved { spoke_id })
                }
            }
            Command::InstallServerCertificate(certificate_id) => {
                let changed = self.server_certificate.as_ref() != Some(&certificate_id);
                changed.then_some(Event::ServerCertificateInstalled { certificate_id })
            }
            Command::InstallSpokeCertificate { spoke_id, certificate_id } => {
                let spoke = self.spoke(&spoke_id, None)?;
                let changed = spoke.certificate.as_ref() != Some(&certificate_id);
                changed.then_some(Event::SpokeCertificateInstalled { spoke_id, certificate_id })
            }
            Command::Delete if self.deleted => None,
            Command::Delete => {
                let removed = self.spokes.keys().cloned();
                let removed = removed.map(|spoke_id| Event::SpokeRemoved { spoke_id });
                return Ok(removed.chain([Event::Deleted {}]).collect());
            }
        };
        // A deleted one has nothing left to be taken.
        Ok(event.into_iter().filter(|_| !self.deleted).collect())
    }

    fn spoke(&self, id: &SpokeId, if_version: Option<i64>) -> Result<&Spoke, Error> {
        let spoke = self.spokes.get(id).ok_or(Error::SpokeNotFound)?;
        let is_meant = if_version.is_none_or(|version| version == spoke.version);
        if is_meant { Ok(spoke) } else { Err(Error::SpokeChanged) }
    }

    /// Whether a spoke fits in with the hub and the other spokes.
    fn check_spoke(&self, id: &SpokeId, definition: &SpokeDefinition) -> Result<(), Error> {
        let networks = &definition.local_networks;
        check_list(networks)?;
        let name = definition.name.as_str().to_lowercase();
        let others = || self.spokes.iter().filter(|(other, _)| *other != id);
        let namesake = others().find(|(_, it)| it.definition.name.as_str().to_lowercase() == name);
        if let Some((other, _)) = namesake {
            let name = definition.name.clone();
            return Err(Error::SpokeNameTaken { name, spoke_id: other.clone() });
        }
        if let Some(hub) = &self.configuration {
            apart(LOCAL_NETWORKS, networks, &[hub.vpn_subnet.cidr()], || Other::VpnSubnet)?;
            apart(LOCAL_NETWORKS, networks, &hub.local_networks, || Other::Hub)?;
        }
        for (other, it) in others() {
            let whose = || Other::Spoke(other.clone(), it.definition.name.clone());
            apart(LOCAL_NETWORKS, networks, &it.definition.local_networks, whose)?;
        }
        Ok(())
    }

    /// Whether the spokes that are there leave room for these settings.
    fn check_spokes(&self, configuration: &Configuration) -> Result<(), Error> {
        for (id, it) in &self.spokes {
            let networks = &it.definition.local_networks;
            let whose = || Other::Spoke(id.clone(), it.definition.name.clone());
            apart(VPN_SUBNET, &[configuration.vpn_subnet.cidr()], networks, whose)?;
            apart(LOCAL_NETWORKS, &configuration.local_networks, networks, whose)?;
        }
        Ok(())
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Created { configuration, .. } | Event::Updated { configuration } => {
                self.configuration = Some(configuration);
            }
            Event::UserGranted { user_id } => self.users.gave(user_id),
            Event::UserRevoked { user_id } => self.users.took(user_id),
            Event::GroupGranted { group } => self.groups.gave(group),
            Event::GroupRevoked { group } => self.groups.took(group),
            Event::NetworkAttached { network_id } => self.networks.gave(network_id),
            Event::NetworkDetached { network_id } => self.networks.took(network_id),
            Event::SpokeAdded { spoke_id, definition } => {
                self.removed_spokes.remove(&spoke_id);
                let spoke = Spoke { definition, version: 1, certificate: None };
                self.spokes.insert(spoke_id, spoke);
            }
            Event::SpokeUpdated { spoke_id, definition } => {
                if let Some(spoke) = self.spokes.get_mut(&spoke_id) {
                    spoke.definition = definition;
                    spoke.version += 1;
                }
            }
            Event::SpokeRemoved { spoke_id } => {
                self.spokes.remove(&spoke_id);
                self.removed_spokes.insert(spoke_id);
            }
            Event::ServerCertificateInstalled { certificate_id } => {
                self.server_certificate = Some(certificate_id);
            }
            Event::SpokeCertificateInstalled { spoke_id, certificate_id } => {
                if let Some(spoke) = self.spokes.get_mut(&spoke_id) {
                    spoke.certificate = Some(certificate_id);
                }
            }
            Event::Deleted {} => self.deleted = true,
        }
    }
}

fn check(configuration: &Configuration) -> Result<(), Error> {
    if configuration.port == 0 {
        return Err(Error::PortZero);
    }
    let networks = &configuration.local_networks;
    check_list(networks)?;
    apart(LOCAL_NETWORKS, networks, &[configuration.vpn_subnet.cidr()], || Other::VpnSubnet)
}

/// Whether the networks are not too many, and each is apart from the others.
fn check_list(networks: &[Cidr]) -> Result<(), Error> {
    if networks.len() > MAX_LOCAL_NETWORKS {
        return Err(Error::TooManyLocalNetworks);
    }
    let mut rest = networks;
    while let [network, others @ ..] = rest {
        apart(LOCAL_NETWORKS, others, &[*network], || Other::SameList)?;
        rest = others;
    }
    Ok(())
}

/// Whether no network of a field shares an address with one of the others.
fn apart(
    field: &'static str,
    networks: &[Cidr],
    others: &[Cidr],
    of: impl Fn() -> Other,
) -> Result<(), Error> {
    for network in networks {
        if let Some(other) = others.iter().find(|other| network.overlaps(other)) {
            return Err(Error::Overlaps { field, network: *network, other: *other, of: of() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{after, answer, value};
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};

    fn given(events: Vec<Event>) -> AggregateTestExecutor<MeshHub> {
        TestFramework::with(()).given(events)
    }

    fn configuration() -> Configuration {
        Configuration {
            name: value("Europe"),
            description: value("The hub in Frankfurt"),
            public_endpoint: value("hub.example.com"),
            port: 1194,
            protocol: Transport::Udp,
            vpn_subnet: value("172.30.0.0/24"),
            crypto_profile: CryptoProfile::Modern,
            tls_auth: true,
            local_networks: networks(&["10.1.0.0/16", "fd00:1::/32"]),
        }
    }

    fn networks(texts: &[&str]) -> Vec<Cidr> {
        texts.iter().map(|text| value(text)).collect()
    }

    /// That many networks, each apart from the others.
    fn many(number: usize) -> Vec<Cidr> {
        (0..number).map(|n| value(&format!("10.{}.{}.0/24", 100 + n / 256, n % 256))).collect()
    }

    fn spoke(name: &str, local_networks: &[&str]) -> SpokeDefinition {
        SpokeDefinition {
            name: value(name),
            description: value(""),
            local_networks: networks(local_networks),
        }
    }

    fn create(configuration: Configuration) -> Command {
        Command::Create { configuration, tls_auth_key: value("sec-tls") }
    }

    fn created() -> Event {
        Event::Created { configuration: configuration(), tls_auth_key: value("sec-tls") }
    }

    fn add(id: &str, definition: SpokeDefinition) -> Command {
        Command::AddSpoke { spoke_id: value(id), definition }
    }

    fn added(id: &str, definition: SpokeDefinition) -> Event {
        Event::SpokeAdded { spoke_id: value(id), definition }
    }

    fn update(id: &str, definition: SpokeDefinition, if_version: Option<i64>) -> Command {
        Command::UpdateSpoke { spoke_id: value(id), definition, if_version }
    }

    fn updated(id: &str, definition: SpokeDefinition) -> Event {
        Event::SpokeUpdated { spoke_id: value(id), definition }
    }

    fn remove(id: &str, if_version: Option<i64>) -> Command {
        Command::RemoveSpoke { spoke_id: value(id), if_version }
    }

    fn removed(id: &str) -> Event {
        Event::SpokeRemoved { spoke_id: value(id) }
    }

    fn berlin() -> SpokeDefinition {
        spoke("Berlin", &["10.20.0.0/16", "fd00:20::/32"])
    }

    fn with_berlin() -> Vec<Event> {
        vec![created(), added("spoke-b", berlin())]
    }

    /// Every command but `Create`.
    fn later_commands() -> Vec<Command> {
        vec![
            Command::Configure(configuration()),
            Command::GrantUser(value("usr-ada")),
            Command::RevokeUser(value("usr-ada")),
            Command::GrantGroup(value("engineering")),
            Command::RevokeGroup(value("engineering")),
            Command::AttachNetwork(value("net-office")),
            Command::DetachNetwork(value("net-office")),
            add("spoke-b", berlin()),
            update("spoke-b", berlin(), None),
            remove("spoke-b", None),
            Command::InstallServerCertificate(value("cfg-server")),
            Command::InstallSpokeCertificate {
                spoke_id: value("spoke-b"),
                certificate_id: value("cfg-b"),
            },
            Command::Delete,
        ]
    }

    #[tokio::test]
    async fn it_is_created_once() {
        let create = create(configuration());
        given(vec![]).when_async(create.clone()).await.then_expect_events(vec![created()]);
        for history in [vec![created()], vec![created(), Event::Deleted {}]] {
            given(history)
                .when_async(create.clone())
                .await
                .then_expect_error(Error::AlreadyCreated);
        }
    }

    #[tokio::test]
    async fn nothing_can_be_asked_of_none() {
        for command in later_commands() {
            given(vec![]).when_async(command.clone()).await.then_expect_error(Error::NotFound);
            let gone = given(vec![created(), Event::Deleted {}]).when_async(command.clone()).await;
            match command {
                Command::Delete => gone.then_expect_events(vec![]),
                Command::RevokeUser(_) | Command::RevokeGroup(_) | Command::DetachNetwork(_) => {
                    gone.then_expect_error(Error::NeverGiven);
                }
                Command::RemoveSpoke { .. } => gone.then_expect_error(Error::SpokeNotFound),
                _ => gone.then_expect_error(Error::NotFound),
            }
        }
    }

    #[tokio::test]
    async fn it_is_configured_anew() {
        let changed = Configuration { port: 443, protocol: Transport::Tcp, ..configuration() };
        given(vec![created()])
            .when_async(Command::Configure(changed.clone()))
            .await
            .then_expect_events(vec![Event::Updated { configuration: changed }]);
        given(vec![created()])
            .when_async(Command::Configure(configuration()))
            .await
            .then_expect_events(vec![]);
    }

    #[tokio::test]
    async fn a_configuration_that_makes_no_sense_is_refused() {
        let overlaps = |network: &str, other: &str, of| Error::Overlaps {
            field: LOCAL_NETWORKS,
            network: value(network),
            other: value(other),
            of,
        };
        let local = |local_networks| Configuration { local_networks, ..configuration() };
        let wrong = [
            (Configuration { port: 0, ..configuration() }, Error::PortZero),
            (local(many(MAX_LOCAL_NETWORKS + 1)), Error::TooManyLocalNetworks),
            (
                local(networks(&["10.0.0.0/8", "10.1.0.0/16"])),
                overlaps("10.1.0.0/16", "10.0.0.0/8", Other::SameList),
            ),
            (
                local(networks(&["172.16.0.0/12"])),
                overlaps("172.16.0.0/12", "172.30.0.0/24", Other::VpnSubnet),
            ),
        ];
        for (wrong, error) in wrong {
            given(vec![]).when_async(create(wrong.clone())).await.then_expect_error(error.clone());
            given(vec![created()])
                .when_async(Command::Configure(wrong))
                .await
                .then_expect_error(error);
        }
        let most = local(many(MAX_LOCAL_NETWORKS));
        given(vec![created()])
            .when_async(Command::Configure(most.clone()))
            .await
            .then_expect_events(vec![Event::Updated { configuration: most }]);
    }

    #[tokio::test]
    async fn settings_leave_room_for_the_spokes_that_are_there() {
        let berlin = || Other::Spoke(value("spoke-b"), value("Berlin"));
        let subnet = Configuration { vpn_subnet: value("10.20.8.0/24"), ..configuration() };
        let local = Configuration { local_networks: networks(&["fd00::/16"]), ..configuration() };
        let wrong = [
            (subnet, VPN_SUBNET, "10.20.8.0/24", "10.20.0.0/16"),
            (local, LOCAL_NETWORKS, "fd00::/16", "fd00:20::/32"),
        ];
        for (wrong, field, network, other) in wrong {
            given(with_berlin()).when_async(Command::Configure(wrong)).await.then_expect_error(
                Error::Overlaps {
                    field,
                    network: value(network),
                    other: value(other),
                    of: berlin(),
                },
            );
        }
    }

    #[tokio::test]
    async fn what_is_given_can_be_taken_and_neither_twice() {
        let (user_id, network_id): (UserId, NetworkId) = (value("usr-ada"), value("net-office"));
        let group: GroupName = value("engineering");
        let pairs = [
            (
                Command::GrantUser(user_id.clone()),
                Event::UserGranted { user_id: user_id.clone() },
                Command::RevokeUser(user_id.clone()),
                Event::UserRevoked { user_id },
            ),
            (
                Command::GrantGroup(group.clone()),
                Event::GroupGranted { group: group.clone() },
                Command::RevokeGroup(group.clone()),
                Event::GroupRevoked { group },
            ),
            (
                Command::AttachNetwork(network_id.clone()),
                Event::NetworkAttached { network_id: network_id.clone() },
                Command::DetachNetwork(network_id.clone()),
                Event::NetworkDetached { network_id },
            ),
        ];
        for (give, given_, take, taken) in pairs {
            let before = vec![created()];
            let with = vec![created(), given_.clone()];
            let without = vec![created(), given_.clone(), taken.clone()];
            let gone = vec![created(), given_.clone(), Event::Deleted {}];
            given(gone).when_async(take.clone()).await.then_expect_events(vec![]);
            given(before.clone())
                .when_async(take.clone())
                .await
                .then_expect_error(Error::NeverGiven);
            given(before).when_async(give.clone()).await.then_expect_events(vec![given_.clone()]);
            given(with.clone()).when_async(give.clone()).await.then_expect_events(vec![]);
            given(with).when_async(take.clone()).await.then_expect_events(vec![taken]);
            given(without.clone()).when_async(take).await.then_expect_events(vec![]);
            given(without).when_async(give).await.then_expect_events(vec![given_]);
        }
    }

    #[tokio::test]
    async fn a_spoke_is_added_once() {
        given(vec![created()])
            .when_async(add("spoke-b", berlin()))
            .await
            .then_expect_events(vec![added("spoke-b", berlin())]);
        let parted = vec![created(), added("spoke-b", berlin()), removed("spoke-b")];
        for history in [with_berlin(), parted] {
            given(history)
                .when_async(add("spoke-b", spoke("Bonn", &[])))
                .await
                .then_expect_error(Error::SpokeExists);
        }
    }

    #[tokio::test]
    async fn a_spoke_fits_in_with_the_hub_and_the_other_spokes() {
        let history = || {
            let mut history = with_berlin();
            history.push(added("spoke-p", spoke("Paris", &["10.33.0.0/16"])));
            history
        };
        let berlin = || Other::Spoke(value("spoke-b"), value("Berlin"));
        let cases = [
            (&["10.1.2.0/24"][..], "10.1.2.0/24", "10.1.0.0/16", Other::Hub),
            (&["172.30.0.128/25"], "172.30.0.128/25", "172.30.0.0/24", Other::VpnSubnet),
            (&["10.34.0.0/16", "10.20.7.0/24"], "10.20.7.0/24", "10.20.0.0/16", berlin()),
            (&["fd00:20:1::/48"], "fd00:20:1::/48", "fd00:20::/32", berlin()),
            (&["10.50.0.0/16", "10.50.0.0/16"], "10.50.0.0/16", "10.50.0.0/16", Other::SameList),
        ];
        for (local, network, other, of) in cases {
            let (network, other) = (value(network), value(other));
            let error = Error::Overlaps { field: LOCAL_NETWORKS, network, other, of };
            for command in [
                add("spoke-n", spoke("Nice", local)),
                update("spoke-p", spoke("Paris", local), None),
            ] {
                given(history()).when_async(command).await.then_expect_error(error.clone());
            }
        }
        let too_many =
            SpokeDefinition { local_networks: many(MAX_LOCAL_NETWORKS + 1), ..spoke("Nice", &[]) };
        let taken = Error::SpokeNameTaken { name: value("BERLIN"), spoke_id: value("spoke-b") };
        for (wrong, error) in
            [(too_many, Error::TooManyLocalNetworks), (spoke("BERLIN", &[]), taken)]
        {
            for command in [add("spoke-n", wrong.clone()), update("spoke-p", wrong, None)] {
                given(history()).when_async(command).await.then_expect_error(error.clone());
            }
        }
        let most =
            SpokeDefinition { local_networks: many(MAX_LOCAL_NETWORKS), ..spoke("Nice", &[]) };
        given(history())
            .when_async(add("spoke-n", most.clone()))
            .await
            .then_expect_events(vec![added("spoke-n", most)]);
    }

    #[tokio::test]
    async fn what_a_removed_spoke_had_is_free() {
        let history = vec![created(), added("spoke-b", berlin()), removed("spoke-b")];
        given(history)
            .when_async(add("spoke-c", berlin()))
            .await
            .then_expect_events(vec![added("spoke-c", berlin())]);
    }

    #[tokio::test]
    async fn a_hub_has_so_many_spokes_and_no_more() {
        let spokes =
            (0..MAX_SPOKES).map(|n| added(&format!("spoke-{n}"), spoke(&format!("site {n}"), &[])));
        let mut full: Vec<Event> = [created()].into_iter().chain(spokes).collect();
        given(full.clone())
            .when_async(add("spoke-more", spoke("more", &[])))
            .await
            .then_expect_error(Error::TooManySpokes);
        full.push(removed("spoke-7"));
        given(full)
            .when_async(add("spoke-more", spoke("more", &[])))
            .await
            .then_expect_events(vec![added("spoke-more", spoke("more", &[]))]);
    }

    #[tokio::test]
    async fn a_spoke_is_changed_by_whoever_has_seen_it() {
        let moved = spoke("Berlin", &["10.21.0.0/16"]);
        // Its own networks and its own name are not in its way.
        let grown = spoke("berlin", &["10.20.0.0/16", "10.21.0.0/16"]);
        for version in [None, Some(1)] {
            given(with_berlin())
                .when_async(update("spoke-b", grown.clone(), version))
                .await
                .then_expect_events(vec![updated("spoke-b", grown.clone())]);
        }
        given(with_berlin())
            .when_async(update("spoke-b", berlin(), None))
            .await
            .then_expect_events(vec![]);
        let mut history = with_berlin();
        history.push(updated("spoke-b", moved));
        for command in [update("spoke-b", berlin(), Some(1)), remove("spoke-b", Some(1))] {
            given(history.clone()).when_async(command).await.then_expect_error(Error::SpokeChanged);
        }
        given(history)
            .when_async(remove("spoke-b", Some(2)))
            .await
            .then_expect_events(vec![removed("spoke-b")]);
        given(with_berlin())
            .when_async(update("spoke-x", berlin(), None))
            .await
            .then_expect_error(Error::SpokeNotFound);
    }

    #[tokio::test]
    async fn a_spoke_is_removed_once() {
        given(with_berlin())
            .when_async(remove("spoke-b", None))
            .await
            .then_expect_events(vec![removed("spoke-b")]);
        let mut history = with_berlin();
        history.push(removed("spoke-b"));
        given(history.clone()).when_async(remove("spoke-b", None)).await.then_expect_events(vec![]);
        history.push(Event::Deleted {});
        given(history).when_async(remove("spoke-b", None)).await.then_expect_events(vec![]);
        given(with_berlin())
            .when_async(remove("spoke-x", None))
            .await
            .then_expect_error(Error::SpokeNotFound);
    }

    #[tokio::test]
    async fn certificates_are_news_once() {
        let install = Command::InstallSpokeCertificate {
            spoke_id: value("spoke-b"),
            certificate_id: value("cfg-b"),
        };
        let cases = [
            (
                Command::InstallServerCertificate(value("cfg-server")),
                Event::ServerCertificateInstalled { certificate_id: value("cfg-server") },
            ),
            (
                install.clone(),
                Event::SpokeCertificateInstalled {
                    spoke_id: value("spoke-b"),
                    certificate_id: value("cfg-b"),
                },
            ),
        ];
        for (command, event) in cases {
            given(with_berlin())
                .when_async(command.clone())
                .await
                .then_expect_events(vec![event.clone()]);
            let mut history = with_berlin();
            history.push(event);
            given(history).when_async(command).await.then_expect_events(vec![]);
        }
        given(vec![created()]).when_async(install).await.then_expect_error(Error::SpokeNotFound);
    }

    #[tokio::test]
    async fn it_is_deleted_with_its_spokes() {
        let mut history = with_berlin();
        history.push(added("spoke-p", spoke("Paris", &[])));
        given(history.clone()).when_async(Command::Delete).await.then_expect_events(vec![
            removed("spoke-b"),
            removed("spoke-p"),
            Event::Deleted {},
        ]);
        history.push(Event::Deleted {});
        given(history).when_async(Command::Delete).await.then_expect_events(vec![]);
    }

    #[test]
    fn it_claims_its_name_and_its_subnet_while_it_exists() {
        let here: MeshHub = after([created()]);
        assert_eq!(
            here.claims("hub-eu"),
            [
                Claim::new(ClaimKind::MeshHubName, "europe"),
                Claim::new(ClaimKind::VpnSubnet, "172.30.0.0/24"),
            ]
        );
        assert_eq!(after::<MeshHub>([created(), Event::Deleted {}]).claims("hub-eu"), []);
        assert_eq!(MeshHub::default().claims("hub-eu"), []);
    }

    #[test]
    fn only_what_an_admin_writes_of_the_hub_is_configuration() {
        let updated = Event::Updated { configuration: configuration() };
        assert!(created().is_configuration() && updated.is_configuration());
        assert!(Event::Deleted {}.is_configuration());
        assert!(!Event::UserGranted { user_id: value("usr-ada") }.is_configuration());
        assert!(!added("spoke-b", berlin()).is_configuration());
    }

    #[test]
    fn refusals_are_answered_by_code_kind_and_field() {
        use RefusalKind::{Conflict, Invalid, NotFound};
        let (local, name) = (Some(LOCAL_NETWORKS), Some("name"));
        assert_eq!(answer(&Error::NotFound), ("mesh_hub_not_found", NotFound, None));
        assert_eq!(answer(&Error::NeverGiven), ("grant_not_found", NotFound, None));
        assert_eq!(answer(&Error::SpokeNotFound), ("spoke_not_found", NotFound, None));
        assert_eq!(answer(&Error::AlreadyCreated), ("mesh_hub_exists", Conflict, None));
        assert_eq!(answer(&Error::SpokeExists), ("spoke_exists", Conflict, None));
        assert_eq!(answer(&Error::SpokeChanged), ("changed_meanwhile", Conflict, None));
        assert_eq!(answer(&Error::TooManySpokes), ("too_many_spokes", Conflict, None));
        assert_eq!(answer(&Error::PortZero), ("invalid_mesh_hub", Invalid, Some("port")));
        assert_eq!(answer(&Error::TooManyLocalNetworks), ("invalid_mesh_hub", Invalid, local));
        let taken = Error::SpokeNameTaken { name: value("Berlin"), spoke_id: value("spoke-b") };
        assert_eq!(answer(&taken), ("already_taken", Conflict, name));
        assert_eq!(taken.to_string(), "`Berlin` is taken by spoke-b");
        let overlaps = |of| Error::Overlaps {
            field: LOCAL_NETWORKS,
            network: value("10.20.7.0/24"),
            other: value("10.20.0.0/16"),
            of,
        };
        let berlin = Other::Spoke(value("spoke-b"), value("Berlin"));
        assert_eq!(answer(&overlaps(Other::Hub)), ("overlaps", Conflict, local));
        assert_eq!(
            overlaps(berlin).to_string(),
            "10.20.7.0/24 overlaps 10.20.0.0/16 of the spoke `Berlin` (spoke-b)"
        );
    }
}
