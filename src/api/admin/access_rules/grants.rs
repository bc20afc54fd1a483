//! `/admin/access-rules/{id}/{users,groups}`: whom a rule lets through.

use super::find;
use crate::api::admin::grants::{
    self, Given, GrantGroup, GrantUser, GrantedGroup, GrantedUser, Reference,
};
use crate::api::{ApiError, Data, Json, List, Page, Path};
use crate::app::AppState;
use crate::auth::{Admin, Auditor};
use crate::event_log::{CommandError, Outcome, Request};
use crate::services::Services;
use axum::extract::State;
use gatekey_aggregates::access_rule::{AccessRule, Command};
use gatekey_aggregates::values::{AccessRuleId, GroupName, UserId};
use gatekey_projections::access_rules;
use std::sync::Arc;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// What auditors read.
pub fn read() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_users)).routes(routes!(list_groups))
}

/// What admins change.
pub fn change() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(assign_user))
        .routes(routes!(unassign_user))
        .routes(routes!(assign_group))
        .routes(routes!(unassign_group))
}

async fn ask(
    services: &Services,
    admin: &Admin,
    id: &AccessRuleId,
    command: Command,
) -> Result<Outcome<AccessRule>, CommandError> {
    let request = Request::new::<AccessRule>(id, command, admin.metadata(None));
    services.bus.execute::<AccessRule>(request).await
}

/// List an access rule's users
///
/// Those whom it was assigned to by themselves. `q` looks at user name, e-mail and name.
#[utoipa::path(
    get, path = "/admin/access-rules/{id}/users", tag = "Access rules",
    operation_id = "listAccessRuleUsers",
    params(("id" = AccessRuleId, Path, description = "The rule's id"), List<grants::Users>),
    responses((status = 200, description = "A page of them", body = Page<GrantedUser>))
)]
async fn list_users(
    _: Auditor,
    Path(id): Path<AccessRuleId>,
    list: List<grants::Users>,
    State(services): State<Arc<Services>>,
) -> Result<Page<GrantedUser>, ApiError> {
    find(&services, &id).await?;
    let listed = access_rules::users(&services.db, id.as_str(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(GrantedUser::from), list.paging))
}

/// Assign an access rule to a user
#[utoipa::path(
    post, path = "/admin/access-rules/{id}/users", tag = "Access rules",
    operation_id = "assignAccessRuleToUser",
    params(("id" = AccessRuleId, Path, description = "The rule's id")),
    request_body = GrantUser,
    responses(
        (
            status = 201, description = "Assigned", body = Data<Reference>,
            headers(("Location" = String, description = "What takes it away by DELETE"))
        ),
        (status = 200, description = "They had it already", body = Data<Reference>),
    )
)]
async fn assign_user(
    admin: Admin,
    Path(id): Path<AccessRuleId>,
    State(services): State<Arc<Services>>,
    Json(GrantUser { user_id }): Json<GrantUser>,
) -> Result<Given, ApiError> {
    find(&services, &id).await?;
    grants::user_exists(&services, &user_id).await?;
    let outcome = ask(&services, &admin, &id, Command::AssignUser(user_id.clone())).await?;
    Ok(Given::of(&outcome, &format!("/admin/access-rules/{id}/users"), user_id))
}

/// Take an access rule from a user
///
/// They may still have it as a member of a group.
#[utoipa::path(
    delete, path = "/admin/access-rules/{id}/users/{user_id}", tag = "Access rules",
    operation_id = "unassignAccessRuleFromUser",
    params(
        ("id" = AccessRuleId, Path, description = "The rule's id"),
        ("user_id" = UserId, Path, description = "The user's id"),
    ),
    responses((status = 200, description = "They do not have it", body = Data<Reference>))
)]
async fn unassign_user(
    admin: Admin,
    Path((id, user_id)): Path<(AccessRuleId, UserId)>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    grants::user_existed(&services, &user_id).await?;
    ask(&services, &admin, &id, Command::UnassignUser(user_id.clone())).await?;
    Ok(Reference::to(user_id))
}

/// List an access rule's groups
///
/// Those whose members it was assigned to. `q` looks at the name.
#[utoipa::path(
    get, path = "/admin/access-rules/{id}/groups", tag = "Access rules",
    operation_id = "listAccessRuleGroups",
    params(("id" = AccessRuleId, Path, description = "The rule's id"), List<grants::Groups>),
    responses((status = 200, description = "A page of them", body = Page<GrantedGroup>))
)]
async fn list_groups(
    _: Auditor,
    Path(id): Path<AccessRuleId>,
    list: List<grants::Groups>,
    State(services): State<Arc<Services>>,
) -> Result<Page<GrantedGroup>, ApiError> {
    find(&services, &id).await?;
    let listed = access_rules::groups(&services.db, id.as_str(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(GrantedGroup::from), list.paging))
}

/// Assign an access rule to a group
#[utoipa::path(
    post, path = "/admin/access-rules/{id}/groups", tag = "Access rules",
    operation_id = "assignAccessRuleToGroup",
    params(("id" = AccessRuleId, Path, description = "The rule's id")),
    request_body = GrantGroup,
    responses(
        (
            status = 201, description = "Assigned", body = Data<Reference>,
            headers(("Location" = String, description = "What takes it away by DELETE"))
        ),
        (status = 200, description = "It had it already", body = Data<Reference>),
    )
)]
async fn assign_group(
    admin: Admin,
    Path(id): Path<AccessRuleId>,
    State(services): State<Arc<Services>>,
    Json(GrantGroup { group }): Json<GrantGroup>,
) -> Result<Given, ApiError> {
    let outcome = ask(&services, &admin, &id, Command::AssignGroup(group.clone())).await?;
    Ok(Given::of(&outcome, &format!("/admin/access-rules/{id}/groups"), group))
}

/// Take an access rule from a group
#[utoipa::path(
    delete, path = "/admin/access-rules/{id}/groups/{group}", tag = "Access rules",
    operation_id = "unassignAccessRuleFromGroup",
    params(
        ("id" = AccessRuleId, Path, description = "The rule's id"),
        ("group" = GroupName, Path, description = "The group's name"),
    ),
    responses((status = 200, description = "It does not have it", body = Data<Reference>))
)]
async fn unassign_group(
    admin: Admin,
    Path((id, group)): Path<(AccessRuleId, GroupName)>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    ask(&services, &admin, &id, Command::UnassignGroup(group.clone())).await?;
    Ok(Reference::to(group))
}
