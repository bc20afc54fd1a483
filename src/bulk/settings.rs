//! `settings`: what admins can change while the server runs.

use super::kind::{Current, Kind};
use super::plan::Planner;
use super::world::World;
use crate::access::LoadError;
use crate::api::FieldError;
use gatekey_aggregates::settings::{Command, ID, Settings, Values};

/// The settings.
pub struct TheSettings;

impl Kind for TheSettings {
    type Root = Settings;
    type Body = Values;
    type Definition = Values;

    const SECTION: &'static str = "settings";
    const ONE: &'static str = "settings";
    const SINGLE: bool = true;

    fn current(world: &World) -> Result<Vec<Current<Self>>, LoadError> {
        Ok(vec![Current::single(ID, world.now.settings)])
    }

    fn is_still(values: &Values, state: &Settings) -> bool {
        state.values == *values
    }

    fn define(
        values: Values,
        _: Option<&Values>,
        _: &mut Planner<'_>,
    ) -> Result<Values, FieldError> {
        Ok(values)
    }

    fn configure(values: &Values) -> Command {
        Command::Change(*values)
    }
}
