//! The event log: appending, reading, following, and the command bus above them.

mod append;
mod decide;
mod writer;

pub use append::{Append, AppendError, Appended, NewEvent, SealedSecret, StreamAppend};
pub use writer::{Follower, Setup, Writer};
