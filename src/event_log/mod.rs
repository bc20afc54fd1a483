//! The event log: appending, reading, following, and the command bus above them.

mod append;
mod bus;
mod decide;
mod follow;
mod keyring;
mod migrate;
mod open;
mod reader;
mod rebuild;
mod recent;
mod sealing;
mod statements;
mod store;
mod upcast;
mod writer;

pub use append::{
    Answering, Append, AppendError, Appended, NewEvent, RequestKey, SealedSecret, StreamAppend,
};
pub use bus::{Bus, CommandError, Outcome, Request};
pub use follow::{Subscription, listen};
pub use keyring::{Keyring, KeyringError};
pub use migrate::{EPOCH, FileLock, MigrationError, lock_file, migrate};
pub use open::{OpenError, Opened, Options, Running, attach, open};
pub use reader::{ReadError, Reader, StoredEvent, Unreadable};
pub use rebuild::{RebuildError, rebuild, refresh};
pub use store::{LoadError, Loaded, Store};
pub use upcast::{Upcasters, VersionError};
pub use writer::{Follower, Setup, Writer};
