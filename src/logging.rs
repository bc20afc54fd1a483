//! The log: to standard error, for people or for machines.

use std::io::{IsTerminal, stderr};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::util::TryInitError;

use crate::config::{Config, LogFormat};

/// Starts logging as the settings say. Once in a process.
pub fn start(config: &Config) -> Result<(), TryInitError> {
    // Checked when the settings were read.
    let filter = EnvFilter::builder().parse_lossy(&config.log);
    let registry = tracing_subscriber::registry().with(filter);
    let layer = tracing_subscriber::fmt::layer().with_writer(stderr).with_target(true);
    match config.log_format {
        LogFormat::Pretty => {
            registry.with(layer.with_ansi(stderr().is_terminal())).try_init()?;
        }
        LogFormat::Json => {
            registry.with(layer.json().with_current_span(true).with_span_list(false)).try_init()?;
        }
    }
    std::panic::set_hook(Box::new(|panic| {
        let message = panic.payload_as_str().unwrap_or("no message");
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(message, place, "a panic: please report it");
    }));
    Ok(())
}
