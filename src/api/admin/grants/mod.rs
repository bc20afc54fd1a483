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

use crate::api::idempotency::Creation;
use crate::api::{Answer, ApiError, Data};
use crate::auth::Admin;
use crate::event_log::{CommandError, Request};
use crate::services::Services;
use axum::response::{IntoResponse, Response};
use gatekey_aggregates::{Recorded, Root};
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
#[derive(Clone, Serialize, ToSchema)]
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
pub enum Given {
    /// It was given just now.
    New(Answer),
    /// It was given before.
    Already(Data<Reference>),
}

impl Given {
    /// Carries out a command that gives something to `to`, listed at `list` (below `/api/v1`).
    pub async fn by<A: Root>(
        creation: &Creation,
        command: Request,
        list: &str,
        to: impl ToString,
    ) -> Result<Self, CommandError> {
        let id = to.to_string();
        let location = format!("/api/v1{list}/{}", segment(&id));
        let reference = Reference { id };
        let make = {
            let reference = reference.clone();
            move |_: &[Recorded]| Answer::created(location.clone(), &reference)
        };
        let made = creation.carry_out::<A>(command, make).await?;
        Ok(made.map_or(Self::Already(Data { data: reference }), Self::New))
    }
}

impl IntoResponse for Given {
    fn into_response(self) -> Response {
        match self {
            Self::New(answer) => answer.into_response(),
            Self::Already(reference) => reference.into_response(),
        }
    }
}

/// Gives one of a kind to somebody listed at `list` below it.
async fn give<K: Kind, T: Clone + ToString>(
    (creation, admin, id): (&Creation, &Admin, &K::Id),
    list: &str,
    command: fn(T) -> K::Command,
    to: T,
) -> Result<Given, ApiError> {
    let request = Request::new::<K>(id, command(to.clone()), admin.metadata(None));
    let list = format!("{}/{id}/{list}", K::PATH);
    Ok(Given::by::<K>(creation, request, &list, to).await?)
}

/// Takes one of a kind from somebody.
async fn take<K: Kind, T: Clone + ToString>(
    (services, admin, id): (&Services, &Admin, &K::Id),
    command: fn(T) -> K::Command,
    from: T,
) -> Result<Data<Reference>, ApiError> {
    let request = Request::new::<K>(id, command(from.clone()), admin.metadata(None));
    services.bus.execute::<K>(request).await?;
    Ok(Reference::to(from))
}

/// 404 unless there is such a one now.
async fn must_exist<K: Kind>(services: &Services, id: &K::Id) -> Result<(), ApiError> {
    let exists = K::GRANTING.exists(&services.db, &id.to_string()).await?;
    if exists { Ok(()) } else { Err(ApiError::not_found()) }
}

/// 400: the field names nothing that is there.
pub fn no_such(field: &str, what: &str) -> ApiError {
    ApiError::invalid_field(field, format!("is the id of no {what}"))
}

/// A text as a segment of a path (RFC 3986).
pub fn segment(text: &str) -> String {
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
