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
