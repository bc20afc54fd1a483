//! GateKey: an event-sourced control plane for zero-trust OpenVPN.

pub mod access;
pub mod api;
pub mod app;
pub mod attempts;
pub mod auth;
pub mod bulk;
pub mod cli;
pub mod clock;
pub mod config;
pub mod entropy;
pub mod event_log;
mod fields;
pub mod first_start;
pub mod logging;
pub mod openvpn;
pub mod pki;
pub mod reactors;
pub mod readiness;
pub mod secrets;
pub mod server;
pub mod services;
pub mod telemetry;
#[cfg(test)]
mod testing;
