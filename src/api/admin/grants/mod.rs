//! Giving to users and groups, attaching networks, and taking away: what gateways, access rules and
//! mesh hubs share.
//!
//! Both are idempotent: what is given already is answered with 200 instead of 201, and what was once
//! given can be taken again and again, even from what was deleted meanwhile. Only taking what was
//! never given is a 404.
//!
//! A thing that is given says how by implementing [`Grantable`]; `people!` and `networks!` then
//! declare its operations.

pub mod networks;
pub mod people;

pub use networks::{Attachable, network};
pub use people::{Grantable, user_existed};

use crate::api::{ApiError, Created, Data};
use crate::auth::Admin;
use crate::event_log::{CommandError, Outcome, Request};
use crate::services::Services;
use axum::response::{IntoResponse, Response};
use gatekey_aggregates::Root;
use gatekey_projections::Granting;
use serde::Serialize;
use std::fmt::{Display, Write};
use utoipa::ToSchema;

/// A kind of thing that something can be given of.
pub trait Kind: Root {
    /// What one is known by.
    type Id: Display;
    /// Where they are, below `/api/v1`.
    const PATH: &'static str;
    /// How their grants are kept.
    const GRANTING: Granting;
}

/// What was given or taken.
#[derive(Serialize, ToSchema)]
pub struct Reference {
    /// Its id; of a group, its name.
    #[schema(example = "usr-01k9x3")]
    pub id: String,
}

impl Reference {
    /// `{"data": {"id": …}}`
    pub fn to(thing: impl ToString) -> Data<Self> {
        Data { data: Self { id: thing.to_string() } }
    }
}

/// 201 if it is new, 200 if it was so already.
pub struct Given {
    new: bool,
    location: String,
    body: Data<Reference>,
}

impl IntoResponse for Given {
    fn into_response(self) -> Response {
        if self.new {
            Created { location: self.location, body: self.body }.into_response()
        } else {
            self.body.into_response()
        }
    }
}

/// Gives one of a kind to somebody listed at `list` below it.
async fn give<K: Kind, T: Clone + ToString>(
    (services, admin, id): (&Services, &Admin, &K::Id),
    list: &str,
    command: fn(T) -> K::Command,
    to: T,
) -> Result<Given, ApiError> {
    let outcome = ask::<K>(services, admin, id, command(to.clone())).await?;
    let to = to.to_string();
    let location = format!("/api/v1{}/{id}/{list}/{}", K::PATH, segment(&to));
    Ok(Given { new: outcome.appended.is_some(), location, body: Reference::to(to) })
}

/// Takes one of a kind from somebody.
async fn take<K: Kind, T: Clone + ToString>(
    (services, admin, id): (&Services, &Admin, &K::Id),
    command: fn(T) -> K::Command,
    from: T,
) -> Result<Data<Reference>, ApiError> {
    ask::<K>(services, admin, id, command(from.clone())).await?;
    Ok(Reference::to(from))
}

async fn ask<K: Kind>(
    services: &Services,
    admin: &Admin,
    id: &K::Id,
    command: K::Command,
) -> Result<Outcome<K>, CommandError> {
    services.bus.execute::<K>(Request::new::<K>(id, command, admin.metadata(None))).await
}

/// 404 unless there is such a one now.
async fn must_exist<K: Kind>(services: &Services, id: &K::Id) -> Result<(), ApiError> {
    let exists = K::GRANTING.exists(&services.db, &id.to_string()).await?;
    if exists { Ok(()) } else { Err(ApiError::not_found()) }
}

fn no_such(field: &str, what: &str) -> ApiError {
    ApiError::invalid_field(field, format!("is the id of no {what}"))
}

/// A text as a segment of a path (RFC 3986).
fn segment(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut path, byte| {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            path.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(path, "%{byte:02X}");
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_is_found_under_a_path_that_a_header_can_hold() {
        assert_eq!(segment("usr-01k9x3"), "usr-01k9x3");
        assert_eq!(segment("Site Ops & Söhne"), "Site%20Ops%20%26%20S%C3%B6hne");
    }
}
