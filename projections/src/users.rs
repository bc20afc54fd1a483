//! Users: who they are, what they may do, and the groups they are in.

use crate::db::Db;
use crate::list::{BY_NAME, ListError, Listed, Orders, Query, Sort, Wanted, columns, names};
use crate::rows::{Rows, View};
use crate::search::USERS;
use crate::table::{stamp, table};
use crate::totals::of;
use gatekey_aggregates::user::{Event as UserEvent, Profile};
use gatekey_aggregates::values::{GroupName, micros};
use gatekey_aggregates::{Event, Recorded, login};
use std::collections::{BTreeMap, BTreeSet};

table! {
    /// A user.
    pub struct UserRow: "users" by [id] {
        /// `usr-…`
        id: String,
        /// Lower case, unique among those that were not deleted. None: erased.
        username: Option<String>,
        /// Lower case, unique among those that were not deleted. None: erased.
        email: Option<String>,
        /// What they are called.
        name: Option<String>,
        /// `member`, `auditor` or `admin`.
        role: String,
        /// Not disabled.
        active: bool,
        /// Where their password's hash is kept; none: single sign-on only.
        password: Option<String>,
        /// Whether the password is good for nothing but changing it.
        must_change_password: bool,
        /// When they last signed in.
        last_login_at: Option<i64>,
        /// Position of the last event that ended all of their logins.
        signed_out: i64,
        /// When they were made known.
        created_at: i64,
        /// When an admin, or single sign-on, last changed them.
        updated_at: i64,
        /// When they were deleted.
        deleted_at: Option<i64>,
        /// Sequence of the last change by an admin.
        revision: i64,
        /// Position of the last change by an admin.
        etag: i64,
        /// Position of their beginning: by it the search index knows them.
        number: i64,
    }
}

table! {
    /// A member of a group.
    pub struct UserGroupRow: "user_groups" by [user_id, group_name] {
        /// Who.
        user_id: String,
        /// Which group.
        group_name: String,
    }
}

impl UserRow {
    fn describe(&mut self, profile: &Profile) {
        self.username = profile.username.open().map(ToString::to_string);
        self.email = profile.email.open().map(ToString::to_string);
        self.name = profile.name.as_ref().and_then(|it| it.open()).map(ToString::to_string);
    }
}

/// The view of users.
pub struct Users;

impl View for Users {
    fn name(&self) -> &'static str {
        "users"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["users", "user_groups"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        match &recorded.event {
            Event::User(_) => rows.want::<UserRow>(vec![recorded.aggregate_id.clone()]),
            Event::Login(login::Event::Began(beginning)) => {
                rows.want::<UserRow>(vec![beginning.user_id.to_string()]);
            }
            _ => {}
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        match &recorded.event {
            Event::User(event) => apply(recorded, event, rows),
            Event::Login(login::Event::Began(beginning)) => {
                rows.change::<UserRow>(&vec![beginning.user_id.to_string()], |row| {
                    row.last_login_at = Some(micros(recorded.recorded_at));
                });
            }
            _ => {}
        }
    }
}

fn apply(recorded: &Recorded, event: &UserEvent, rows: &mut Rows) {
    let id = &recorded.aggregate_id;
    let at = micros(recorded.recorded_at);
    let mut change = |change: &dyn Fn(&mut UserRow)| {
        rows.change::<UserRow>(&vec![id.clone()], |row| {
            change(row);
            stamp!(row, recorded);
        });
    };
    match event {
        UserEvent::Created { profile, role, groups, password, must_change_password } => {
            let mut row = UserRow {
                id: id.clone(),
                username: None,
                email: None,
                name: None,
                role: role.as_str().to_owned(),
                active: true,
                password: password.as_ref().map(ToString::to_string),
                must_change_password: *must_change_password,
                last_login_at: None,
                signed_out: recorded.position,
                created_at: at,
                updated_at: at,
                deleted_at: None,
                revision: recorded.sequence,
                etag: recorded.position,
                number: recorded.position,
            };
            row.describe(profile);
            rows.put(row);
            put_groups(id, groups, rows);
        }
        UserEvent::Updated { profile } => change(&|row| row.describe(profile)),
        UserEvent::RoleChanged { role } => change(&|row| {
            role.as_str().clone_into(&mut row.role);
            row.signed_out = recorded.position;
        }),
        UserEvent::GroupsChanged { groups } => {
            change(&|_| {});
            put_groups(id, groups, rows);
        }
        UserEvent::PasswordChanged { password, must_change_password } => change(&|row| {
            row.password = Some(password.to_string());
            row.must_change_password = *must_change_password;
            row.signed_out = recorded.position;
        }),
        UserEvent::Disabled {} => change(&|row| {
            row.active = false;
            row.signed_out = recorded.position;
        }),
        UserEvent::Enabled {} => change(&|row| row.active = true),
        UserEvent::ApiKeyCreated { .. } | UserEvent::ApiKeyRevoked { .. } => {}
        UserEvent::Deleted {} => {
            change(&|row| {
                row.deleted_at = Some(at);
                row.signed_out = recorded.position;
            });
            put_groups(id, &BTreeSet::new(), rows);
        }
    }
}

/// The groups they are in: these, and no others.
fn put_groups(id: &str, groups: &BTreeSet<GroupName>, rows: &mut Rows) {
    rows.purge::<UserGroupRow>("user_id", id, |row| &row.user_id);
    for group in groups {
        rows.put(UserGroupRow { user_id: id.to_owned(), group_name: group.to_string() });
    }
}

/// A user with their groups.
#[derive(Clone, Debug, PartialEq)]
pub struct User {
    /// The user.
    pub row: UserRow,
    /// The groups they are in, in order.
    pub groups: Vec<String>,
}

/// Which users are listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Those with this role.
    pub role: Option<String>,
    /// Those who are enabled, or those who are not.
    pub active: Option<bool>,
    /// The members of this group.
    pub group: Option<String>,
}

const ORDERS: [(&str, &str); 6] = [
    ("username", "t.username {} NULLS LAST"),
    ("email", "t.email {} NULLS LAST"),
    ("name", "lower(t.name) {} NULLS LAST"),
    ("role", "t.role {}"),
    ("created_at", "t.created_at {}"),
    ("last_login_at", "t.last_login_at {} NULLS LAST"),
];

/// What users can be sorted by.
pub const SORT: &[&str] = &names(&ORDERS);

fn query() -> Query {
    Query::new(columns::<UserRow>("t"), "users t")
}

async fn with_groups(db: &Db, rows: Vec<UserRow>) -> Result<Vec<User>, sqlx::Error> {
    let ids: Vec<[&str; 1]> = rows.iter().map(|row| [row.id.as_str()]).collect();
    let ids = serde_json::to_string(&ids).map_err(|error| sqlx::Error::Encode(error.into()))?;
    let sql = format!(
        "SELECT m.user_id, m.group_name FROM {} JOIN user_groups m ON m.user_id = k.value->>0 \
         ORDER BY m.user_id, m.group_name",
        db.dialect().each("$1", "k")
    );
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in db.all::<UserGroupRow>(&sql, &[ids.into()]).await? {
        groups.entry(row.user_id).or_default().push(row.group_name);
    }
    let of = |row: UserRow| User { groups: groups.remove(&row.id).unwrap_or_default(), row };
    Ok(rows.into_iter().map(of).collect())
}

async fn one(db: &Db, query: Query) -> Result<Option<User>, sqlx::Error> {
    let row = query.optional(db).await?;
    Ok(with_groups(db, row.into_iter().collect()).await?.pop())
}

/// The user with this id, unless they were deleted.
pub async fn find(db: &Db, id: &str) -> Result<Option<User>, sqlx::Error> {
    one(db, query().with("t.id = {}", id).and("t.deleted_at IS NULL")).await
}

/// The user with this id, deleted or not.
pub async fn find_any(db: &Db, id: &str) -> Result<Option<User>, sqlx::Error> {
    one(db, query().with("t.id = {}", id)).await
}

/// The user with this user name or e-mail, unless they were deleted. A user name holds no `@`, so
/// the two can't be taken for each other.
pub async fn by_name_or_email(db: &Db, text: &str) -> Result<Option<User>, sqlx::Error> {
    let column = if text.contains('@') { "t.email = {}" } else { "t.username = {}" };
    one(db, query().with(column, text.to_lowercase()).and("t.deleted_at IS NULL")).await
}

/// Users; `q` looks at user name, e-mail and name.
pub async fn list(db: &Db, wanted: &Wanted, filter: &Filter) -> Result<Listed<User>, ListError> {
    let default = Sort { by: "username", descending: false };
    let mut listed = query()
        .and("t.deleted_at IS NULL")
        .totalled_as(of::USERS)
        .when("t.role = {}", filter.role.clone())
        .when_true("t.active", filter.active)
        .when_few(
            db,
            "EXISTS (SELECT 1 FROM user_groups m WHERE m.user_id = t.id AND m.group_name = {})",
            "SELECT user_id FROM user_groups WHERE group_name = $1",
            filter.group.clone(),
        )
        .await?
        .searched(db, &USERS, &["t.username", "t.email", "t.name"], wanted.q.as_deref())
        .await?
        .page(db, wanted, &Orders { by: &ORDERS, default, tie: "t.id" })
        .await?;
    let rows = with_groups(db, std::mem::take(&mut listed.rows)).await?;
    Ok(listed.with_rows(rows))
}

/// A group that somebody is in, or that something was given to.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// How many members it has.
    pub members: i64,
    /// How many gateways were granted to it.
    pub gateways: i64,
    /// How many access rules were assigned to it.
    pub access_rules: i64,
    /// How many rules of the geo-fence were attached to it.
    pub geo_fence_rules: i64,
    /// How many mesh hubs were granted to it.
    pub mesh_hubs: i64,
}

const GROUP_ORDERS: [(&str, &str); 2] = [("name", "lower(t.name) {}"), ("members", "members {}")];

/// What groups can be sorted by.
pub const GROUP_SORT: &[&str] = &names(&GROUP_ORDERS);

fn group_query() -> Query {
    Query::new(
        "t.name, \
         (SELECT COUNT(*) FROM user_groups m WHERE m.group_name = t.name) AS members, \
         (SELECT COUNT(*) FROM gateway_groups g WHERE g.group_name = t.name) AS gateways, \
         (SELECT COUNT(*) FROM access_rule_groups r WHERE r.group_name = t.name) AS access_rules, \
         (SELECT COUNT(*) FROM geo_fence_rule_groups f WHERE f.group_name = t.name) \
           AS geo_fence_rules, \
         (SELECT COUNT(*) FROM mesh_hub_groups h WHERE h.group_name = t.name) AS mesh_hubs",
        "(SELECT group_name AS name FROM user_groups \
          UNION SELECT group_name FROM gateway_groups \
          UNION SELECT group_name FROM access_rule_groups \
          UNION SELECT group_name FROM geo_fence_rule_groups \
          UNION SELECT group_name FROM mesh_hub_groups) t",
    )
}

/// Every group that is known.
pub async fn groups(db: &Db, wanted: &Wanted) -> Result<Listed<Group>, ListError> {
    group_query()
        .search(&["t.name"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &GROUP_ORDERS, default: BY_NAME, tie: "t.name" })
        .await
}

/// The group of this name, if it is known.
pub async fn group(db: &Db, name: &str) -> Result<Option<Group>, sqlx::Error> {
    group_query().with("t.name = {}", name).optional(db).await
}
