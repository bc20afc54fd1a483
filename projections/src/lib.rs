//! The read side of GateKey: SQL views folded from events, and their queries.
//!
//! One file per view holds its rows, `apply` and its queries. The log writer folds each batch into
//! the views in the transaction that appends it, so a view is never behind the log.

mod db;
mod rows;

pub use db::{Arg, Conn, Db, Dialect, Location, Readable};
pub use rows::{Key, Rows, Table, View, project};
