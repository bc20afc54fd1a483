//! What admins manage, through its whole life: made, read, listed, changed, given, taken, removed.

mod api_keys;
mod audit;
mod bulk;
mod configs;
mod gateways;
mod geo_fence;
mod grants;
mod mesh;
mod patch;
mod server;
mod things;
mod users;

use crate::harness::fixtures::id;
use crate::harness::{Answer, Api};
use reqwest::Method;
use serde_json::Value;
use std::time::Duration;

/// Longer than anything takes that is done in the background.
const SOON: Duration = Duration::from_secs(10);

async fn put(api: &Api, path: &str, seen: &str, body: &Value) -> Answer {
    api.send(Method::PUT, path, |request| request.header("if-match", seen).json(body)).await
}

async fn delete(api: &Api, path: &str, seen: &str) -> Answer {
    api.send(Method::DELETE, path, |request| request.header("if-match", seen)).await
}

fn without(thing: &Value, field: &str) -> Value {
    let mut thing = thing.clone();
    thing.as_object_mut().unwrap().remove(field);
    thing
}

fn ids(things: &[Value]) -> Vec<String> {
    things.iter().map(id).collect()
}
