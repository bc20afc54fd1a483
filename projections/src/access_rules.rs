//! Access rules: destinations that people may reach, and which people.

use crate::db::Db;
use crate::grants::{Granting, give, grant, holder_is_gone, take, thing_is_gone};
use crate::list::{BY_NAME, ListError, Listed, Orders, Query, Wanted, columns, names};
use crate::rows::{Rows, View};
use crate::table::{stamp, table};
use crate::totals::of;
use gatekey_aggregates::access_rule::{Definition, Event as RuleEvent};
use gatekey_aggregates::values::micros;
use gatekey_aggregates::{Event, Recorded, user};

table! {
    /// An access rule.
    pub struct AccessRuleRow: "access_rules" by [id] {
        /// `rule-…`
        id: String,
        /// Unique among those that were not deleted.
        name: String,
        /// Free text.
        description: String,
        /// `ip`, `cidr`, `hostname` or `hostname_wildcard`.
        target_type: String,
        /// The destination.
        value: String,
        /// Which ports; none: all.
        port_range: Option<String>,
        /// `tcp`, `udp` or `icmp`; none: any.
        protocol: Option<String>,
        /// The network the destination lies in.
        network_id: Option<String>,
        /// Whether it lets anybody through.
        active: bool,
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
    /// A user whom a rule was assigned to by themselves.
    AccessRuleUserRow: "access_rule_users", access_rule_id to user_id
}

grant! {
    /// A group whose members a rule was assigned to.
    AccessRuleGroupRow: "access_rule_groups", access_rule_id to group_name
}

/// Access rules as what is given.
pub const GRANTING: Granting =
    Granting { things: "access_rules", kind: "access_rule", id: "access_rule_id" };

impl AccessRuleRow {
    fn define(&mut self, it: &Definition) {
        self.name = it.name.to_string();
        self.description = it.description.to_string();
        it.target.kind().as_str().clone_into(&mut self.target_type);
        self.value = it.target.value();
        self.port_range = it.port_range.map(|ports| ports.to_string());
        self.protocol = it.protocol.map(|protocol| protocol.as_str().to_owned());
        self.network_id = it.network_id.as_ref().map(ToString::to_string);
        self.active = it.active;
    }
}

/// The view of access rules.
pub struct AccessRules;

impl View for AccessRules {
    fn name(&self) -> &'static str {
        "access_rules"
    }

    fn version(&self) -> i64 {
        1
    }

    fn tables(&self) -> &'static [&'static str] {
        &["access_rules", "access_rule_users", "access_rule_groups"]
    }

    fn want(&self, recorded: &Recorded, rows: &mut Rows) {
        if matches!(recorded.event, Event::AccessRule(_)) {
            rows.want::<AccessRuleRow>(vec![recorded.aggregate_id.clone()]);
        }
    }

    fn apply(&self, recorded: &Recorded, rows: &mut Rows) {
        match &recorded.event {
            Event::AccessRule(event) => apply(recorded, event, rows),
            Event::User(user::Event::Deleted {}) => {
                holder_is_gone::<AccessRuleUserRow>(rows, &recorded.aggregate_id);
            }
            _ => {}
        }
    }
}

fn apply(recorded: &Recorded, event: &RuleEvent, rows: &mut Rows) {
    let id = &recorded.aggregate_id;
    let at = micros(recorded.recorded_at);
    let mut change = |change: &dyn Fn(&mut AccessRuleRow)| {
        rows.change::<AccessRuleRow>(&vec![id.clone()], |row| {
            change(row);
            stamp!(row, recorded);
        });
    };
    match event {
        RuleEvent::Created { definition } => {
            let mut row = AccessRuleRow {
                id: id.clone(),
                name: String::new(),
                description: String::new(),
                target_type: String::new(),
                value: String::new(),
                port_range: None,
                protocol: None,
                network_id: None,
                active: false,
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
        RuleEvent::UserAssigned { user_id } => give::<AccessRuleUserRow>(rows, id, user_id, at),
        RuleEvent::UserUnassigned { user_id } => take::<AccessRuleUserRow>(rows, id, user_id),
        RuleEvent::GroupAssigned { group } => give::<AccessRuleGroupRow>(rows, id, group, at),
        RuleEvent::GroupUnassigned { group } => take::<AccessRuleGroupRow>(rows, id, group),
        RuleEvent::Deleted {} => {
            change(&|row| row.deleted_at = Some(at));
            thing_is_gone::<AccessRuleUserRow>(rows, id);
            thing_is_gone::<AccessRuleGroupRow>(rows, id);
        }
    }
}

/// A rule with its network's name.
#[derive(Clone, Debug, PartialEq, sqlx::FromRow)]
pub struct AccessRule {
    /// The rule.
    #[sqlx(flatten)]
    pub row: AccessRuleRow,
    /// What its network is called.
    pub network_name: Option<String>,
}

/// Which rules are listed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// Those of this type.
    pub target_type: Option<String>,
    /// Those for this protocol.
    pub protocol: Option<String>,
    /// Those that name this network.
    pub network_id: Option<String>,
    /// Those that let people through, or those that do not.
    pub active: Option<bool>,
    /// Those that were assigned to this user, by themselves or as a member of a group.
    pub user_id: Option<String>,
    /// Those that were assigned to this group.
    pub group: Option<String>,
}

const ORDERS: [(&str, &str); 4] = [
    ("name", "lower(t.name) {}"),
    ("type", "t.target_type {}"),
    ("value", "t.value {}"),
    ("created_at", "t.created_at {}"),
];

/// What rules can be sorted by.
pub const SORT: &[&str] = &names(&ORDERS);

fn query() -> Query {
    Query::new(
        format!("{}, n.name AS network_name", columns::<AccessRuleRow>("t")),
        "access_rules t",
    )
    .beside("LEFT JOIN networks n ON n.id = t.network_id")
}

/// The rule with this id, unless it was deleted.
pub async fn find(db: &Db, id: &str) -> Result<Option<AccessRule>, sqlx::Error> {
    query().with("t.id = {}", id).and("t.deleted_at IS NULL").optional(db).await
}

/// The rule with this id, deleted or not.
pub async fn find_any(db: &Db, id: &str) -> Result<Option<AccessRule>, sqlx::Error> {
    query().with("t.id = {}", id).optional(db).await
}

/// Rules; `q` looks at name, description and value.
pub async fn list(
    db: &Db,
    wanted: &Wanted,
    filter: &Filter,
) -> Result<Listed<AccessRule>, ListError> {
    query()
        .and("t.deleted_at IS NULL")
        .totalled_as(of::ACCESS_RULES)
        .when("t.target_type = {}", filter.target_type.clone())
        .when("t.protocol = {}", filter.protocol.clone())
        .when("t.network_id = {}", filter.network_id.clone())
        .when("t.active = {}", filter.active)
        .when(&GRANTING.to_user(), filter.user_id.clone())
        .when(&GRANTING.to_group(), filter.group.clone())
        .search(&["t.name", "t.description", "t.value"], wanted.q.as_deref())
        .page(db, wanted, &Orders { by: &ORDERS, default: BY_NAME, tie: "t.id" })
        .await
}
