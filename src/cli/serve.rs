//! `serve`: puts the server together and runs it until it is told to stop.

use std::error::Error;
use std::os::unix::fs::DirBuilderExt;
use std::sync::Arc;
use std::time::Duration;

use crate::api::health::{self, Health};
use crate::app::{self, AppState};
use crate::auth::password::Passwords;
use crate::clock::Clock;
use crate::config::{Config, unknown_variables};
use crate::entropy::Entropy;
use crate::{logging, server};

/// How often what was measured is folded into histograms.
const UPKEEP: Duration = Duration::from_secs(5);

/// Runs the server.
pub fn serve(config: Config) -> Result<(), Box<dyn Error>> {
    logging::start(&config)?;
    for name in unknown_variables() {
        tracing::warn!(name, "this variable means nothing to GateKey: is it misspelt?");
    }
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&config.data_dir)
        .map_err(|error| format!("the data directory {}: {error}", config.data_dir.display()))?;
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(run(config))
}

async fn run(config: Config) -> Result<(), Box<dyn Error>> {
    let config = Arc::new(config);
    let clock = Clock::system();
    let entropy = Entropy::system(clock.clone());
    let health = Health::new(Vec::new(), health::install_metrics()?);
    let state = AppState {
        config: config.clone(),
        clock,
        passwords: Passwords::new(entropy.clone())?,
        entropy,
        health: health.clone(),
    };
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
    let stop = async move {
        if let Err(error) = server::stop_signal().await {
            tracing::error!(%error, "signals can't be heard");
            std::future::pending::<()>().await;
        }
        tracing::info!("stopping");
        health.drain();
    };
    server::run(&config, app::router(state)?, server::announce, stop).await?;
    upkeep.abort();
    Ok(())
}
