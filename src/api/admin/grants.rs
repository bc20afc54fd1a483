//! Giving to users and groups, and taking away: the parts that gateways and access rules share.
//!
//! Both are idempotent: what is given already is answered with 200 instead of 201, and what was not
//! given, or is gone, can be taken away.

use crate::api::{ApiError, Created, Data, Filter};
use crate::event_log::Outcome;
use crate::services::Services;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use gatekey_aggregates::values::{GroupName, NetworkId, UserId, from_micros};
use gatekey_projections as views;
use serde::{Deserialize, Serialize};
use std::fmt::Write;
use utoipa::{IntoParams, ToSchema};

/// Whom to give it to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantUser {
    /// The user's id.
    pub user_id: UserId,
}

/// Which group's members to give it to.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantGroup {
    /// The group's name. Nobody needs to be in it yet.
    pub group: GroupName,
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

impl Given {
    /// What a command came to that gave something to `to`, listed at `list`.
    pub fn of<A>(outcome: &Outcome<A>, list: &str, to: impl ToString) -> Self {
        let to = to.to_string();
        let location = format!("/api/v1{list}/{}", segment(&to));
        Self { new: outcome.appended.is_some(), location, body: Reference::to(to) }
    }
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

/// A user whom something was given to by themselves.
#[derive(Serialize, ToSchema)]
pub struct GrantedUser {
    /// Their id.
    #[schema(example = "usr-01k9x3")]
    id: String,
    /// User name.
    #[schema(required, example = "ada")]
    username: Option<String>,
    /// E-mail address.
    #[schema(required, example = "ada@example.com")]
    email: Option<String>,
    /// What they are called.
    #[schema(required, example = "Ada Lovelace")]
    name: Option<String>,
    /// Whether they are enabled.
    active: bool,
    /// Since when they have it.
    granted_at: DateTime<Utc>,
}

impl From<views::GrantedUser> for GrantedUser {
    fn from(it: views::GrantedUser) -> Self {
        Self {
            id: it.id,
            username: it.username,
            email: it.email,
            name: it.name,
            active: it.active,
            granted_at: from_micros(it.granted_at),
        }
    }
}

/// A group whose members something was given to.
#[derive(Serialize, ToSchema)]
pub struct GrantedGroup {
    /// Its name.
    #[schema(example = "engineering")]
    name: String,
    /// How many members it has.
    members: i64,
    /// Since when they have it.
    granted_at: DateTime<Utc>,
}

impl From<views::GrantedGroup> for GrantedGroup {
    fn from(it: views::GrantedGroup) -> Self {
        Self { name: it.name, members: it.members, granted_at: from_micros(it.granted_at) }
    }
}

/// The query of a list of granted users.
#[derive(Deserialize, IntoParams)]
pub struct Users {}

impl Filter for Users {
    const SORT: &'static [&'static str] = views::USER_SORT;
    const SEARCH: bool = true;
}

/// The query of a list of granted groups.
#[derive(Deserialize, IntoParams)]
pub struct Groups {}

impl Filter for Groups {
    const SORT: &'static [&'static str] = views::GROUP_SORT;
    const SEARCH: bool = true;
}

/// 400 unless there is such a user now.
pub async fn user_exists(services: &Services, id: &UserId) -> Result<(), ApiError> {
    let found = views::users::find(&services.db, id.as_str()).await?;
    found.map(|_| ()).ok_or_else(|| no_such("user_id", "user"))
}

/// 404 unless there is or was such a user.
pub async fn user_existed(services: &Services, id: &UserId) -> Result<(), ApiError> {
    let found = views::users::find_any(&services.db, id.as_str()).await?;
    found.map(|_| ()).ok_or_else(ApiError::not_found)
}

/// 400 unless there is such a network now.
pub async fn network(
    services: &Services,
    id: &NetworkId,
) -> Result<views::networks::Network, ApiError> {
    let found = views::networks::find(&services.db, id.as_str()).await?;
    found.ok_or_else(|| no_such("network_id", "network"))
}

/// 404 unless there is or was such a network.
pub async fn network_existed(services: &Services, id: &NetworkId) -> Result<(), ApiError> {
    let found = views::networks::find_any(&services.db, id.as_str()).await?;
    found.map(|_| ()).ok_or_else(ApiError::not_found)
}

fn no_such(field: &str, what: &str) -> ApiError {
    ApiError::invalid_field(field, format!("is the id of no {what}"))
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
