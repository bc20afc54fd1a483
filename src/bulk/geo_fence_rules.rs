//! `geo_fence_rules`: source addresses that people may connect from.

use super::kind::{Current, Kind, List, Of};
use super::plan::{Made, PlanError, Planner};
use super::world::World;
use crate::access::{LoadError, fence_definition};
use crate::api::FieldError;
use crate::api::admin::geo_fence::rules::GeoFenceRuleRequest;
use gatekey_aggregates::geo_fence_rule::{Command, Definition, GeoFenceRule};
use gatekey_aggregates::values::GeoFenceRuleId;

/// Rules of the geo-fence.
pub struct GeoFenceRules;

impl Kind for GeoFenceRules {
    type Root = GeoFenceRule;
    type Body = GeoFenceRuleRequest;
    type Definition = Definition;

    const SECTION: &'static str = "geo_fence_rules";
    const ONE: &'static str = "geo-fence rule";

    fn current(world: &World) -> Result<Vec<Current<Self>>, LoadError> {
        let now = &world.now;
        let users = now.geo_fence_rule_users.iter().map(|it| (&it.geo_fence_rule_id, &it.user_id));
        let groups =
            now.geo_fence_rule_groups.iter().map(|it| (&it.geo_fence_rule_id, &it.group_name));
        let (mut users, mut groups) = (world.users(users), world.groups(groups));
        let rules = now.geo_fence_rules.iter().map(|row| {
            let global = List::<GeoFenceRule>::everybody(row.global_since.is_some());
            Ok(Current {
                id: row.id.clone(),
                revision: Some(row.revision),
                definition: fence_definition(row)?,
                lists: vec![global, users.take(&row.id), groups.take(&row.id)],
                secret: None,
            })
        });
        rules.collect()
    }

    fn name(definition: &Definition) -> &str {
        definition.name.as_str()
    }

    fn state(definition: &Definition) -> GeoFenceRule {
        GeoFenceRule { definition: Some(definition.clone()), ..GeoFenceRule::default() }
    }

    fn lists() -> Vec<List<GeoFenceRule>> {
        vec![
            List {
                name: "global",
                of: Of::Everybody(|| Command::AttachGlobally, || Command::DetachGlobally),
            },
            List { name: "users", of: Of::Users(Command::AttachUser, Command::DetachUser) },
            List { name: "groups", of: Of::Groups(Command::AttachGroup, Command::DetachGroup) },
        ]
    }

    fn define(
        body: GeoFenceRuleRequest,
        _: Option<&Definition>,
        _: &mut Planner<'_>,
    ) -> Result<Definition, FieldError> {
        Ok(body.into())
    }

    fn create(
        definition: &Definition,
        planner: &Planner<'_>,
    ) -> Result<Made<GeoFenceRule>, PlanError> {
        let id: GeoFenceRuleId = planner.means.entropy.id()?;
        let command = Command::Create(definition.clone());
        Ok(Made { id: id.to_string(), command, secret: None, token: None })
    }

    fn configure(definition: &Definition) -> Command {
        Command::Update(definition.clone())
    }

    fn delete() -> Option<Command> {
        Some(Command::Delete)
    }
}
