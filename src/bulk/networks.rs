//! `networks`: addresses behind gateways, under a name.

use super::kind::{Current, Kind};
use super::plan::{Made, PlanError, Planner};
use super::world::{KnownNetwork, World};
use crate::access::LoadError;
use crate::api::FieldError;
use crate::api::admin::networks::NetworkRequest;
use gatekey_aggregates::network::{Command, Definition, Network};
use gatekey_aggregates::values::NetworkId;

/// Networks.
pub struct Networks;

impl Kind for Networks {
    type Root = Network;
    type Body = NetworkRequest;
    type Definition = Definition;

    const SECTION: &'static str = "networks";
    const ONE: &'static str = "network";

    fn current(world: &World) -> Result<Vec<Current<Self>>, LoadError> {
        let networks = world.now.networks.iter().map(|row| {
            let definition = Definition {
                name: LoadError::read("networks", &row.id, &row.name)?,
                cidr: LoadError::read("networks", &row.id, &row.cidr)?,
                description: LoadError::read("networks", &row.id, &row.description)?,
            };
            Ok(Current {
                id: row.id.clone(),
                revision: Some(row.revision),
                definition,
                lists: Vec::new(),
                secret: None,
            })
        });
        networks.collect()
    }

    fn name(definition: &Definition) -> &str {
        definition.name.as_str()
    }

    fn state(definition: &Definition) -> Network {
        Network { definition: Some(definition.clone()), deleted: false }
    }

    fn define(
        body: NetworkRequest,
        _: Option<&Definition>,
        _: &mut Planner<'_>,
    ) -> Result<Definition, FieldError> {
        Ok(body.into())
    }

    fn create(definition: &Definition, planner: &Planner<'_>) -> Result<Made<Network>, PlanError> {
        let id: NetworkId = planner.means.entropy.id()?;
        let command = Command::Create(definition.clone());
        Ok(Made { id: id.to_string(), command, secret: None, token: None })
    }

    fn configure(definition: &Definition) -> Command {
        Command::Update(definition.clone())
    }

    fn delete() -> Option<Command> {
        Some(Command::Delete)
    }

    fn arrives(id: &str, definition: &Definition, planner: &mut Planner<'_>) {
        if let Ok(id) = id.parse() {
            let Definition { name, cidr, .. } = definition;
            planner.names.add_network(KnownNetwork { id, name: name.to_string(), cidr: *cidr });
        }
    }

    fn leaves(definition: &Definition, planner: &mut Planner<'_>) {
        planner.names.remove_network(definition.name.as_str());
    }
}
