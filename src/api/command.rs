//! How a command that was not carried out is answered.

use super::ApiError;
use crate::access::State;
use crate::event_log::{AppendError, CommandError, KeyringError, ReadError};
use crate::secrets::VaultError;
use gatekey_aggregates::{ClaimKind, RefusalKind};

impl From<CommandError> for ApiError {
    fn from(error: CommandError) -> Self {
        match error {
            CommandError::Refused { code, kind, field, message } => {
                let status = match kind {
                    RefusalKind::NotFound => return Self::not_found(),
                    RefusalKind::Conflict => {
                        let conflict = Self::conflict(code, sentence(&message));
                        return match field {
                            Some(field) => conflict.detail(field, message),
                            None => conflict,
                        };
                    }
                    RefusalKind::Forbidden => return Self::forbidden_as(code, sentence(&message)),
                    RefusalKind::Invalid => Self::invalid_field(field.unwrap_or("body"), message),
                };
                status.code(code)
            }
            CommandError::ChangedMeanwhile => Self::changed_meanwhile(),
            CommandError::Append(error) => refused_by_writer(error),
            CommandError::Contended => Self::unavailable("Too many changes at once: try again"),
            CommandError::Unavailable(why) => {
                tracing::warn!(why, "a command could not be written");
                Self::unavailable("The database is unavailable: try again")
            }
            CommandError::Newer(why) => {
                tracing::error!(why, "this node does not know what a newer one wrote: upgrade it");
                Self::unavailable("This node is older than what it has to read: try another")
            }
            CommandError::Broken(why) => Self::internal(why),
        }
    }
}

impl ApiError {
    /// How a command that was not carried out is answered, with what is in its way called by name.
    pub fn of_command(error: CommandError, state: &State) -> Self {
        match error {
            CommandError::Append(AppendError::Overlaps { kind, key, other, owner }) => {
                let owner = name_of(&owner, state).unwrap_or(owner);
                refused_by_writer(AppendError::Overlaps { kind, key, other, owner })
            }
            error => error.into(),
        }
    }
}

/// What a gateway, a network or a mesh hub is called, and its id.
fn name_of(id: &str, state: &State) -> Option<String> {
    let gateway = || Some(&state.gateways.get(&id.parse().ok()?)?.configuration.name);
    let network = || Some(&state.networks.get(&id.parse().ok()?)?.name);
    let hub = || Some(&state.hubs.get(&id.parse().ok()?)?.configuration.name);
    let name = gateway().or_else(network).or_else(hub)?;
    Some(format!("`{name}` ({id})"))
}

fn refused_by_writer(error: AppendError) -> ApiError {
    match error {
        AppendError::Taken { kind: ClaimKind::Authority, .. } => {
            ApiError::conflict("authority_exists", "There is a certificate authority already")
        }
        AppendError::Taken { kind, key, owner } => {
            ApiError::taken(kind.field(), format!("`{key}` is taken by {owner}"))
        }
        AppendError::Overlaps { kind, key, other, owner } => {
            ApiError::conflict("overlaps", format!("{key} overlaps {other} of {owner}"))
                .detail(kind.field(), format!("overlaps {other} of {owner}"))
        }
        AppendError::LastOne { .. } => ApiError::conflict(
            "last_admin",
            "One active admin must be left: make another one first",
        ),
        AppendError::Stale { .. } => ApiError::changed_meanwhile(),
        AppendError::KeyUsed => ApiError::in_progress(),
        AppendError::TooLarge => ApiError::invalid("The change is too large to be made at once"),
        AppendError::OtherEpoch { .. } => {
            tracing::error!(%error, "this node does not write any more: upgrade it");
            ApiError::unavailable("This node is of another version than the database: try another")
        }
        AppendError::Unavailable(why) => {
            tracing::warn!(why, "a command could not be written");
            ApiError::unavailable("The database is unavailable: try again")
        }
        AppendError::Broken(why) => ApiError::internal(why),
    }
}

fn sentence(message: &str) -> String {
    let mut chars = message.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

impl From<VaultError> for ApiError {
    fn from(error: VaultError) -> Self {
        match error {
            VaultError::Database(error) => Self::from(error),
            // It expired, or what it belonged to was deleted, a moment ago.
            VaultError::Missing(_) => Self::not_found(),
            VaultError::Unusable(_) => Self::internal(error),
        }
    }
}

impl From<ReadError> for ApiError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Database(error) | ReadError::Keys(KeyringError::Database(error)) => {
                error.into()
            }
            other => Self::internal(other),
        }
    }
}

impl From<sqlx::Error> for ApiError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            // What the database says of a statement is our fault; that it says nothing is not.
            sqlx::Error::Database(ref database)
                if database.code().is_none_or(|code| !is_passing(&code)) =>
            {
                Self::internal(error)
            }
            sqlx::Error::Decode(_)
            | sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::RowNotFound => Self::internal(error),
            _ => {
                tracing::warn!(%error, "the database could not be asked");
                Self::unavailable("The database is unavailable: try again")
            }
        }
    }
}

/// Connection lost, out of resources, shutting down (PostgreSQL, Appendix A); busy (SQLite).
fn is_passing(code: &str) -> bool {
    (code.len() == 5 && ["08", "53", "57", "58"].iter().any(|class| code.starts_with(class)))
        || ["5", "6", "10", "14"].contains(&code)
}
