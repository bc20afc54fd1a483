//! `serve`: puts the server together and runs it until it is told to stop.

use std::error::Error;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use crate::api::health::{self, Check, Health};
use crate::app::{self, AppState};
use crate::clock::Clock;
use crate::config::{Config, unknown_variables};
use crate::entropy::Entropy;
use crate::first_start::ADMIN;
use crate::secrets::MasterKey;
use crate::services::{self, Setup};
use crate::{readiness, server};

use super::first_password;

/// How often what was measured is folded into histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Runs the server.
pub async fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    for name in unknown_variables() {
        tracing::warn!(name, "this variable means nothing to GateKey: is it misspelt?");
    }
    let config = Arc::new(config);
    let metrics = health::install_metrics()?;
    let (services, background, made_password) =
        services::start(setup(&config)?, rebuild_progress()).await?;
    if let Some(password) = made_password {
        first_password::hand_over(&config.data_dir, ADMIN, &password)?;
    }
    let checks: Vec<Arc<dyn Check>> = vec![
        Arc::new(readiness::Database(services.clone())),
        Arc::new(readiness::Index {
            services: services.clone(),
            max_staleness: config.max_staleness,
        }),
    ];
    let health = Health::new(checks, metrics);
    let state = AppState::new(config.clone(), services.clone(), health.clone());
    let upkeep = tokio::spawn({
        let health = health.clone();
        async move {
            let mut ticks = tokio::time::interval(UPKEEP);
            loop {
                ticks.tick().await;
                health.upkeep();
            }
        }
    });
    let limits = state.rate_limits.clone().map(|it| tokio::spawn(it.run()));
    // Before anybody is told that it runs.
    let told = server::stop_signal()?;
    let stop = async move {
        told.await;
        tracing::info!("stopping");
        health.drain();
    };
    let served = server::run(&config, app::router(state)?, server::announce, stop).await;
    upkeep.abort();
    if let Some(limits) = limits {
        limits.abort();
        // Aborted on purpose. It holds the services, which end now.
        let _ = limits.await;
    }
    background.stop(services).await;
    Ok(served?)
}

/// What the services are started with. Makes the data directory if it is missing.
pub fn setup(config: &Config) -> Result<Setup, Box<dyn Error>> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .map_err(|error| format!("the data directory {}: {error}", config.data_dir.display()))?;
    let clock = Clock::system();
    let master = MasterKey::load(config.master_key.as_ref(), &config.data_dir)?;
    Ok(Setup {
        database_url: config.database_url.expose().to_owned(),
        master,
        node: config.node.as_str().to_owned(),
        admin_password: config.admin_password.clone(),
        entropy: Entropy::system(clock.clone()),
        clock,
    })
}

/// A progress bar for views that an older version has filled.
pub fn rebuild_progress() -> impl Fn(i64, i64) {
    let bar = indicatif::ProgressBar::hidden();
    move |done, of| {
        if bar.length().is_none() {
            bar.set_draw_target(indicatif::ProgressDrawTarget::stderr());
            bar.set_message("rebuilding views");
        }
        bar.set_length(of.unsigned_abs());
        bar.set_position(done.unsigned_abs());
        if done >= of {
            bar.finish_and_clear();
        }
    }
}
