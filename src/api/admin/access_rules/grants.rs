//! `/admin/access-rules/{id}/{users,groups}`: whom a rule lets through.

use crate::api::admin::grants::{self, Grantable, Kind};
use gatekey_aggregates::access_rule::{AccessRule, Command};
use gatekey_aggregates::values::{AccessRuleId, GroupName, UserId};
use gatekey_projections::{Granting, access_rules};

pub use people::{change, read};

impl Kind for AccessRule {
    type Id = AccessRuleId;
    const PATH: &'static str = "/admin/access-rules";
    const GRANTING: Granting = access_rules::GRANTING;
}

impl Grantable for AccessRule {
    const TO_USER: fn(UserId) -> Command = Command::AssignUser;
    const FROM_USER: fn(UserId) -> Command = Command::UnassignUser;
    const TO_GROUP: fn(GroupName) -> Command = Command::AssignGroup;
    const FROM_GROUP: fn(GroupName) -> Command = Command::UnassignGroup;
}

grants::people::people! {
    AccessRule (AccessRuleId) at "/admin/access-rules/{id}", tag "Access rules",
    called "an access rule", operations "assign" "unassign" "AccessRule"
}
