//! What was given to users and groups, and which networks were attached: the tables, lists and
//! conditions that gateways, access rules and mesh hubs share.

use crate::db::Db;
use crate::list::{BY_NAME, ListError, Listed, Orders, Query, Sort, Wanted, names};
use crate::rows::{Rows, Table};

/// A row that says that something was given to somebody (or attached to something).
pub(crate) trait Grant: Table {
    /// The column of what was given.
    const THING: &'static str;
    /// The column of whom it was given to.
    const HOLDER: &'static str;

    /// Given at that time.
    fn new(thing: &str, holder: String, granted_at: i64) -> Self;
    /// What was given.
    fn thing(&self) -> &str;
    /// To whom.
    fn holder(&self) -> &str;
}

/// A table of grants: what was given, to whom, since when.
macro_rules! grant {
    ($(#[$doc:meta])* $name:ident: $table:literal, $thing:ident to $holder:ident) => {
        $crate::table::table! {
            $(#[$doc])*
            pub struct $name: $table by [$thing, $holder] {
                /// What.
                $thing: String,
                /// To whom.
                $holder: String,
                /// Since when.
                granted_at: i64,
            }
        }

        impl $crate::grants::Grant for $name {
            const THING: &'static str = stringify!($thing);
            const HOLDER: &'static str = stringify!($holder);

            fn new(thing: &str, $holder: String, granted_at: i64) -> Self {
                Self { $thing: thing.to_owned(), $holder, granted_at }
            }

            fn thing(&self) -> &str {
                &self.$thing
            }

            fn holder(&self) -> &str {
                &self.$holder
            }
        }
    };
}

pub(crate) use grant;

/// It was given.
pub(crate) fn give<G: Grant>(rows: &mut Rows, thing: &str, holder: impl ToString, at: i64) {
    rows.put(G::new(thing, holder.to_string(), at));
}

/// It was taken away.
pub(crate) fn take<G: Grant>(rows: &mut Rows, thing: &str, holder: impl ToString) {
    rows.remove::<G>(vec![thing.to_owned(), holder.to_string()]);
}

/// It is gone, and so nobody has it.
pub(crate) fn thing_is_gone<G: Grant>(rows: &mut Rows, thing: &str) {
    rows.purge::<G>(G::THING, thing, G::thing);
}

/// They are gone, and so have nothing.
pub(crate) fn holder_is_gone<G: Grant>(rows: &mut Rows, holder: &str) {
    rows.purge::<G>(G::HOLDER, holder, G::holder);
}

/// A kind of thing that is given, by what its tables are called: of `gateway` they are
/// `gateway_users`, `gateway_groups` and `gateway_networks`.
#[derive(Debug)]
pub struct Granting {
    /// The table of the things.
    pub(crate) things: &'static str,
    /// What its tables begin with.
    pub(crate) kind: &'static str,
    /// The column that says which thing.
    pub(crate) id: &'static str,
}

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

/// A network that can be reached through something.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct AttachedNetwork {
    /// `net-…`
    pub id: String,
    /// Its name.
    pub name: String,
    /// Its addresses.
    pub cidr: String,
    /// Free text.
    pub description: String,
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

const NETWORK_ORDERS: [(&str, &str); 2] =
    [("name", "lower(n.name) {}"), ("attached_at", "t.granted_at {}")];

/// What attached networks can be sorted by.
pub const NETWORK_SORT: &[&str] = &names(&NETWORK_ORDERS);

impl Granting {
    fn its_id(&self) -> String {
        format!("t.{} = {{}}", self.id)
    }

    /// Whether there is one with this id now.
    pub async fn exists(&self, db: &Db, id: &str) -> Result<bool, sqlx::Error> {
        let found: Option<(i64,)> = Query::new("CAST(1 AS BIGINT)", format!("{} t", self.things))
            .with("t.id = {}", id)
            .and("t.deleted_at IS NULL")
            .optional(db)
            .await?;
        Ok(found.is_some())
    }

    /// Users to whom it was given by themselves; `q` looks at user name, e-mail and name.
    pub async fn users(
        &self,
        db: &Db,
        id: &str,
        wanted: &Wanted,
    ) -> Result<Listed<GrantedUser>, ListError> {
        let default = Sort { by: "username", descending: false };
        Query::new(
            "u.id, u.username, u.email, u.name, u.active, t.granted_at",
            format!("{}_users t JOIN users u ON u.id = t.user_id", self.kind),
        )
        .with(&self.its_id(), id)
        .and("u.deleted_at IS NULL")
        .search(&["u.username", "u.email", "u.name"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &USER_ORDERS, default, tie: "u.id" })
        .await
    }

    /// Groups to whose members it was given.
    pub async fn groups(
        &self,
        db: &Db,
        id: &str,
        wanted: &Wanted,
    ) -> Result<Listed<GrantedGroup>, ListError> {
        Query::new(
            "t.group_name AS name, t.granted_at, \
             (SELECT COUNT(*) FROM user_groups m WHERE m.group_name = t.group_name) AS members",
            format!("{}_groups t", self.kind),
        )
        .with(&self.its_id(), id)
        .search(&["t.group_name"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &GROUP_ORDERS, default: BY_NAME, tie: "t.group_name" })
        .await
    }

    /// Networks that can be reached through it; `q` looks at name, addresses and description.
    pub async fn networks(
        &self,
        db: &Db,
        id: &str,
        wanted: &Wanted,
    ) -> Result<Listed<AttachedNetwork>, ListError> {
        Query::new(
            "n.id, n.name, n.cidr, n.description, t.granted_at",
            format!("{}_networks t JOIN networks n ON n.id = t.network_id", self.kind),
        )
        .with(&self.its_id(), id)
        .and("n.deleted_at IS NULL")
        .search(&["n.name", "n.cidr", "n.description"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &NETWORK_ORDERS, default: BY_NAME, tie: "n.id" })
        .await
    }

    /// That the thing `t` was given to the user `{}`, by themselves or as a member of a group.
    pub(crate) fn to_user(&self) -> String {
        let Self { kind, id, .. } = self;
        format!(
            "EXISTS (SELECT 1 FROM {kind}_users a WHERE a.{id} = t.id AND a.user_id = {{}}) \
             OR EXISTS (SELECT 1 FROM {kind}_groups a \
               JOIN user_groups m ON m.group_name = a.group_name \
               WHERE a.{id} = t.id AND m.user_id = {{}})"
        )
    }

    /// That the thing `t` was given to the group `{}`.
    pub(crate) fn to_group(&self) -> String {
        self.has("groups", "group_name")
    }

    /// That the network `{}` can be reached through the thing `t`.
    pub(crate) fn to_network(&self) -> String {
        self.has("networks", "network_id")
    }

    /// A query for the ids of what was given to the user `$1`, by themselves or as a member of a group.
    pub(crate) fn ids_of_user(&self) -> String {
        let kind = self.kind;
        format!(
            "SELECT {kind}_id FROM {kind}_users WHERE user_id = $1 \
             UNION SELECT a.{kind}_id FROM user_groups m \
               JOIN {kind}_groups a ON a.group_name = m.group_name WHERE m.user_id = $1"
        )
    }

    /// A query for the ids of what was given to the group `$1`.
    pub(crate) fn ids_of_group(&self) -> String {
        format!("SELECT {0}_id FROM {0}_groups WHERE group_name = $1", self.kind)
    }

    /// A query for the ids of that through which the network `$1` can be reached.
    pub(crate) fn ids_of_network(&self) -> String {
        format!("SELECT {0}_id FROM {0}_networks WHERE network_id = $1", self.kind)
    }

    fn has(&self, table: &str, column: &str) -> String {
        let Self { kind, id, .. } = self;
        format!("EXISTS (SELECT 1 FROM {kind}_{table} a WHERE a.{id} = t.id AND a.{column} = {{}})")
    }
}
