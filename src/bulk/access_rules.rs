//! `access_rules`: destinations that people may reach.

use super::document::NOT_A_TEXT;
use super::kind::{Current, Kind, List, Of};
use super::plan::{Made, PlanError, Planner, plain};
use super::world::{Names, World};
use crate::access::{LoadError, rule_definition};
use crate::api::FieldError;
use crate::api::admin::access_rules::{AccessRuleRequest, within};
use gatekey_aggregates::access_rule::{AccessRule, Command, Definition};
use gatekey_aggregates::values::{AccessRuleId, NetworkId};
use serde_json::{Map, Value};

/// Access rules.
pub struct AccessRules;

/// The field that names a network, in a file and in the API.
const NETWORK: &str = "network";
const NETWORK_ID: &str = "network_id";
/// What people write as a number.
const PORT_RANGE: &str = "port_range";

impl Kind for AccessRules {
    type Root = AccessRule;
    type Body = AccessRuleRequest;
    type Definition = Definition;

    const SECTION: &'static str = "access_rules";
    const ONE: &'static str = "access rule";
    const ALIASES: &'static [(&'static str, &'static str)] = &[(NETWORK_ID, NETWORK)];

    fn current(world: &World) -> Result<Vec<Current<Self>>, LoadError> {
        let now = &world.now;
        let users = now.access_rule_users.iter().map(|it| (&it.access_rule_id, &it.user_id));
        let groups = now.access_rule_groups.iter().map(|it| (&it.access_rule_id, &it.group_name));
        let (mut users, mut groups) = (world.users(users), world.groups(groups));
        let rules = now.access_rules.iter().map(|row| {
            Ok(Current {
                id: row.id.clone(),
                revision: Some(row.revision),
                definition: rule_definition(row)?,
                lists: vec![users.take(&row.id), groups.take(&row.id)],
                secret: None,
            })
        });
        rules.collect()
    }

    fn name(definition: &Definition) -> &str {
        definition.name.as_str()
    }

    fn state(definition: &Definition) -> AccessRule {
        AccessRule { definition: Some(definition.clone()), ..AccessRule::default() }
    }

    fn can_be_written(definition: &Definition, names: &Names) -> bool {
        // One that names a network which is gone leads nowhere. Without that name it would lead to
        // wherever its addresses are.
        definition.network_id.as_ref().is_none_or(|id| names.network_named(id).is_some())
    }

    fn lists() -> Vec<List<AccessRule>> {
        vec![
            List { name: "users", of: Of::Users(Command::AssignUser, Command::UnassignUser) },
            List { name: "groups", of: Of::Groups(Command::AssignGroup, Command::UnassignGroup) },
        ]
    }

    fn from_file(fields: &mut Map<String, Value>, planner: &Planner<'_>) -> Result<(), FieldError> {
        if let Some(port @ Value::Number(_)) = fields.get_mut(PORT_RANGE) {
            *port = port.to_string().into();
        }
        let named = match fields.remove(NETWORK) {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::String(name)) => match planner.names.network(&name) {
                Ok(network) => Ok(network.id.to_string()),
                Err(wrong) => Err(format!("`{name}` {wrong}")),
            },
            Some(_) => Err(NOT_A_TEXT.to_owned()),
        };
        let wrong = |message| FieldError { field: NETWORK.to_owned(), message };
        fields.insert(NETWORK_ID.to_owned(), named.map_err(wrong)?.into());
        Ok(())
    }

    fn to_file(fields: &mut Map<String, Value>, names: &Names) {
        if let Some(Value::Object(target)) = fields.remove("target") {
            fields.extend(target);
        }
        if let Some(Value::String(id)) = fields.remove(NETWORK_ID) {
            let id = id.parse::<NetworkId>().ok();
            let name = id.and_then(|id| names.network_named(&id).map(ToOwned::to_owned));
            fields.insert(NETWORK.to_owned(), name.into());
        }
    }

    fn define(
        body: AccessRuleRequest,
        _: Option<&Definition>,
        _: &mut Planner<'_>,
    ) -> Result<Definition, FieldError> {
        body.parsed()
    }

    fn check(definition: &Definition, planner: &Planner<'_>) -> Result<(), FieldError> {
        let network = definition.network_id.as_ref();
        let network = network.and_then(|id| planner.names.network_by_id(id));
        network.map_or(Ok(()), |it| within(&definition.target, &it.cidr))
    }

    fn needs(definition: &Definition) -> Vec<String> {
        definition.network_id.iter().map(ToString::to_string).collect()
    }

    fn create(
        definition: &Definition,
        planner: &Planner<'_>,
    ) -> Result<Made<AccessRule>, PlanError> {
        let id: AccessRuleId = planner.means.entropy.id()?;
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

/// What to say of the rules that an export leaves out.
pub(super) fn left_out(world: &World) -> Result<Vec<String>, LoadError> {
    let rules = AccessRules::current(world)?.into_iter().map(|it| it.definition);
    let dead = rules.filter(|it| !AccessRules::can_be_written(it, &world.names));
    let said = |it: Definition| {
        let name = plain(&it.name.as_str().into());
        format!("access rule {name}: its network was deleted, so that it leads nowhere")
    };
    let mut said: Vec<String> = dead.map(said).collect();
    said.sort();
    Ok(said)
}
