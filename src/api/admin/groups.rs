//! `/admin/groups`: names that users bear, and that things are given to.

use super::users::User;
use crate::api::openapi::{Access, callable_by};
use crate::api::{ApiError, Filter, List, Page, Path};
use crate::app::AppState;
use crate::auth::Auditor;
use crate::services::Services;
use axum::extract::State;
use gatekey_aggregates::values::GroupName;
use gatekey_projections::users;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let read = OpenApiRouter::new().routes(routes!(list)).routes(routes!(list_members));
    callable_by(Access::Auditor, read)
}

/// A group.
#[derive(Serialize, ToSchema)]
struct Group {
    /// Its name.
    #[schema(example = "engineering")]
    name: String,
    /// How many members it has.
    members: i64,
    /// How many gateways were granted to it.
    gateways: i64,
    /// How many access rules were assigned to it.
    access_rules: i64,
    /// How many rules of the geo-fence were attached to it.
    geo_fence_rules: i64,
    /// How many mesh hubs were granted to it.
    mesh_hubs: i64,
}

impl From<users::Group> for Group {
    fn from(it: users::Group) -> Self {
        let users::Group { name, members, gateways, access_rules, geo_fence_rules, mesh_hubs } = it;
        Self { name, members, gateways, access_rules, geo_fence_rules, mesh_hubs }
    }
}

#[derive(Deserialize, IntoParams)]
struct Groups {}

impl Filter for Groups {
    const SORT: &'static [&'static str] = users::GROUP_SORT;
    const SEARCH: bool = true;
}

/// List groups
///
/// A group is there as soon as somebody is in it or something was given to it. `q` looks at the
/// name.
#[utoipa::path(
    get, path = "/admin/groups", tag = "Groups", operation_id = "listGroups",
    params(List<Groups>),
    responses((status = 200, description = "A page of them", body = Page<Group>))
)]
async fn list(
    _: Auditor,
    list: List<Groups>,
    State(services): State<Arc<Services>>,
) -> Result<Page<Group>, ApiError> {
    let listed = users::groups(&services.db, &list.wanted()?).await?;
    Ok(Page::listed(listed.map(Group::from), list.paging))
}

#[derive(Deserialize, IntoParams)]
struct Members {}

impl Filter for Members {
    const SORT: &'static [&'static str] = users::SORT;
    const SEARCH: bool = true;
}

/// List a group's members
///
/// Of a name that nobody bears: none. `q` looks at user name, e-mail and name.
#[utoipa::path(
    get, path = "/admin/groups/{name}/members", tag = "Groups", operation_id = "listGroupMembers",
    params(("name" = GroupName, Path, description = "The group's name"), List<Members>),
    responses((status = 200, description = "A page of them", body = Page<User>))
)]
async fn list_members(
    _: Auditor,
    Path(name): Path<GroupName>,
    list: List<Members>,
    State(services): State<Arc<Services>>,
) -> Result<Page<User>, ApiError> {
    let filter = users::Filter { group: Some(name.to_string()), ..users::Filter::default() };
    let listed = users::list(&services.db, &list.wanted()?, &filter).await?;
    Ok(Page::listed(listed.map(User::from), list.paging))
}
