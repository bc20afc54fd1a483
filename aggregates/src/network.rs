//! A network: addresses behind a gateway, under a name.

use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{Cidr, Description, ResourceName};
use crate::{Claim, ClaimKind};
use serde::{Deserialize, Serialize};

/// What an admin writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Definition {
    /// Unique among networks.
    pub name: ResourceName,
    /// Overlaps no other network's.
    pub cidr: Cidr,
    /// Free text.
    pub description: Description,
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Network {
    /// None before it is created.
    pub definition: Option<Definition>,
    /// Deleted ones stay deleted.
    pub deleted: bool,
}

/// What can be asked of a network.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make it known.
    Create(Definition),
    /// Replace its definition.
    Update(Definition),
    /// Remove it.
    Delete,
}

/// What happened to a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was made known.
    Created {
        /// What it is.
        definition: Definition,
    },
    /// Its definition was replaced.
    Updated {
        /// What it is now.
        definition: Definition,
    },
    /// It was removed.
    Deleted {},
}

/// Why a command on a network was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none with that id.
    #[error("there is no such network")]
    NotFound,
    /// The id is in use.
    #[error("this network exists already")]
    AlreadyCreated,
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "network_not_found",
            Self::AlreadyCreated => "network_exists",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound => RefusalKind::NotFound,
            Self::AlreadyCreated => RefusalKind::Conflict,
        }
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Created { .. } => "network.created",
            Self::Updated { .. } => "network.updated",
            Self::Deleted {} => "network.deleted",
        }
    }
}

aggregate!(Network, "network");

impl Root for Network {
    fn exists(&self) -> bool {
        self.definition.is_some() && !self.deleted
    }

    fn claims(&self, _id: &str) -> Vec<Claim> {
        match &self.definition {
            Some(it) if !self.deleted => vec![
                Claim::new(ClaimKind::NetworkName, it.name.as_str().to_lowercase()),
                Claim::new(ClaimKind::NetworkCidr, it.cidr.to_string()),
            ],
            _ => Vec::new(),
        }
    }
}

impl Network {
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        let event = match command {
            Command::Create(definition) => {
                if self.definition.is_some() {
                    return Err(Error::AlreadyCreated);
                }
                Some(Event::Created { definition })
            }
            Command::Delete if self.deleted => None,
            _ if !self.exists() => return Err(Error::NotFound),
            Command::Update(definition) => {
                let changed = self.definition.as_ref() != Some(&definition);
                changed.then_some(Event::Updated { definition })
            }
            Command::Delete => Some(Event::Deleted {}),
        };
        Ok(event.into_iter().collect())
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Created { definition } | Event::Updated { definition } => {
                self.definition = Some(definition);
            }
            Event::Deleted {} => self.deleted = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{after, answer, value};
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};

    fn given(events: Vec<Event>) -> AggregateTestExecutor<Network> {
        TestFramework::with(()).given(events)
    }

    fn definition() -> Definition {
        Definition {
            name: value("Office"),
            cidr: value("10.0.0.0/8"),
            description: value("Where we sit"),
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
        let changed = Definition { cidr: value("fd00::/8"), ..definition() };
        given(vec![created()])
            .when_async(Command::Update(changed.clone()))
            .await
            .then_expect_events(vec![Event::Updated { definition: changed }]);
        given(vec![created()])
            .when_async(Command::Update(definition()))
            .await
            .then_expect_events(vec![]);
        for history in [vec![], deleted()] {
            given(history)
                .when_async(Command::Update(definition()))
                .await
                .then_expect_error(Error::NotFound);
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
    fn it_claims_its_name_and_its_addresses_while_it_exists() {
        let here: Network = after([created()]);
        assert!(here.exists());
        assert_eq!(
            here.claims("net-office"),
            [
                Claim::new(ClaimKind::NetworkName, "office"),
                Claim::new(ClaimKind::NetworkCidr, "10.0.0.0/8"),
            ]
        );
        let gone: Network = after(deleted());
        assert!(!gone.exists());
        assert_eq!(gone.claims("net-office"), []);
    }

    #[test]
    fn every_event_is_configuration() {
        let updated = Event::Updated { definition: definition() };
        assert!([created(), updated, Event::Deleted {}].iter().all(Fact::is_configuration));
    }

    #[test]
    fn refusals_are_answered_by_code_kind_and_field() {
        use RefusalKind::{Conflict, NotFound};
        assert_eq!(answer(&Error::NotFound), ("network_not_found", NotFound, None));
        assert_eq!(answer(&Error::AlreadyCreated), ("network_exists", Conflict, None));
    }
}
