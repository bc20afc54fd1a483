//! A rule of the geo-fence: source addresses that people may connect from, and which people.

use crate::grants::{Grants, NeverGiven};
use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{Cidr, Description, GroupName, ResourceName, UserId};
use crate::{Claim, ClaimKind};
use serde::{Deserialize, Serialize};

/// What an admin writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Unique among rules of the fence.
    pub name: ResourceName,
    /// The source addresses.
    pub cidr: Cidr,
    /// Free text.
    pub description: Description,
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeoFenceRule {
    /// None before it is created.
    pub definition: Option<Definition>,
    /// Deleted ones stay deleted.
    pub deleted: bool,
    /// Whether it counts for everybody who has no rule of their own or of a group.
    pub global: Grants<()>,
    /// Groups for whose members it counts, if they have no rule of their own.
    pub groups: Grants<GroupName>,
    /// Users for whom it counts by themselves.
    pub users: Grants<UserId>,
}

/// What can be asked of a rule.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make it known.
    Create(Definition),
    /// Replace its definition.
    Update(Definition),
    /// Let it count for everybody.
    AttachGlobally,
    /// No longer let it count for everybody.
    DetachGlobally,
    /// Let it count for a group's members.
    AttachGroup(GroupName),
    /// No longer let it count for a group's members.
    DetachGroup(GroupName),
    /// Let it count for a user.
    AttachUser(UserId),
    /// No longer let it count for a user.
    DetachUser(UserId),
    /// Remove it.
    Delete,
}

/// What happened to a rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was made known.
    Created {
        /// What it lists.
        definition: Definition,
    },
    /// Its definition was replaced.
    Updated {
        /// What it lists now.
        definition: Definition,
    },
    /// It counts for everybody.
    GloballyAttached {},
    /// It no longer counts for everybody.
    GloballyDetached {},
    /// It counts for a group's members.
    GroupAttached {
        /// Which group.
        group: GroupName,
    },
    /// It no longer counts for a group's members.
    GroupDetached {
        /// Which group.
        group: GroupName,
    },
    /// It counts for a user.
    UserAttached {
        /// Whom.
        user_id: UserId,
    },
    /// It no longer counts for a user.
    UserDetached {
        /// Whom.
        user_id: UserId,
    },
    /// It was removed.
    Deleted {},
}

/// Why a command on a rule was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none with that id.
    #[error("there is no such geo-fence rule")]
    NotFound,
    /// The id is in use.
    #[error("this geo-fence rule exists already")]
    AlreadyCreated,
    /// Detached from what it was never attached to.
    #[error("it was never attached to that")]
    NeverAttached,
}

impl From<NeverGiven> for Error {
    fn from(NeverGiven: NeverGiven) -> Self {
        Self::NeverAttached
    }
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "geo_fence_rule_not_found",
            Self::AlreadyCreated => "geo_fence_rule_exists",
            Self::NeverAttached => "attachment_not_found",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound | Self::NeverAttached => RefusalKind::NotFound,
            Self::AlreadyCreated => RefusalKind::Conflict,
        }
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Created { .. } => "geo_fence_rule.created",
            Self::Updated { .. } => "geo_fence_rule.updated",
            Self::GloballyAttached {} => "geo_fence_rule.globally_attached",
            Self::GloballyDetached {} => "geo_fence_rule.globally_detached",
            Self::GroupAttached { .. } => "geo_fence_rule.group_attached",
            Self::GroupDetached { .. } => "geo_fence_rule.group_detached",
            Self::UserAttached { .. } => "geo_fence_rule.user_attached",
            Self::UserDetached { .. } => "geo_fence_rule.user_detached",
            Self::Deleted {} => "geo_fence_rule.deleted",
        }
    }

    fn is_configuration(&self) -> bool {
        matches!(self, Self::Created { .. } | Self::Updated { .. } | Self::Deleted {})
    }
}

aggregate!(GeoFenceRule, "geo_fence_rule");

impl Root for GeoFenceRule {
    fn exists(&self) -> bool {
        self.definition.is_some() && !self.deleted
    }

    fn claims(&self, _id: &str) -> Vec<Claim> {
        match &self.definition {
            Some(it) if !self.deleted => {
                vec![Claim::new(ClaimKind::GeoFenceRuleName, it.name.as_str().to_lowercase())]
            }
            _ => Vec::new(),
        }
    }
}

impl GeoFenceRule {
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        let takes = matches!(
            command,
            Command::DetachGlobally
                | Command::DetachGroup(_)
                | Command::DetachUser(_)
                | Command::Delete
        );
        let event = match command {
            Command::Create(definition) => {
                if self.definition.is_some() {
                    return Err(Error::AlreadyCreated);
                }
                Some(Event::Created { definition })
            }
            _ if !(self.exists() || self.deleted && takes) => return Err(Error::NotFound),
            Command::Update(definition) => {
                let changed = self.definition.as_ref() != Some(&definition);
                changed.then_some(Event::Updated { definition })
            }
            Command::AttachGlobally => self.global.giving((), |()| Event::GloballyAttached {}),
            Command::DetachGlobally => self.global.taking((), |()| Event::GloballyDetached {})?,
            Command::AttachGroup(group) => {
                self.groups.giving(group, |group| Event::GroupAttached { group })
            }
            Command::DetachGroup(group) => {
                self.groups.taking(group, |group| Event::GroupDetached { group })?
            }
            Command::AttachUser(user_id) => {
                self.users.giving(user_id, |user_id| Event::UserAttached { user_id })
            }
            Command::DetachUser(user_id) => {
                self.users.taking(user_id, |user_id| Event::UserDetached { user_id })?
            }
            Command::Delete => Some(Event::Deleted {}),
        };
        // A deleted one is attached to nothing.
        Ok(event.into_iter().filter(|_| !self.deleted).collect())
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Created { definition } | Event::Updated { definition } => {
                self.definition = Some(definition);
            }
            Event::GloballyAttached {} => self.global.gave(()),
            Event::GloballyDetached {} => self.global.took(()),
            Event::GroupAttached { group } => self.groups.gave(group),
            Event::GroupDetached { group } => self.groups.took(group),
            Event::UserAttached { user_id } => self.users.gave(user_id),
            Event::UserDetached { user_id } => self.users.took(user_id),
            Event::Deleted {} => self.deleted = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{after, answer, value};
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};

    fn given(events: Vec<Event>) -> AggregateTestExecutor<GeoFenceRule> {
        TestFramework::with(()).given(events)
    }

    fn definition() -> Definition {
        Definition {
            name: value("Office"),
            cidr: value("198.51.100.0/24"),
            description: value("Where we sit"),
        }
    }

    fn created() -> Event {
        Event::Created { definition: definition() }
    }

    fn deleted() -> Vec<Event> {
        vec![created(), Event::Deleted {}]
    }

    /// Each way to attach it, and the way back.
    fn attachments() -> [(Command, Event, Command, Event); 3] {
        let (user_id, group): (UserId, GroupName) = (value("usr-ada"), value("engineering"));
        [
            (
                Command::AttachGlobally,
                Event::GloballyAttached {},
                Command::DetachGlobally,
                Event::GloballyDetached {},
            ),
            (
                Command::AttachGroup(group.clone()),
                Event::GroupAttached { group: group.clone() },
                Command::DetachGroup(group.clone()),
                Event::GroupDetached { group },
            ),
            (
                Command::AttachUser(user_id.clone()),
                Event::UserAttached { user_id: user_id.clone() },
                Command::DetachUser(user_id.clone()),
                Event::UserDetached { user_id },
            ),
        ]
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
        let changed = Definition { cidr: value("2001:db8::/32"), ..definition() };
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
        let update = (Command::Update(definition()), Error::NotFound);
        let attachments = attachments().into_iter();
        let commands = attachments
            .flat_map(|(attach, _, detach, _)| {
                [(attach, Error::NotFound), (detach, Error::NeverAttached)]
            })
            .chain([update]);
        for (command, of_a_deleted_one) in commands {
            given(vec![]).when_async(command.clone()).await.then_expect_error(Error::NotFound);
            given(deleted()).when_async(command).await.then_expect_error(of_a_deleted_one);
        }
    }

    #[tokio::test]
    async fn what_is_attached_can_be_detached_and_neither_twice() {
        for (attach, attached, detach, detached) in attachments() {
            let before = vec![created()];
            let with = vec![created(), attached.clone()];
            let without = vec![created(), attached.clone(), detached.clone()];
            let gone = vec![created(), attached.clone(), Event::Deleted {}];
            given(gone).when_async(detach.clone()).await.then_expect_events(vec![]);
            given(before.clone())
                .when_async(detach.clone())
                .await
                .then_expect_error(Error::NeverAttached);
            given(before)
                .when_async(attach.clone())
                .await
                .then_expect_events(vec![attached.clone()]);
            given(with.clone()).when_async(attach.clone()).await.then_expect_events(vec![]);
            given(with).when_async(detach.clone()).await.then_expect_events(vec![detached]);
            given(without.clone()).when_async(detach).await.then_expect_events(vec![]);
            given(without).when_async(attach).await.then_expect_events(vec![attached]);
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
        let here: GeoFenceRule = after([created()]);
        assert!(here.exists());
        assert_eq!(
            here.claims("fence-office"),
            [Claim::new(ClaimKind::GeoFenceRuleName, "office")]
        );
        let gone: GeoFenceRule = after(deleted());
        assert!(!gone.exists());
        assert_eq!(gone.claims("fence-office"), []);
    }

    #[test]
    fn only_what_an_admin_writes_is_configuration() {
        let updated = Event::Updated { definition: definition() };
        assert!([created(), updated, Event::Deleted {}].iter().all(Fact::is_configuration));
        for (_, attached, _, detached) in attachments() {
            assert!(!attached.is_configuration() && !detached.is_configuration());
        }
    }

    #[test]
    fn refusals_are_answered_by_code_kind_and_field() {
        use RefusalKind::{Conflict, NotFound};
        assert_eq!(answer(&Error::NotFound), ("geo_fence_rule_not_found", NotFound, None));
        assert_eq!(answer(&Error::AlreadyCreated), ("geo_fence_rule_exists", Conflict, None));
        assert_eq!(answer(&Error::NeverAttached), ("attachment_not_found", NotFound, None));
    }
}
