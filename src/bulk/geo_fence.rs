//! `geo_fence`: whether source addresses are looked at.

use super::kind::{Current, Kind};
use super::plan::Planner;
use super::world::World;
use crate::access::LoadError;
use crate::api::FieldError;
use gatekey_aggregates::geo_fence::{Command, GeoFence, ID, Mode, Values};

/// The geo-fence's settings. They come after its rules: a fence that is switched on before it has
/// any shuts everybody out.
pub struct TheGeoFence;

impl Kind for TheGeoFence {
    type Root = GeoFence;
    type Body = Values;
    type Definition = Values;

    const SECTION: &'static str = "geo_fence";
    const ONE: &'static str = "geo-fence";
    const SINGLE: bool = true;

    fn current(world: &World) -> Result<Vec<Current<Self>>, LoadError> {
        Ok(vec![Current::single(ID, world.now.geo_fence)])
    }

    fn is_still(values: &Values, fence: &GeoFence) -> bool {
        fence.values == *values
    }

    fn define(
        values: Values,
        _: Option<&Values>,
        _: &mut Planner<'_>,
    ) -> Result<Values, FieldError> {
        Ok(values)
    }

    /// Before its rules go.
    fn is_urgent(_: &Values, after: &Values) -> bool {
        !after.enabled || after.mode == Mode::Audit
    }

    fn configure(values: &Values) -> Command {
        Command::Change(*values)
    }
}
