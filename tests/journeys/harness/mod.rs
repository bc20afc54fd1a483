//! What every journey stands on: databases, servers, clients, networks, and how they end.
#![allow(dead_code, unused_macros)] // A toolbox: not every journey needs every tool.

pub mod client;
pub mod epilogue;
pub mod fixtures;
pub mod history;
pub mod load;
#[macro_use]
pub mod log;
pub mod netns;
pub mod openapi;
pub mod openvpn;
pub mod plane;
pub mod postgres;
pub mod proxy;
pub mod seed;
pub mod server;
pub mod wait;
#[macro_use]
pub mod world;

#[allow(unused_imports)]
pub use client::{Answer, Api};
#[allow(unused_imports)]
pub use world::{Kind, World};
