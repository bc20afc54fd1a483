//! A gateway: a stock OpenVPN server with our agent beside it, and who may use it.

use crate::grants::{Grants, NeverGiven};
use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{
    CertificateId, CryptoProfile, Description, GroupName, Host, NetworkId, ResourceName, SecretId,
    TokenHash, Transport, UserId, VpnSubnet,
};
use crate::{Claim, ClaimKind};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Most DNS servers that a gateway pushes.
pub const MAX_DNS_SERVERS: usize = 8;

/// What an admin writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// Unique among gateways.
    pub name: ResourceName,
    /// Free text.
    pub description: Description,
    /// Where clients find it.
    pub hostname: Host,
    /// Its address, where an admin fixed it; else the agent's report counts.
    pub public_ip: Option<IpAddr>,
    /// OpenVPN's `port`, never 0.
    pub port: u16,
    /// OpenVPN's `proto`.
    pub protocol: Transport,
    /// What clients are given addresses from.
    pub vpn_subnet: VpnSubnet,
    /// Ciphers and digests.
    pub crypto_profile: CryptoProfile,
    /// Whether the control channel is authenticated with a shared key.
    pub tls_auth: bool,
    /// Whether clients send all their traffic through it.
    pub full_tunnel: bool,
    /// Whether clients are told to use `dns_servers`.
    pub push_dns: bool,
    /// At most [`MAX_DNS_SERVERS`].
    pub dns_servers: Vec<IpAddr>,
    /// An inactive gateway lets nobody in.
    pub active: bool,
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gateway {
    /// None before it is registered.
    pub configuration: Option<Configuration>,
    /// Deleted ones stay deleted.
    pub deleted: bool,
    /// Users who were granted it by themselves.
    pub users: Grants<UserId>,
    /// Groups whose members were granted it.
    pub groups: Grants<GroupName>,
    /// Networks that can be reached through it.
    pub networks: Grants<NetworkId>,
    /// Whether its agent was heard of lately.
    pub online: bool,
    /// The address that the agent reports.
    pub reported_ip: Option<IpAddr>,
    /// Its current server certificate; none until the agent provisions, first or anew.
    pub server_certificate: Option<CertificateId>,
}

/// What can be asked of a gateway.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make it known.
    Register {
        /// Its settings.
        configuration: Configuration,
        /// Hash of the agent's token.
        token_hash: TokenHash,
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
    /// Replace the agent's token.
    RotateToken(TokenHash),
    /// Have the agent fetch its certificates and settings again.
    RequestReprovision,
    /// A server certificate was issued for it.
    InstallServerCertificate(CertificateId),
    /// The agent was heard of.
    ComeOnline,
    /// The agent has been silent for too long.
    GoOffline,
    /// The agent reports another address.
    ReportAddress(IpAddr),
    /// Remove it.
    Delete,
}

/// What happened to a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was made known.
    Registered {
        /// Its settings.
        configuration: Configuration,
        /// Hash of the agent's token.
        token_hash: TokenHash,
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
    /// The agent's token was replaced.
    TokenRotated {
        /// Hash of the new one.
        token_hash: TokenHash,
    },
    /// The agent is to fetch certificates and settings again.
    ReprovisionRequested {},
    /// A server certificate was issued for it.
    ServerCertificateInstalled {
        /// Which.
        certificate_id: CertificateId,
    },
    /// The agent was heard of after silence.
    CameOnline {},
    /// The agent fell silent.
    WentOffline {},
    /// The agent reported another address.
    AddressChanged {
        /// The new one.
        public_ip: IpAddr,
    },
    /// It was removed.
    Deleted {},
}

/// Why a command on a gateway was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none with that id.
    #[error("there is no such gateway")]
    NotFound,
    /// The id is in use.
    #[error("this gateway is registered already")]
    AlreadyRegistered,
    /// Taken from whom it was never given to.
    #[error("it was never given to them")]
    NeverGiven,
    /// Port 0.
    #[error("must be from 1 to 65535")]
    PortZero,
    /// More than [`MAX_DNS_SERVERS`].
    #[error("must be at most {MAX_DNS_SERVERS} addresses")]
    TooManyDnsServers,
    /// `push_dns` without servers.
    #[error("must name at least one server while push_dns is on")]
    NoDnsServers,
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "gateway_not_found",
            Self::NeverGiven => "grant_not_found",
            Self::AlreadyRegistered => "gateway_exists",
            Self::PortZero | Self::TooManyDnsServers | Self::NoDnsServers => "invalid_gateway",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound | Self::NeverGiven => RefusalKind::NotFound,
            Self::AlreadyRegistered => RefusalKind::Conflict,
            _ => RefusalKind::Invalid,
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::PortZero => Some("port"),
            Self::TooManyDnsServers | Self::NoDnsServers => Some("dns_servers"),
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
            Self::Registered { .. } => "gateway.registered",
            Self::Updated { .. } => "gateway.updated",
            Self::UserGranted { .. } => "gateway.user_granted",
            Self::UserRevoked { .. } => "gateway.user_revoked",
            Self::GroupGranted { .. } => "gateway.group_granted",
            Self::GroupRevoked { .. } => "gateway.group_revoked",
            Self::NetworkAttached { .. } => "gateway.network_attached",
            Self::NetworkDetached { .. } => "gateway.network_detached",
            Self::TokenRotated { .. } => "gateway.token_rotated",
            Self::ReprovisionRequested {} => "gateway.reprovision_requested",
            Self::ServerCertificateInstalled { .. } => "gateway.server_certificate_installed",
            Self::CameOnline {} => "gateway.came_online",
            Self::WentOffline {} => "gateway.went_offline",
            Self::AddressChanged { .. } => "gateway.address_changed",
            Self::Deleted {} => "gateway.deleted",
        }
    }

    fn is_configuration(&self) -> bool {
        matches!(self, Self::Registered { .. } | Self::Updated { .. } | Self::Deleted {})
    }
}

aggregate!(Gateway, "gateway");

impl Root for Gateway {
    fn exists(&self) -> bool {
        self.configuration.is_some() && !self.deleted
    }

    fn claims(&self, _id: &str) -> Vec<Claim> {
        match &self.configuration {
            Some(it) if !self.deleted => vec![
                Claim::new(ClaimKind::GatewayName, it.name.as_str().to_lowercase()),
                Claim::new(ClaimKind::VpnSubnet, it.vpn_subnet.to_string()),
            ],
            _ => Vec::new(),
        }
    }
}

impl Gateway {
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        if let Command::Register { configuration, token_hash, tls_auth_key } = command {
            if self.configuration.is_some() {
                return Err(Error::AlreadyRegistered);
            }
            check(&configuration)?;
            return Ok(vec![Event::Registered { configuration, token_hash, tls_auth_key }]);
        }
        let takes = matches!(
            command,
            Command::RevokeUser(_)
                | Command::RevokeGroup(_)
                | Command::DetachNetwork(_)
                | Command::Delete
        );
        if !(self.exists() || self.deleted && takes) {
            return Err(Error::NotFound);
        }
        // Asking for what is so already is no change, and no event.
        let event = match command {
            Command::Register { .. } => None,
            Command::Configure(configuration) => {
                check(&configuration)?;
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
            Command::RotateToken(token_hash) => Some(Event::TokenRotated { token_hash }),
            Command::RequestReprovision => Some(Event::ReprovisionRequested {}),
            Command::InstallServerCertificate(certificate_id) => {
                let changed = self.server_certificate.as_ref() != Some(&certificate_id);
                changed.then_some(Event::ServerCertificateInstalled { certificate_id })
            }
            Command::ComeOnline => (!self.online).then_some(Event::CameOnline {}),
            Command::GoOffline => self.online.then_some(Event::WentOffline {}),
            Command::ReportAddress(public_ip) => {
                (self.reported_ip != Some(public_ip)).then_some(Event::AddressChanged { public_ip })
            }
            Command::Delete => Some(Event::Deleted {}),
        };
        // A deleted one has nothing left to be taken.
        Ok(event.into_iter().filter(|_| !self.deleted).collect())
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Registered { configuration, .. } | Event::Updated { configuration } => {
                self.configuration = Some(configuration);
            }
            Event::UserGranted { user_id } => self.users.gave(user_id),
            Event::UserRevoked { user_id } => self.users.took(user_id),
            Event::GroupGranted { group } => self.groups.gave(group),
            Event::GroupRevoked { group } => self.groups.took(group),
            Event::NetworkAttached { network_id } => self.networks.gave(network_id),
            Event::NetworkDetached { network_id } => self.networks.took(network_id),
            Event::TokenRotated { .. } => {}
            // The next provision makes another, with another key.
            Event::ReprovisionRequested {} => self.server_certificate = None,
            Event::ServerCertificateInstalled { certificate_id } => {
                self.server_certificate = Some(certificate_id);
            }
            Event::CameOnline {} => self.online = true,
            Event::WentOffline {} => self.online = false,
            Event::AddressChanged { public_ip } => self.reported_ip = Some(public_ip),
            Event::Deleted {} => {
                self.deleted = true;
                self.online = false;
            }
        }
    }
}

fn check(configuration: &Configuration) -> Result<(), Error> {
    if configuration.port == 0 {
        return Err(Error::PortZero);
    }
    if configuration.dns_servers.len() > MAX_DNS_SERVERS {
        return Err(Error::TooManyDnsServers);
    }
    if configuration.push_dns && configuration.dns_servers.is_empty() {
        return Err(Error::NoDnsServers);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{after, answer, digest, value};
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};

    fn given(events: Vec<Event>) -> AggregateTestExecutor<Gateway> {
        TestFramework::with(()).given(events)
    }

    fn configuration() -> Configuration {
        Configuration {
            name: value("US-East-1"),
            description: value("US East Coast Gateway"),
            hostname: value("vpn-us-east.example.com"),
            public_ip: None,
            port: 1194,
            protocol: Transport::Udp,
            vpn_subnet: VpnSubnet::DEFAULT,
            crypto_profile: CryptoProfile::Modern,
            tls_auth: true,
            full_tunnel: false,
            push_dns: false,
            dns_servers: Vec::new(),
            active: true,
        }
    }

    fn register(configuration: Configuration) -> Command {
        let (token_hash, tls_auth_key) = (value(&digest('a')), value("sec-tls"));
        Command::Register { configuration, token_hash, tls_auth_key }
    }

    fn registered() -> Event {
        Event::Registered {
            configuration: configuration(),
            token_hash: value(&digest('a')),
            tls_auth_key: value("sec-tls"),
        }
    }

    /// Every command but `Register`.
    fn later_commands() -> Vec<Command> {
        vec![
            Command::Configure(configuration()),
            Command::GrantUser(value("usr-ada")),
            Command::RevokeUser(value("usr-ada")),
            Command::GrantGroup(value("engineering")),
            Command::RevokeGroup(value("engineering")),
            Command::AttachNetwork(value("net-office")),
            Command::DetachNetwork(value("net-office")),
            Command::RotateToken(value(&digest('b'))),
            Command::RequestReprovision,
            Command::InstallServerCertificate(value("cfg-server")),
            Command::ComeOnline,
            Command::GoOffline,
            Command::ReportAddress(value("192.0.2.1")),
            Command::Delete,
        ]
    }

    #[tokio::test]
    async fn it_is_registered_once() {
        let register = register(configuration());
        given(vec![]).when_async(register.clone()).await.then_expect_events(vec![registered()]);
        for history in [vec![registered()], vec![registered(), Event::Deleted {}]] {
            given(history)
                .when_async(register.clone())
                .await
                .then_expect_error(Error::AlreadyRegistered);
        }
    }

    #[tokio::test]
    async fn nothing_can_be_asked_of_none() {
        for command in later_commands() {
            given(vec![]).when_async(command.clone()).await.then_expect_error(Error::NotFound);
            let gone = given(vec![registered(), Event::Deleted {}]);
            match command {
                Command::Delete => gone.when_async(command).await.then_expect_events(vec![]),
                Command::RevokeUser(_) | Command::RevokeGroup(_) | Command::DetachNetwork(_) => {
                    gone.when_async(command).await.then_expect_error(Error::NeverGiven);
                }
                _ => gone.when_async(command).await.then_expect_error(Error::NotFound),
            }
        }
    }

    #[tokio::test]
    async fn it_is_configured_anew() {
        let changed = Configuration { active: false, ..configuration() };
        given(vec![registered()])
            .when_async(Command::Configure(changed.clone()))
            .await
            .then_expect_events(vec![Event::Updated { configuration: changed }]);
        given(vec![registered()])
            .when_async(Command::Configure(configuration()))
            .await
            .then_expect_events(vec![]);
    }

    #[tokio::test]
    async fn a_configuration_that_makes_no_sense_is_refused() {
        let server: IpAddr = value("192.0.2.53");
        let wrong = [
            (Configuration { port: 0, ..configuration() }, Error::PortZero),
            (
                Configuration { dns_servers: vec![server; 9], ..configuration() },
                Error::TooManyDnsServers,
            ),
            (Configuration { push_dns: true, ..configuration() }, Error::NoDnsServers),
        ];
        for (wrong, error) in wrong {
            given(vec![])
                .when_async(register(wrong.clone()))
                .await
                .then_expect_error(error.clone());
            given(vec![registered()])
                .when_async(Command::Configure(wrong))
                .await
                .then_expect_error(error);
        }
        let most = Configuration {
            push_dns: true,
            dns_servers: vec![server; MAX_DNS_SERVERS],
            ..configuration()
        };
        given(vec![registered()])
            .when_async(Command::Configure(most.clone()))
            .await
            .then_expect_events(vec![Event::Updated { configuration: most }]);
    }

    #[tokio::test]
    async fn what_is_given_can_be_taken_and_neither_twice() {
        let (user_id, network_id): (UserId, NetworkId) = (value("usr-ada"), value("net-office"));
        let group: GroupName = value("engineering");
        let pairs = [
            (
                (
                    Command::GrantUser(user_id.clone()),
                    Event::UserGranted { user_id: user_id.clone() },
                ),
                (Command::RevokeUser(user_id.clone()), Event::UserRevoked { user_id }),
            ),
            (
                (Command::GrantGroup(group.clone()), Event::GroupGranted { group: group.clone() }),
                (Command::RevokeGroup(group.clone()), Event::GroupRevoked { group }),
            ),
            (
                (
                    Command::AttachNetwork(network_id.clone()),
                    Event::NetworkAttached { network_id: network_id.clone() },
                ),
                (Command::DetachNetwork(network_id.clone()), Event::NetworkDetached { network_id }),
            ),
        ];
        for ((give, given_), (take, taken)) in pairs {
            let before = vec![registered()];
            let with = vec![registered(), given_.clone()];
            let without = vec![registered(), given_.clone(), taken.clone()];
            let gone = vec![registered(), given_.clone(), Event::Deleted {}];
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
    async fn it_comes_and_goes_and_neither_twice() {
        let (come, go) = (Command::ComeOnline, Command::GoOffline);
        let (came, went) = (Event::CameOnline {}, Event::WentOffline {});
        let here = vec![registered(), came.clone()];
        given(vec![registered()]).when_async(go.clone()).await.then_expect_events(vec![]);
        given(vec![registered()]).when_async(come.clone()).await.then_expect_events(vec![came]);
        given(here.clone()).when_async(come).await.then_expect_events(vec![]);
        given(here).when_async(go).await.then_expect_events(vec![went]);
    }

    #[tokio::test]
    async fn a_token_can_be_replaced_and_a_reprovision_asked_for_again_and_again() {
        let token_hash: TokenHash = value(&digest('b'));
        let cases = [
            (Command::RotateToken(token_hash.clone()), Event::TokenRotated { token_hash }),
            (Command::RequestReprovision, Event::ReprovisionRequested {}),
        ];
        for (command, event) in cases {
            given(vec![registered(), event.clone()])
                .when_async(command)
                .await
                .then_expect_events(vec![event]);
        }
    }

    #[test]
    fn a_reprovision_leaves_it_without_a_server_certificate() {
        let installed = || Event::ServerCertificateInstalled { certificate_id: value("cfg-1") };
        let before: Gateway = after([registered(), installed()]);
        assert_eq!(before.server_certificate, Some(value("cfg-1")));
        let asked: Gateway = after([registered(), installed(), Event::ReprovisionRequested {}]);
        assert_eq!(asked.server_certificate, None);
    }

    #[tokio::test]
    async fn what_the_agent_reports_is_news_once() {
        let (certificate_id, public_ip) = (value("cfg-server"), value("192.0.2.1"));
        let cases = [
            (
                Command::InstallServerCertificate(value("cfg-server")),
                Event::ServerCertificateInstalled { certificate_id },
            ),
            (Command::ReportAddress(public_ip), Event::AddressChanged { public_ip }),
        ];
        for (command, event) in cases {
            given(vec![registered()])
                .when_async(command.clone())
                .await
                .then_expect_events(vec![event.clone()]);
            given(vec![registered(), event]).when_async(command).await.then_expect_events(vec![]);
        }
    }

    #[tokio::test]
    async fn a_deleted_one_is_gone_and_offline() {
        let history = vec![registered(), Event::CameOnline {}];
        given(history.clone())
            .when_async(Command::Delete)
            .await
            .then_expect_events(vec![Event::Deleted {}]);
        let gone: Gateway = after(history.into_iter().chain([Event::Deleted {}]));
        assert!(!gone.exists() && !gone.online);
    }

    #[test]
    fn it_claims_its_name_and_its_subnet_while_it_exists() {
        let here: Gateway = after([registered()]);
        assert_eq!(
            here.claims("gw-001"),
            [
                Claim::new(ClaimKind::GatewayName, "us-east-1"),
                Claim::new(ClaimKind::VpnSubnet, "172.31.255.0/24"),
            ]
        );
        let configuration = Configuration {
            name: value("eu"),
            vpn_subnet: value("10.9.0.0/16"),
            ..configuration()
        };
        let moved: Gateway = after([registered(), Event::Updated { configuration }]);
        assert_eq!(
            moved.claims("gw-001"),
            [
                Claim::new(ClaimKind::GatewayName, "eu"),
                Claim::new(ClaimKind::VpnSubnet, "10.9.0.0/16"),
            ]
        );
        assert_eq!(after::<Gateway>([registered(), Event::Deleted {}]).claims("gw-001"), []);
        assert_eq!(Gateway::default().claims("gw-001"), []);
    }

    #[test]
    fn only_what_an_admin_writes_is_configuration() {
        let updated = Event::Updated { configuration: configuration() };
        assert!(registered().is_configuration() && updated.is_configuration());
        assert!(Event::Deleted {}.is_configuration());
        assert!(!Event::CameOnline {}.is_configuration());
        assert!(!Event::UserGranted { user_id: value("usr-ada") }.is_configuration());
        assert!(!Event::TokenRotated { token_hash: value(&digest('b')) }.is_configuration());
    }

    #[test]
    fn refusals_are_answered_by_code_kind_and_field() {
        use RefusalKind::{Conflict, Invalid, NotFound};
        let dns = Some("dns_servers");
        assert_eq!(answer(&Error::NotFound), ("gateway_not_found", NotFound, None));
        assert_eq!(answer(&Error::AlreadyRegistered), ("gateway_exists", Conflict, None));
        assert_eq!(answer(&Error::NeverGiven), ("grant_not_found", NotFound, None));
        assert_eq!(answer(&Error::PortZero), ("invalid_gateway", Invalid, Some("port")));
        assert_eq!(answer(&Error::TooManyDnsServers), ("invalid_gateway", Invalid, dns));
        assert_eq!(answer(&Error::NoDnsServers), ("invalid_gateway", Invalid, dns));
    }
}
