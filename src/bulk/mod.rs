//! The configuration as one file, for an admin to keep in git: written from what is there, and made
//! true again by the same commands that the API gives.
//!
//! What a kind of thing must say of itself to be in the file is [`Kind`]: one file here for each.
//! People, passwords, tokens, certificates and what machines report are not in it; users are named,
//! and must be there.
//!
//! ```text
//!  file ──► document ──► kind: compare with the world ──► plan ──► carry out ──► command bus
//! ```

mod access_rules;
mod carry_out;
mod claims;
mod document;
mod gateways;
mod geo_fence;
mod geo_fence_rules;
mod kind;
mod networks;
mod plan;
mod settings;
mod world;

pub use carry_out::{Done, Stopped};
pub use document::{Fault, Out};
pub use kind::{Current, Kind, List, Of, Section};
pub use plan::{Means, Plan, PlanError, Planner, Token};
pub use world::World;

use crate::access::LoadError;
use gatekey_projections::Db;

/// What a file begins with.
const HEADER: &str = "\
# The configuration of GateKey, without people and secrets.
# `gatekey-server import` makes it so; `gatekey-server import --help` says how.
";

/// The kinds, in the order in which they stand in a file. What one names stands before it.
pub fn sections() -> Vec<&'static dyn Section> {
    vec![
        &settings::TheSettings,
        &networks::Networks,
        &gateways::Gateways,
        &access_rules::AccessRules,
        &geo_fence_rules::GeoFenceRules,
        &geo_fence::TheGeoFence,
    ]
}

/// A configuration as a file.
pub struct Export {
    /// The file.
    pub yaml: String,
    /// What could not be put into it, and why.
    pub left_out: Vec<String>,
}

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The views can't be read.
    #[error(transparent)]
    Views(#[from] LoadError),
    /// Our own fault.
    #[error("the configuration can't be written as YAML: {0}")]
    Yaml(String),
}

/// Writes all that is configured. The same configuration gives the same text.
pub async fn export(db: &Db) -> Result<Export, ExportError> {
    let world = World::read(db).await?;
    let mut file = vec![("version".to_owned(), Out::Value(1.into()))];
    for section in sections() {
        file.push((section.name().to_owned(), section.export(&world)?));
    }
    let yaml = Out::Map(file).yaml().map_err(ExportError::Yaml)?;
    let left_out = access_rules::left_out(&world)?;
    Ok(Export { yaml: format!("{HEADER}{yaml}"), left_out })
}

/// What makes a file true.
pub async fn plan(means: Means<'_>, yaml: &str, prune: bool) -> Result<Plan, PlanError> {
    Plan::make(means, yaml, prune, &sections()).await
}
