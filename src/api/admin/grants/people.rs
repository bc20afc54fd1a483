//! `…/{id}/users` and `…/{id}/groups`: whom something was given to.

use super::{Given, Kind, Reference, give, must_exist, no_such, take};
use crate::api::{ApiError, Creating, Data, Filter, List, Page};
use crate::auth::Admin;
use crate::services::Services;
use chrono::{DateTime, Utc};
use gatekey_aggregates::values::{GroupName, UserId, from_micros};
use gatekey_projections as views;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What is given to users and groups.
pub trait Grantable: Kind {
    /// Gives it to a user.
    const TO_USER: fn(UserId) -> Self::Command;
    /// Takes it from a user.
    const FROM_USER: fn(UserId) -> Self::Command;
    /// Gives it to a group.
    const TO_GROUP: fn(GroupName) -> Self::Command;
    /// Takes it from a group.
    const FROM_GROUP: fn(GroupName) -> Self::Command;
}

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

/// Users to whom it was given by themselves.
pub async fn users<G: Grantable>(
    services: &Services,
    id: &G::Id,
    list: List<Users>,
) -> Result<Page<GrantedUser>, ApiError> {
    must_exist::<G>(services, id).await?;
    let listed = G::GRANTING.users(&services.db, &id.to_string(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(GrantedUser::from), list.paging))
}

/// Gives it to a user, who must be there.
pub async fn give_to_user<G: Grantable>(
    services: &Services,
    admin: &Admin,
    id: &G::Id,
    Creating { body: GrantUser { user_id }, creation }: Creating<GrantUser>,
) -> Result<Given, ApiError> {
    must_exist::<G>(services, id).await?;
    let user = views::users::find(&services.db, user_id.as_str()).await?;
    user.ok_or_else(|| no_such("user_id", "user"))?;
    give::<G, _>((&creation, admin, id), "users", G::TO_USER, user_id).await
}

/// Takes it from a user.
pub async fn take_from_user<G: Grantable>(
    services: &Services,
    admin: &Admin,
    id: &G::Id,
    user_id: UserId,
) -> Result<Data<Reference>, ApiError> {
    take::<G, _>((services, admin, id), G::FROM_USER, user_id).await
}

/// Groups to whose members it was given.
pub async fn groups<G: Grantable>(
    services: &Services,
    id: &G::Id,
    list: List<Groups>,
) -> Result<Page<GrantedGroup>, ApiError> {
    must_exist::<G>(services, id).await?;
    let listed = G::GRANTING.groups(&services.db, &id.to_string(), &list.wanted()?).await?;
    Ok(Page::listed(listed.map(GrantedGroup::from), list.paging))
}

/// Gives it to a group's members, of whom there may be none.
pub async fn give_to_group<G: Grantable>(
    admin: &Admin,
    id: &G::Id,
    Creating { body: GrantGroup { group }, creation }: Creating<GrantGroup>,
) -> Result<Given, ApiError> {
    give::<G, _>((&creation, admin, id), "groups", G::TO_GROUP, group).await
}

/// Takes it from a group's members.
pub async fn take_from_group<G: Grantable>(
    services: &Services,
    admin: &Admin,
    id: &G::Id,
    group: GroupName,
) -> Result<Data<Reference>, ApiError> {
    take::<G, _>((services, admin, id), G::FROM_GROUP, group).await
}

/// 404 unless there is or was such a user.
pub async fn user_existed(services: &Services, id: &UserId) -> Result<(), ApiError> {
    let found = views::users::find_any(&services.db, id.as_str()).await?;
    found.map(|_| ()).ok_or_else(ApiError::not_found)
}

/// Declares the operations by which a thing is given to users and groups: a module `people` with
/// `read()` and `change()`.
///
/// ```ignore
/// people! {
///     Gateway (GatewayId) at "/admin/gateways/{id}", tag "Gateways",
///     called "a gateway", operations "grant" "revoke" "Gateway"
/// }
/// ```
macro_rules! people {
    (
        $thing:ident ($id:ident) at $at:tt, tag $tag:tt,
        called $called:tt, operations $give:tt $take:tt $name:tt
    ) => {
        mod people {
            use super::{$id, $thing};
            use $crate::api::admin::grants::people::*;
            use $crate::api::admin::grants::{Given, Reference};
            use $crate::api::{ApiError, Creating, Data, IdempotencyKey, List, Page, Path};
            use $crate::app::AppState;
            use $crate::auth::{Admin, Auditor};
            use $crate::services::Services;
            use axum::extract::State;
            use gatekey_aggregates::values::{GroupName, UserId};
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
                    .routes(routes!(to_user))
                    .routes(routes!(from_user))
                    .routes(routes!(to_group))
                    .routes(routes!(from_group))
            }

            #[utoipa::path(
                get, path = concat!($at, "/users"), tag = $tag,
                operation_id = concat!("list", $name, "Users"),
                summary = concat!("List the users who have ", $called),
                description = "Those to whom it was given by themselves. `q` looks at user name, \
                               e-mail and name.",
                params(
                    ("id" = $id, Path, description = concat!("The id of ", $called)),
                    List<Users>
                ),
                responses((status = 200, description = "A page of them", body = Page<GrantedUser>))
            )]
            async fn list_users(
                _: Auditor,
                Path(id): Path<$id>,
                list: List<Users>,
                State(services): State<Arc<Services>>,
            ) -> Result<Page<GrantedUser>, ApiError> {
                users::<$thing>(&services, &id, list).await
            }

            #[utoipa::path(
                post, path = concat!($at, "/users"), tag = $tag,
                operation_id = concat!($give, $name, "ToUser"),
                summary = concat!("Give ", $called, " to a user"),
                params(
                    ("id" = $id, Path, description = concat!("The id of ", $called)),
                    IdempotencyKey
                ),
                request_body = GrantUser,
                responses(
                    (
                        status = 201, description = "Given", body = Data<Reference>,
                        headers(("Location" = String, description = "What takes it away by DELETE"))
                    ),
                    (status = 200, description = "They had it already", body = Data<Reference>),
                )
            )]
            async fn to_user(
                admin: Admin,
                Path(id): Path<$id>,
                State(services): State<Arc<Services>>,
                body: Creating<GrantUser>,
            ) -> Result<Given, ApiError> {
                give_to_user::<$thing>(&services, &admin, &id, body).await
            }

            #[utoipa::path(
                delete, path = concat!($at, "/users/{user_id}"), tag = $tag,
                operation_id = concat!($take, $name, "FromUser"),
                summary = concat!("Take ", $called, " from a user"),
                description = "They may still have it as a member of a group. What was taken \
                               before, or is gone, is answered alike; what was never given is 404.",
                params(
                    ("id" = $id, Path, description = concat!("The id of ", $called)),
                    ("user_id" = UserId, Path, description = "The user's id"),
                ),
                responses((status = 200, description = "They do not have it", body = Data<Reference>))
            )]
            async fn from_user(
                admin: Admin,
                Path((id, user_id)): Path<($id, UserId)>,
                State(services): State<Arc<Services>>,
            ) -> Result<Data<Reference>, ApiError> {
                take_from_user::<$thing>(&services, &admin, &id, user_id).await
            }

            #[utoipa::path(
                get, path = concat!($at, "/groups"), tag = $tag,
                operation_id = concat!("list", $name, "Groups"),
                summary = concat!("List the groups that have ", $called),
                description = "Those to whose members it was given. `q` looks at the name.",
                params(
                    ("id" = $id, Path, description = concat!("The id of ", $called)),
                    List<Groups>
                ),
                responses((status = 200, description = "A page of them", body = Page<GrantedGroup>))
            )]
            async fn list_groups(
                _: Auditor,
                Path(id): Path<$id>,
                list: List<Groups>,
                State(services): State<Arc<Services>>,
            ) -> Result<Page<GrantedGroup>, ApiError> {
                groups::<$thing>(&services, &id, list).await
            }

            #[utoipa::path(
                post, path = concat!($at, "/groups"), tag = $tag,
                operation_id = concat!($give, $name, "ToGroup"),
                summary = concat!("Give ", $called, " to a group"),
                params(
                    ("id" = $id, Path, description = concat!("The id of ", $called)),
                    IdempotencyKey
                ),
                request_body = GrantGroup,
                responses(
                    (
                        status = 201, description = "Given", body = Data<Reference>,
                        headers(("Location" = String, description = "What takes it away by DELETE"))
                    ),
                    (status = 200, description = "It had it already", body = Data<Reference>),
                )
            )]
            async fn to_group(
                admin: Admin,
                Path(id): Path<$id>,
                body: Creating<GrantGroup>,
            ) -> Result<Given, ApiError> {
                give_to_group::<$thing>(&admin, &id, body).await
            }

            #[utoipa::path(
                delete, path = concat!($at, "/groups/{group}"), tag = $tag,
                operation_id = concat!($take, $name, "FromGroup"),
                summary = concat!("Take ", $called, " from a group"),
                description = "What was taken before, or is gone, is answered alike; what was never \
                               given is 404.",
                params(
                    ("id" = $id, Path, description = concat!("The id of ", $called)),
                    ("group" = GroupName, Path, description = "The group's name"),
                ),
                responses((status = 200, description = "It does not have it", body = Data<Reference>))
            )]
            async fn from_group(
                admin: Admin,
                Path((id, group)): Path<($id, GroupName)>,
                State(services): State<Arc<Services>>,
            ) -> Result<Data<Reference>, ApiError> {
                take_from_group::<$thing>(&services, &admin, &id, group).await
            }
        }
    };
}

pub(in crate::api::admin) use people;
