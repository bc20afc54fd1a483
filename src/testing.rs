//! A whole control plane in a test's own process, on a SQLite file of its own.

use crate::api::health::{Check, Health};
use crate::app::AppState;
use crate::clock::Clock;
use crate::config::{Config, Options};
use crate::entropy::Entropy;
use crate::secrets::{MasterKey, Secret};
use crate::services::{self, Background, Setup};
use metrics_exporter_prometheus::PrometheusBuilder;
use std::sync::Arc;
use tempfile::TempDir;

/// The first admin's password.
pub const ADMIN_PASSWORD: &str = "correct horse battery";

/// A control plane that lives as long as this.
pub struct TestPlane {
    /// What handlers share.
    pub state: AppState,
    /// Keeps the tasks.
    #[allow(dead_code)]
    pub background: Background,
    /// Keeps the files.
    #[allow(dead_code)]
    pub dir: TempDir,
}

/// Starts one with these settings and readiness checks, at the time of `clock`. Callers are limited
/// only where the settings say so.
pub async fn start(toml: &str, checks: Vec<Arc<dyn Check>>, clock: Clock) -> TestPlane {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup {
        database_url: format!("sqlite://{}", dir.path().join("gatekey.db").display()),
        master: MasterKey::from_bytes([7; 32]).unwrap(),
        node: "test".to_owned(),
        admin_password: Some(Secret::from(ADMIN_PASSWORD)),
        entropy: Entropy::system(clock.clone()),
        clock,
    };
    let (services, background, _) = services::start(setup, |_, _| {}).await.unwrap();
    let mut options = Options::from_toml(toml).unwrap();
    options.rate_limits.get_or_insert_with(|| "off".parse().unwrap());
    let config = Config::complete(options).unwrap();
    let metrics = PrometheusBuilder::new().build_recorder().handle();
    let state = AppState::new(config.into(), services, Health::new(checks, metrics));
    TestPlane { state, background, dir }
}
