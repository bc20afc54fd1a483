//! Who was given a gateway or an access rule: lists that both have.

use crate::db::Db;
use crate::list::{BY_NAME, ListError, Listed, Orders, Query, Sort, Wanted, names};

/// A user whom something was given to by themselves.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct GrantedUser {
    /// `usr-…`
    pub id: String,
    /// User name.
    pub username: Option<String>,
    /// E-mail.
    pub email: Option<String>,
    /// What they are called.
    pub name: Option<String>,
    /// Whether they are enabled.
    pub active: bool,
    /// Since when.
    pub granted_at: i64,
}

/// A group that something was given to.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct GrantedGroup {
    /// Its name.
    pub name: String,
    /// How many members it has.
    pub members: i64,
    /// Since when.
    pub granted_at: i64,
}

const USER_ORDERS: [(&str, &str); 3] = [
    ("username", "u.username {} NULLS LAST"),
    ("email", "u.email {} NULLS LAST"),
    ("granted_at", "t.granted_at {}"),
];

/// What granted users can be sorted by.
pub const USER_SORT: &[&str] = &names(&USER_ORDERS);

const GROUP_ORDERS: [(&str, &str); 2] =
    [("name", "lower(t.group_name) {}"), ("granted_at", "t.granted_at {}")];

/// What granted groups can be sorted by.
pub const GROUP_SORT: &[&str] = &names(&GROUP_ORDERS);

/// Users in a table of grants, by its column of what was granted.
pub(crate) async fn users(
    db: &Db,
    wanted: &Wanted,
    table: &str,
    column: &str,
    id: &str,
) -> Result<Listed<GrantedUser>, ListError> {
    let default = Sort { by: "username", descending: false };
    Query::new(
        "u.id, u.username, u.email, u.name, u.active, t.granted_at",
        format!("{table} t JOIN users u ON u.id = t.user_id"),
    )
    .with(&format!("t.{column} = {{}}"), id)
    .and("u.deleted_at IS NULL")
    .search(&["u.username", "u.email", "u.name"], wanted.q.as_deref())
    .page(db, wanted, &Orders { by: &USER_ORDERS, default, tie: "u.id" })
    .await
}

/// Groups in a table of grants, by its column of what was granted.
pub(crate) async fn groups(
    db: &Db,
    wanted: &Wanted,
    table: &str,
    column: &str,
    id: &str,
) -> Result<Listed<GrantedGroup>, ListError> {
    Query::new(
        "t.group_name AS name, t.granted_at, \
         (SELECT COUNT(*) FROM user_groups m WHERE m.group_name = t.group_name) AS members",
        format!("{table} t"),
    )
    .with(&format!("t.{column} = {{}}"), id)
    .search(&["t.group_name"], wanted.q.as_deref())
    .page(db, wanted, &Orders { by: &GROUP_ORDERS, default: BY_NAME, tie: "t.group_name" })
    .await
}
