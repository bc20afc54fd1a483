//! The views and their queries, on SQLite and on PostgreSQL: a missing bind or a wrong type shows
//! only on the latter.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // A test may stop where it stands.

/// Any event: what the aggregates' own tests use. It looks for the aggregates at the crate's root.
#[allow(dead_code, reason = "the commands are not needed here")]
#[path = "../../../aggregates/src/arbitrary.rs"]
mod arbitrary;

/// What the journeys' databases stand on.
#[allow(dead_code, reason = "not all of it is needed here")]
#[path = "../../../tests/journeys/harness/postgres.rs"]
mod postgres;

#[path = "../../../tests/journeys/harness/epilogue.rs"]
mod epilogue;

use gatekey_aggregates::{
    Event, PersonId, Personal, access_rule, attempt, authority, certificate, gateway, geo_fence,
    geo_fence_rule, login, mesh_hub, network, session, settings, user, values,
};

mod access_rules;
mod audit;
mod certificates;
mod connections;
mod folding;
mod gateways;
mod geo_fences;
mod index;
mod lists;
mod mesh_hubs;
mod networks;
mod samples;
mod search;
mod shape;
mod singles;
mod users;
mod world;
