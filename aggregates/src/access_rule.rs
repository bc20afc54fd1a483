//! An access rule: a destination that people may reach, and which people.

use crate::grants::{Grants, NeverGiven};
use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{
    Cidr, Description, GroupName, Hostname, HostnameWildcard, Invalid, NetworkId, PortRange,
    ResourceName, UserId, canonical_ip,
};
use crate::{Claim, ClaimKind};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// What kind of destination a rule names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TargetType {
    /// One address.
    Ip,
    /// A network in CIDR notation.
    Cidr,
    /// A host name.
    Hostname,
    /// Every host name under a domain.
    HostnameWildcard,
}

impl TargetType {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ip => "ip",
            Self::Cidr => "cidr",
            Self::Hostname => "hostname",
            Self::HostnameWildcard => "hostname_wildcard",
        }
    }
}

/// The destination. In JSON `{"type": "cidr", "value": "10.0.0.0/8"}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "StoredTarget", into = "StoredTarget")]
pub enum Target {
    /// One address.
    Ip(IpAddr),
    /// A network.
    Cidr(Cidr),
    /// A host name.
    Hostname(Hostname),
    /// Every host name under a domain.
    HostnameWildcard(HostnameWildcard),
}

#[derive(Clone, Serialize, Deserialize)]
struct StoredTarget {
    r#type: TargetType,
    value: String,
}

impl From<Target> for StoredTarget {
    fn from(target: Target) -> Self {
        Self { r#type: target.kind(), value: target.value() }
    }
}

impl TryFrom<StoredTarget> for Target {
    type Error = Invalid;

    fn try_from(stored: StoredTarget) -> Result<Self, Invalid> {
        Self::parse(stored.r#type, &stored.value)
    }
}

impl Target {
    /// Reads a `value` of a rule of this type.
    pub fn parse(kind: TargetType, value: &str) -> Result<Self, Invalid> {
        match kind {
            TargetType::Ip => value
                .parse()
                .map(|ip| Self::Ip(canonical_ip(ip)))
                .map_err(|_| Invalid::new("must be an IP address, such as `10.0.0.1`")),
            TargetType::Cidr => value.parse().map(Self::Cidr),
            TargetType::Hostname => value.parse().map(Self::Hostname),
            TargetType::HostnameWildcard => value.parse().map(Self::HostnameWildcard),
        }
    }

    /// The type.
    pub fn kind(&self) -> TargetType {
        match self {
            Self::Ip(_) => TargetType::Ip,
            Self::Cidr(_) => TargetType::Cidr,
            Self::Hostname(_) => TargetType::Hostname,
            Self::HostnameWildcard(_) => TargetType::HostnameWildcard,
        }
    }

    /// The value, as [`Target::parse`] reads it.
    pub fn value(&self) -> String {
        match self {
            Self::Ip(ip) => ip.to_string(),
            Self::Cidr(cidr) => cidr.to_string(),
            Self::Hostname(name) => name.to_string(),
            Self::HostnameWildcard(pattern) => pattern.to_string(),
        }
    }

    /// Whether it names addresses, which are compared with networks by themselves.
    pub fn is_address(&self) -> bool {
        matches!(self, Self::Ip(_) | Self::Cidr(_))
    }
}

/// What a rule lets through; a rule without one lets all three through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleProtocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
}

impl RuleProtocol {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

/// What an admin writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Unique among rules.
    pub name: ResourceName,
    /// Free text.
    pub description: Description,
    /// Where it leads.
    pub target: Target,
    /// Which ports; none: all. With ports and no protocol it means TCP and UDP.
    pub port_range: Option<PortRange>,
    /// Which protocol; none: any.
    pub protocol: Option<RuleProtocol>,
    /// The network the destination lies in. A host name says nothing of where it lies, and so
    /// needs one.
    pub network_id: Option<NetworkId>,
    /// An inactive rule lets nobody through.
    pub active: bool,
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccessRule {
    /// None before it is created.
    pub definition: Option<Definition>,
    /// Deleted ones stay deleted.
    pub deleted: bool,
    /// Users it was assigned to by themselves.
    pub users: Grants<UserId>,
    /// Groups whose members it was assigned to.
    pub groups: Grants<GroupName>,
}

/// What can be asked of an access rule.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make it known.
    Create(Definition),
    /// Replace its definition.
    Update(Definition),
    /// Let a user through.
    AssignUser(UserId),
    /// No longer let a user through.
    UnassignUser(UserId),
    /// Let a group's members through.
    AssignGroup(GroupName),
    /// No longer let a group's members through.
    UnassignGroup(GroupName),
    /// Remove it.
    Delete,
}

/// What happened to an access rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was made known.
    Created {
        /// What it lets through.
        definition: Definition,
    },
    /// Its definition was replaced.
    Updated {
        /// What it lets through now.
        definition: Definition,
    },
    /// It was assigned to a user.
    UserAssigned {
        /// Whom.
        user_id: UserId,
    },
    /// It was taken from a user.
    UserUnassigned {
        /// Whom.
        user_id: UserId,
    },
    /// It was assigned to a group's members.
    GroupAssigned {
        /// Which group.
        group: GroupName,
    },
    /// It was taken from a group's members.
    GroupUnassigned {
        /// Which group.
        group: GroupName,
    },
    /// It was removed.
    Deleted {},
}

/// Why a command on an access rule was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none with that id.
    #[error("there is no such access rule")]
    NotFound,
    /// The id is in use.
    #[error("this access rule exists already")]
    AlreadyCreated,
    /// Taken from whom it was never assigned to.
    #[error("it was never assigned to them")]
    NeverAssigned,
    /// ICMP with ports.
    #[error("must be absent for icmp, which has no ports")]
    PortsWithIcmp,
    /// A host name without a network.
    #[error("must name a network when the rule names a host: without one it could never match")]
    HostnameWithoutNetwork,
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "access_rule_not_found",
            Self::NeverAssigned => "assignment_not_found",
            Self::AlreadyCreated => "access_rule_exists",
            Self::PortsWithIcmp | Self::HostnameWithoutNetwork => "invalid_access_rule",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound | Self::NeverAssigned => RefusalKind::NotFound,
            Self::AlreadyCreated => RefusalKind::Conflict,
            Self::PortsWithIcmp | Self::HostnameWithoutNetwork => RefusalKind::Invalid,
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::PortsWithIcmp => Some("port_range"),
            Self::HostnameWithoutNetwork => Some("network_id"),
            _ => None,
        }
    }
}

impl From<NeverGiven> for Error {
    fn from(NeverGiven: NeverGiven) -> Self {
        Self::NeverAssigned
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Created { .. } => "access_rule.created",
            Self::Updated { .. } => "access_rule.updated",
            Self::UserAssigned { .. } => "access_rule.user_assigned",
            Self::UserUnassigned { .. } => "access_rule.user_unassigned",
            Self::GroupAssigned { .. } => "access_rule.group_assigned",
            Self::GroupUnassigned { .. } => "access_rule.group_unassigned",
            Self::Deleted {} => "access_rule.deleted",
        }
    }

    fn is_configuration(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::Updated { .. } | Self::Deleted {})
    }
}

aggregate!(AccessRule, "access_rule");

impl Root for AccessRule {
    fn exists(&self) -> bool {
        self.definition.is_some() && !self.deleted
    }

    fn claims(&self, _id: &str) -> Vec<Claim> {
        match &self.definition {
            Some(it) if !self.deleted => {
                vec![Claim::new(ClaimKind::AccessRuleName, it.name.as_str().to_lowercase())]
            }
            _ => Vec::new(),
        }
    }
}

impl AccessRule {
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        let takes = matches!(
            command,
            Command::UnassignUser(_) | Command::UnassignGroup(_) | Command::Delete
        );
        let event = match command {
            Command::Create(definition) => {
                if self.definition.is_some() {
                    return Err(Error::AlreadyCreated);
                }
                check(&definition)?;
                Some(Event::Created { definition })
            }
            _ if !(self.exists() || self.deleted && takes) => return Err(Error::NotFound),
            Command::Update(definition) => {
                check(&definition)?;
                let changed = self.definition.as_ref() != Some(&definition);
                changed.then_some(Event::Updated { definition })
            }
            Command::AssignUser(user_id) => {
                self.users.giving(user_id, |user_id| Event::UserAssigned { user_id })
            }
            Command::UnassignUser(user_id) => {
                self.users.taking(user_id, |user_id| Event::UserUnassigned { user_id })?
            }
            Command::AssignGroup(group) => {
                self.groups.giving(group, |group| Event::GroupAssigned { group })
            }
            Command::UnassignGroup(group) => {
                self.groups.taking(group, |group| Event::GroupUnassigned { group })?
            }
            Command::Delete => Some(Event::Deleted {}),
        };
        // A deleted one has nothing left to be taken.
        Ok(event.into_iter().filter(|_| !self.deleted).collect())
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Created { definition } | Event::Updated { definition } => {
                self.definition = Some(definition);
            }
            Event::UserAssigned { user_id } => self.users.gave(user_id),
            Event::UserUnassigned { user_id } => self.users.took(user_id),
            Event::GroupAssigned { group } => self.groups.gave(group),
            Event::GroupUnassigned { group } => self.groups.took(group),
            Event::Deleted {} => self.deleted = true,
        }
    }
}

fn check(definition: &Definition) -> Result<(), Error> {
    if definition.port_range.is_some() && definition.protocol == Some(RuleProtocol::Icmp) {
        return Err(Error::PortsWithIcmp);
    }
    if !definition.target.is_address() && definition.network_id.is_none() {
        return Err(Error::HostnameWithoutNetwork);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::samples::{after, answer, value};
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};
    use proptest::prelude::*;

    fn given(events: Vec<Event>) -> AggregateTestExecutor<AccessRule> {
        TestFramework::with(()).given(events)
    }

    fn definition() -> Definition {
        Definition {
            name: value("Wiki"),
            description: value(""),
            target: Target::Cidr(value("10.0.0.0/8")),
            port_range: Some(value("443")),
            protocol: Some(RuleProtocol::Tcp),
            network_id: None,
            active: true,
        }
    }

    fn created() -> Event {
        Event::Created { definition: definition() }
    }

    fn deleted() -> Vec<Event> {
        vec![created(), Event::Deleted {}]
    }

    #[tokio::test]
    async fn it_is_created_once() {
        let create = Command::Create(definition());
        given(vec![]).when_async(create.clone()).await.then_expect_events(vec![created()]);
        for history in [vec![created()], deleted()] {
            given(history)
                .when_async(create.clone())
                .await
                .then_expect_error(Error::AlreadyCreated);
        }
    }

    #[tokio::test]
    async fn it_is_updated_when_something_changes() {
        let changed = Definition { active: false, ..definition() };
        given(vec![created()])
            .when_async(Command::Update(changed.clone()))
            .await
            .then_expect_events(vec![Event::Updated { definition: changed }]);
        given(vec![created()])
            .when_async(Command::Update(definition()))
            .await
            .then_expect_events(vec![]);
    }

    #[tokio::test]
    async fn nothing_can_be_asked_of_none() {
        let commands = [
            (Command::Update(definition()), Error::NotFound),
            (Command::AssignUser(value("usr-ada")), Error::NotFound),
            (Command::UnassignUser(value("usr-ada")), Error::NeverAssigned),
            (Command::AssignGroup(value("engineering")), Error::NotFound),
            (Command::UnassignGroup(value("engineering")), Error::NeverAssigned),
        ];
        for (command, of_a_deleted_one) in commands {
            given(vec![]).when_async(command.clone()).await.then_expect_error(Error::NotFound);
            given(deleted()).when_async(command).await.then_expect_error(of_a_deleted_one);
        }
    }

    #[tokio::test]
    async fn a_rule_that_could_never_match_is_refused() {
        let host = |network_id| Definition {
            target: Target::Hostname(value("wiki.example.com")),
            network_id,
            ..definition()
        };
        let any_host =
            Definition { target: Target::HostnameWildcard(value("*.example.com")), ..definition() };
        let icmp = Definition { protocol: Some(RuleProtocol::Icmp), ..definition() };
        let wrong = [
            (icmp.clone(), Error::PortsWithIcmp),
            (host(None), Error::HostnameWithoutNetwork),
            (any_host, Error::HostnameWithoutNetwork),
        ];
        for (wrong, error) in wrong {
            given(vec![]).when_async(Command::Create(wrong.clone())).await.then_expect_error(error);
            given(vec![created()])
                .when_async(Command::Update(wrong))
                .await
                .then_expect_error(error);
        }
        let right = [
            Definition { port_range: None, ..icmp },
            Definition { protocol: None, ..definition() },
            host(Some(value("net-office"))),
        ];
        for definition in right {
            given(vec![])
                .when_async(Command::Create(definition.clone()))
                .await
                .then_expect_events(vec![Event::Created { definition }]);
        }
    }

    #[tokio::test]
    async fn what_is_assigned_can_be_taken_away_and_neither_twice() {
        let (user_id, group): (UserId, GroupName) = (value("usr-ada"), value("engineering"));
        let pairs = [
            (
                Command::AssignUser(user_id.clone()),
                Event::UserAssigned { user_id: user_id.clone() },
                Command::UnassignUser(user_id.clone()),
                Event::UserUnassigned { user_id },
            ),
            (
                Command::AssignGroup(group.clone()),
                Event::GroupAssigned { group: group.clone() },
                Command::UnassignGroup(group.clone()),
                Event::GroupUnassigned { group },
            ),
        ];
        for (assign, assigned, take, taken) in pairs {
            let before = vec![created()];
            let with = vec![created(), assigned.clone()];
            let without = vec![created(), assigned.clone(), taken.clone()];
            let gone = vec![created(), assigned.clone(), Event::Deleted {}];
            given(gone).when_async(take.clone()).await.then_expect_events(vec![]);
            given(before.clone())
                .when_async(take.clone())
                .await
                .then_expect_error(Error::NeverAssigned);
            given(before)
                .when_async(assign.clone())
                .await
                .then_expect_events(vec![assigned.clone()]);
            given(with.clone()).when_async(assign.clone()).await.then_expect_events(vec![]);
            given(with).when_async(take.clone()).await.then_expect_events(vec![taken]);
            given(without.clone()).when_async(take).await.then_expect_events(vec![]);
            given(without).when_async(assign).await.then_expect_events(vec![assigned]);
        }
    }

    #[tokio::test]
    async fn it_is_deleted_once_and_never_if_it_never_was() {
        given(vec![created()])
            .when_async(Command::Delete)
            .await
            .then_expect_events(vec![Event::Deleted {}]);
        given(deleted()).when_async(Command::Delete).await.then_expect_events(vec![]);
        given(vec![]).when_async(Command::Delete).await.then_expect_error(Error::NotFound);
    }

    #[test]
    fn it_claims_its_name_while_it_exists() {
        let here: AccessRule = after([created()]);
        assert_eq!(here.claims("rule-wiki"), [Claim::new(ClaimKind::AccessRuleName, "wiki")]);
        assert_eq!(after::<AccessRule>(deleted()).claims("rule-wiki"), []);
    }

    #[test]
    fn a_target_is_a_type_and_a_value() {
        let cases = [
            (TargetType::Ip, "10.0.0.1", serde_json::json!("ip")),
            (TargetType::Cidr, "10.0.0.0/8", serde_json::json!("cidr")),
            (TargetType::Hostname, "wiki.example.com", serde_json::json!("hostname")),
            (TargetType::HostnameWildcard, "*.example.com", serde_json::json!("hostname_wildcard")),
        ];
        for (kind, text, tag) in cases {
            let target = Target::parse(kind, text).unwrap();
            assert_eq!((target.kind(), target.value().as_str()), (kind, text));
            assert_eq!(tag, kind.as_str());
            let json = serde_json::to_value(&target).unwrap();
            assert_eq!(json, serde_json::json!({"type": tag, "value": text}));
        }
        assert_eq!(Target::parse(TargetType::Ip, "::ffff:10.0.0.1").unwrap().value(), "10.0.0.1");
        let wrong = [
            (TargetType::Ip, "10.0.0.0/8"),
            (TargetType::Cidr, "10.0.0.1"),
            (TargetType::Hostname, "10.0.0.1"),
            (TargetType::Hostname, "*.example.com"),
            (TargetType::HostnameWildcard, "example.com"),
        ];
        for (kind, text) in wrong {
            assert!(Target::parse(kind, text).is_err(), "{kind:?} {text}");
            let json = serde_json::json!({"type": kind, "value": text});
            assert!(serde_json::from_value::<Target>(json).is_err(), "{kind:?} {text}");
        }
    }

    #[test]
    fn protocols_are_written_as_in_json() {
        for protocol in [RuleProtocol::Tcp, RuleProtocol::Udp, RuleProtocol::Icmp] {
            assert_eq!(serde_json::to_value(protocol).unwrap(), protocol.as_str());
        }
    }

    #[test]
    fn only_what_an_admin_writes_is_configuration() {
        assert!(created().is_configuration() && Event::Deleted {}.is_configuration());
        assert!(Event::Updated { definition: definition() }.is_configuration());
        assert!(!Event::UserAssigned { user_id: value("usr-ada") }.is_configuration());
        assert!(!Event::GroupUnassigned { group: value("engineering") }.is_configuration());
    }

    #[test]
    fn refusals_are_answered_by_code_kind_and_field() {
        use RefusalKind::{Conflict, Invalid, NotFound};
        assert_eq!(answer(&Error::NotFound), ("access_rule_not_found", NotFound, None));
        assert_eq!(answer(&Error::AlreadyCreated), ("access_rule_exists", Conflict, None));
        assert_eq!(answer(&Error::NeverAssigned), ("assignment_not_found", NotFound, None));
        let (icmp, host) = (Error::PortsWithIcmp, Error::HostnameWithoutNetwork);
        assert_eq!(answer(&icmp), ("invalid_access_rule", Invalid, Some("port_range")));
        assert_eq!(answer(&host), ("invalid_access_rule", Invalid, Some("network_id")));
    }

    proptest! {
        #[test]
        fn a_target_is_read_back_from_its_value(target in arbitrary::target()) {
            prop_assert_eq!(Target::parse(target.kind(), &target.value()).unwrap(), target);
        }
    }
}
