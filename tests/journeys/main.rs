//! Whole-system tests: a real server, real HTTP, a real database, real OpenVPN. One module per journey.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may stop where it stands.

#[macro_use]
mod harness;

mod agents;
mod authorisation;
mod bad_input;
mod crash;
mod first_steps;
mod harness_works;
mod idempotency;
mod limits;
mod lists;
mod log;
mod managing;
mod mesh_tunnel;
mod order;
mod outage;
mod readme;
mod rebuild;
mod reports;
mod stock;
mod tunnel;
