//! Rules of the geo-fence: source addresses that people may connect from, and which people.

use crate::db::Db;
use crate::grants::{Granting, give, grant, holder_is_gone, take, thing_is_gone};
use crate::list::{BY_NAME, ListError, Listed, Orders, Query, Wanted, columns, names};
use crate::rows::{Rows, View};
use crate::table::{stamp, table};
use crate::totals::of;
use gatekey_aggregates::geo_fence_rule::{Definition, Event as RuleEvent};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded, user};

table! {
    /// A rule of the geo-fence.
    pub struct GeoFenceRuleRow: "geo_fence_rules" by [id] {
        /// `fence-…`
        id: String,
        /// Unique among those that were not deleted.
        name: String,
        /// The source addresses.
        cidr: String,
        /// Free text.
        description: String,
        /// Since when it counts for everybody; none: it does not.
        global_since: Option<i64>,
        /// When it was made known.
        created_at: i64,
        /// When an admin last changed it.
        updated_at: i64,
        /// When it was deleted.
        deleted_at: Option<i64>,
        /// Sequence of the last change by an admin.
        revision: i64,
        /// Position of the last change by an admin.
        etag: i64,
    }
}

grant! {
    /// A user whom a rule was attached to by themselves.
    GeoFenceRuleUserRow: "geo_fence_rule_users", geo_fence_rule_id to user_id
}

grant! {
    /// A group whose members a rule was attached to.
    GeoFenceRuleGroupRow: "geo_fence_rule_groups", geo_fence_rule_id to group_name
}

/// Rules of the geo-fence as what is given.
pub const GRANTING: Granting =
    Granting { things: "geo_fence_rules", kind: "geo_fence_rule", id: "geo_fence_rule_id" };

impl GeoFenceRuleRow {
    fn define(&mut self, it: &Definition) {
        self.name = it.name.to_string();
        self.cidr = it.cidr.to_string();
        self.description = it.description.to_string();
    }
}

/// The view of the geo-fence's rules.
pub struct GeoFenceRules;

impl View for GeoFenceRules {
    fn name(&self) -> &'static str {
        "geo_fence_rules"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["geo_fence_rules", "geo_fence_rule_users", "geo_fence_rule_groups"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        if matches!(recorded.event, Event::GeoFenceRule(_)) {
            rows.want::<GeoFenceRuleRow>(vec![recorded.aggregate_id.clone()]);
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        match &recorded.event {
            Event::GeoFenceRule(event) => apply(recorded, event, rows),
            Event::User(user::Event::Deleted {}) => {
                holder_is_gone::<GeoFenceRuleUserRow>(rows, &recorded.aggregate_id);
            }
            _ => {}
        }
    }
}

fn apply(recorded: &Recorded, event: &RuleEvent, rows: &mut Rows) {
    let id = &recorded.aggregate_id;
    let at = micros(recorded.recorded_at);
    let mut change = |change: &dyn Fn(&mut GeoFenceRuleRow)| {
        rows.change::<GeoFenceRuleRow>(&vec![id.clone()], |row| {
            change(row);
            stamp!(row, recorded);
        });
    };
    match event {
        RuleEvent::Created { definition } => {
            let mut row = GeoFenceRuleRow {
                id: id.clone(),
                name: String::new(),
                cidr: String::new(),
                description: String::new(),
                global_since: None,
                created_at: at,
                updated_at: at,
                deleted_at: None,
                revision: recorded.sequence,
                etag: recorded.position,
            };
            row.define(definition);
            rows.put(row);
        }
        RuleEvent::Updated { definition } => change(&|row| row.define(definition)),
        RuleEvent::GloballyAttached {} => change(&|row| row.global_since = Some(at)),
        RuleEvent::GloballyDetached {} => change(&|row| row.global_since = None),
        RuleEvent::UserAttached { user_id } => give::<GeoFenceRuleUserRow>(rows, id, user_id, at),
        RuleEvent::UserDetached { user_id } => take::<GeoFenceRuleUserRow>(rows, id, user_id),
        RuleEvent::GroupAttached { group } => give::<GeoFenceRuleGroupRow>(rows, id, group, at),
        RuleEvent::GroupDetached { group } => take::<GeoFenceRuleGroupRow>(rows, id, group),
        RuleEvent::Deleted {} => {
            change(&|row| {
                row.deleted_at = Some(at);
                row.global_since = None;
            });
            thing_is_gone::<GeoFenceRuleUserRow>(rows, id);
            thing_is_gone::<GeoFenceRuleGroupRow>(rows, id);
        }
    }
}

/// A rule, and how much it is attached to.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct GeoFenceRule {
    /// The rule.
    #[sqlx(flatten)]
    pub row: GeoFenceRuleRow,
    /// How many groups.
    pub groups: i64,
    /// How many users.
    pub users: i64,
}

const ORDERS: [(&str, &str); 3] =
    [("name", "lower(t.name) {}"), ("cidr", "t.cidr {}"), ("created_at", "t.created_at {}")];

/// What rules can be sorted by.
pub const SORT: &[&str] = &names(&ORDERS);

fn query() -> Query {
    let columns = columns::<GeoFenceRuleRow>("t");
    Query::new(
        format!(
            "{columns}, \
             (SELECT COUNT(*) FROM geo_fence_rule_groups g WHERE g.geo_fence_rule_id = t.id) AS groups, \
             (SELECT COUNT(*) FROM geo_fence_rule_users u WHERE u.geo_fence_rule_id = t.id) AS users"
        ),
        "geo_fence_rules t",
    )
}

/// The rule with this id, unless it was deleted.
pub async fn find(db: &Db, id: &str) -> Result<Option<GeoFenceRule>, sqlx::Error> {
    query().with("t.id = {}", id).and("t.deleted_at IS NULL").optional(db).await
}

/// The rule with this id, deleted or not.
pub async fn find_any(db: &Db, id: &str) -> Result<Option<GeoFenceRule>, sqlx::Error> {
    query().with("t.id = {}", id).optional(db).await
}

/// Rules; `q` looks at name, addresses and description.
pub async fn list(db: &Db, wanted: &Wanted) -> Result<Listed<GeoFenceRule>, ListError> {
    query()
        .and("t.deleted_at IS NULL")
        .totalled_as(of::GEO_FENCE_RULES)
        .search(&["t.name", "t.cidr", "t.description"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &ORDERS, default: BY_NAME, tie: "t.id" })
        .await
}

/// A rule as it is attached to something.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct AttachedRule {
    /// `fence-…`
    pub id: String,
    /// Its name.
    pub name: String,
    /// The source addresses.
    pub cidr: String,
    /// Free text.
    pub description: String,
    /// Since when.
    pub attached_at: i64,
}

const ATTACHED_ORDERS: [(&str, &str); 3] =
    [("name", "lower(t.name) {}"), ("cidr", "t.cidr {}"), ("attached_at", "attached_at {}")];

/// What attached rules can be sorted by.
pub const ATTACHED_SORT: &[&str] = &names(&ATTACHED_ORDERS);

/// What a rule can be attached to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum To<'a> {
    /// Everybody.
    All,
    /// A group's members.
    Group(&'a str),
    /// A user.
    User(&'a str),
}

/// The rules that are attached there; `q` looks at name, addresses and description.
pub async fn attached(
    db: &Db,
    to: To<'_>,
    wanted: &Wanted,
) -> Result<Listed<AttachedRule>, ListError> {
    let of = |since: &str, from: &str| {
        Query::new(format!("t.id, t.name, t.cidr, t.description, {since} AS attached_at"), from)
    };
    let query = match to {
        To::All => of("t.global_since", "geo_fence_rules t").and("t.global_since IS NOT NULL"),
        To::Group(name) => of(
            "a.granted_at",
            "geo_fence_rule_groups a JOIN geo_fence_rules t ON t.id = a.geo_fence_rule_id",
        )
        .with("a.group_name = {}", name),
        To::User(id) => of(
            "a.granted_at",
            "geo_fence_rule_users a JOIN geo_fence_rules t ON t.id = a.geo_fence_rule_id",
        )
        .with("a.user_id = {}", id),
    };
    query
        .and("t.deleted_at IS NULL")
        .search(&["t.name", "t.cidr", "t.description"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &ATTACHED_ORDERS, default: BY_NAME, tie: "t.id" })
        .await
}
