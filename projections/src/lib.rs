//! The read side of GateKey: SQL views folded from events, and their queries.
//!
//! One file per view holds its rows, `apply` and its queries. The log writer folds each batch into
//! the views in the transaction that appends it, so a view is never behind the log.

pub mod access_rules;
pub mod api_keys;
pub mod audit;
pub mod authorities;
pub mod certificates;
pub mod connections;
mod db;
pub mod gateways;
pub mod geo_fence;
pub mod geo_fence_rules;
mod grants;
pub mod index;
mod list;
pub mod logins;
pub mod mesh_hubs;
pub mod networks;
mod rows;
mod search;
pub mod settings;
mod table;
pub mod totals;
pub mod users;
mod views;

pub use db::{Arg, Conn, Db, Dialect, Location, Purpose, Readable, Statements, Turn};
pub use grants::{
    AttachedNetwork, GROUP_SORT, GrantedGroup, GrantedUser, Granting, NETWORK_SORT, USER_SORT,
};
pub use list::{Cursor, ListError, Listed, Sort, Wanted};
pub use rows::{Key, Rows, Table, View, fold, fresh, project};
pub use table::Texts;
pub use views::all as all_views;
