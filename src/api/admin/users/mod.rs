//! `/admin/users`: who may sign in, what they may do, and which groups they are in.

mod belongings;

use super::grants::Reference;
use crate::api::error::ErrorBody;
use crate::api::idempotency::row;
use crate::api::openapi::{Access, callable_by};
use crate::api::{
    Answer, ApiError, Creating, Data, ETag, Filter, IdempotencyKey, IfMatch, Json, List,
    MergePatch, Page, Path, unless_overtaken,
};
use crate::app::AppState;
use crate::auth::{Admin, Auditor, password};
use crate::event_log::{CommandError, Request, SealedSecret};
use crate::secrets::Secret;
use crate::services::Services;
use axum::extract::State;
use chrono::{DateTime, Utc};
use gatekey_aggregates::user::{Command, Profile, User as Aggregate};
use gatekey_aggregates::values::{
    DisplayName, Email, GroupName, Role, SecretId, UserId, Username, from_micros,
};
use gatekey_aggregates::{PersonId, Personal, Recorded};
use gatekey_projections::fresh;
use gatekey_projections::users::{self, UserGroupRow, UserRow};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::sync::Arc;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

/// The routes.
pub fn routes() -> OpenApiRouter<AppState> {
    let read = OpenApiRouter::new().routes(routes!(list)).routes(routes!(show));
    let change = OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(update, patch, remove))
        .routes(routes!(change_groups))
        .routes(routes!(change_password))
        .routes(routes!(disable))
        .routes(routes!(enable));
    callable_by(Access::Auditor, read.merge(belongings::read()))
        .merge(callable_by(Access::Admin, change.merge(belongings::change())))
}

/// A new local user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CreateUser {
    /// Unique among users, whatever the case of its letters. Holds no `@`.
    username: Username,
    /// Unique among users, whatever the case of its letters.
    email: Email,
    /// What they are called.
    name: Option<DisplayName>,
    /// What they sign in with: 12 to 256 characters. Without one they can only come by single
    /// sign-on.
    #[schema(value_type = Option<String>, format = Password, example = "a quiet pond at dusk")]
    password: Option<Secret>,
    /// Whether that password is good for nothing but changing it.
    #[serde(default)]
    must_change_password: bool,
    /// What they may do.
    #[serde(default)]
    role: Role,
    /// The groups they are in.
    #[serde(default)]
    #[schema(value_type = Vec<GroupName>)]
    groups: BTreeSet<GroupName>,
}

/// Who a user is, and what they may do.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UpdateUser {
    /// Unique among users, whatever the case of its letters. Holds no `@`.
    username: Username,
    /// Unique among users, whatever the case of its letters.
    email: Email,
    /// What they are called.
    name: Option<DisplayName>,
    /// What they may do.
    role: Role,
}

type UserPatch = MergePatch<UpdateUser>;

/// All the groups that a user is in.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserGroups {
    /// At most 200.
    #[schema(value_type = Vec<GroupName>)]
    groups: BTreeSet<GroupName>,
}

/// Another password for a user.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct UserPassword {
    /// 12 to 256 characters.
    #[schema(value_type = String, format = Password, example = "a quiet pond at dusk")]
    password: Secret,
    /// Whether it is good for nothing but changing it.
    #[serde(default = "yes")]
    #[schema(default = true)]
    must_change_password: bool,
}

fn yes() -> bool {
    true
}

fn profile(id: &UserId, username: Username, email: Email, name: Option<DisplayName>) -> Profile {
    let person = PersonId::user(id);
    Profile {
        username: Personal::new(person.clone(), username),
        email: Personal::new(person.clone(), email),
        name: name.map(|name| Personal::new(person, name)),
    }
}

/// Checks, hashes and seals a password.
async fn seal_password(
    services: &Services,
    password: &Secret,
    username: &Username,
    email: &Email,
) -> Result<SealedSecret, ApiError> {
    password::check(password, username, email)
        .map_err(|message| ApiError::invalid_field("password", message))?;
    let hash = services.passwords.hash(password).await?;
    Ok(services.vault.seal(hash.as_bytes(), None)?)
}

/// A user.
#[derive(Serialize, ToSchema)]
pub struct User {
    /// Their id.
    #[schema(example = "usr-01k9x3")]
    id: String,
    /// User name; null if it was erased.
    #[schema(required, example = "ada")]
    username: Option<String>,
    /// E-mail address; null if it was erased.
    #[schema(required, example = "ada@example.com")]
    email: Option<String>,
    /// What they are called.
    #[schema(required, example = "Ada Lovelace")]
    name: Option<String>,
    /// `member`, `auditor` or `admin`.
    #[schema(example = "member")]
    role: String,
    /// The groups they are in.
    #[schema(example = json!(["engineering"]))]
    groups: Vec<String>,
    /// A user who is not active can do nothing.
    active: bool,
    /// Whether they can sign in with a password of ours.
    has_password: bool,
    /// Whether that password is good for nothing but changing it.
    must_change_password: bool,
    /// When they last signed in.
    #[schema(required)]
    last_login_at: Option<DateTime<Utc>>,
    /// When they were made known.
    created_at: DateTime<Utc>,
    /// When they were last changed.
    updated_at: DateTime<Utc>,
}

impl From<users::User> for User {
    fn from(it: users::User) -> Self {
        let users::User { row, groups } = it;
        Self {
            id: row.id,
            username: row.username,
            email: row.email,
            name: row.name,
            role: row.role,
            groups,
            active: row.active,
            has_password: row.password.is_some(),
            must_change_password: row.must_change_password,
            last_login_at: row.last_login_at.map(from_micros),
            created_at: from_micros(row.created_at),
            updated_at: from_micros(row.updated_at),
        }
    }
}

type Shown = (ETag, Data<User>);

async fn find(services: &Services, id: &UserId) -> Result<users::User, ApiError> {
    users::find(&services.db, id.as_str()).await?.ok_or_else(ApiError::not_found)
}

async fn answer(services: &Services, id: &UserId) -> Result<Shown, ApiError> {
    let user = find(services, id).await?;
    Ok((ETag(user.row.etag), Data { data: user.into() }))
}

async fn execute(services: &Services, request: Request) -> Result<(), CommandError> {
    services.bus.execute::<Aggregate>(request).await.map(|_| ())
}

fn secret_id(stored: Option<String>) -> Result<Option<SecretId>, ApiError> {
    stored.map(|it| it.parse().map_err(ApiError::internal)).transpose()
}

/// Which users are listed.
#[derive(Deserialize, IntoParams)]
struct Users {
    /// Those with this role.
    role: Option<Role>,
    /// Those who are enabled, or those who are not.
    active: Option<bool>,
    /// The members of this group.
    group: Option<GroupName>,
}

impl Filter for Users {
    const SORT: &'static [&'static str] = users::SORT;
    const SEARCH: bool = true;
}

/// List users
///
/// `q` looks at user name, e-mail and name.
#[utoipa::path(
    get, path = "/admin/users", tag = "Users", operation_id = "listUsers",
    params(List<Users>),
    responses((status = 200, description = "A page of them", body = Page<User>))
)]
async fn list(
    _: Auditor,
    list: List<Users>,
    State(services): State<Arc<Services>>,
) -> Result<Page<User>, ApiError> {
    let wanted = list.wanted()?;
    let Users { role, active, group } = list.filter;
    let filter = users::Filter {
        role: role.map(|it| it.as_str().to_owned()),
        active,
        group: group.map(|it| it.to_string()),
    };
    let listed = users::list(&services.db, &wanted, &filter).await?;
    Ok(Page::listed(listed.map(User::from), list.paging))
}

/// Get a user
#[utoipa::path(
    get, path = "/admin/users/{id}", tag = "Users", operation_id = "getUser",
    params(("id" = UserId, Path, description = "The user's id")),
    responses((
        status = 200, description = "The user", body = Data<User>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn show(
    _: Auditor,
    Path(id): Path<UserId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    answer(&services, &id).await
}

/// Create a local user
///
/// Those who come by single sign-on need not be created.
#[utoipa::path(
    post, path = "/admin/users", tag = "Users", operation_id = "createUser",
    params(IdempotencyKey),
    request_body = CreateUser,
    responses(
        (
            status = 201, description = "Created", body = Data<User>,
            headers(
                ("Location" = String, description = "Where they are found"),
                ("ETag" = String, description = "For `If-Match`"),
            )
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another user has the user name or the e-mail address"
        ),
    )
)]
async fn create(
    admin: Admin,
    State(services): State<Arc<Services>>,
    Creating { body, creation }: Creating<CreateUser>,
) -> Result<Answer, ApiError> {
    let sealed = match &body.password {
        Some(it) => Some(seal_password(&services, it, &body.username, &body.email).await?),
        None => None,
    };
    let id: UserId = services.entropy.id()?;
    let command = Command::Create {
        profile: profile(&id, body.username, body.email, body.name),
        role: body.role,
        groups: body.groups,
        password: sealed.as_ref().map(|it| it.id.clone()),
        must_change_password: body.must_change_password,
    };
    let request = Request::new::<Aggregate>(&id, command, admin.metadata(None)).fresh();
    let request = sealed.into_iter().fold(request, Request::with_secret);
    let location = format!("/api/v1/admin/users/{id}");
    let make = move |events: &[Recorded]| {
        let row: UserRow = row(&users::Users, events)?;
        let etag = row.etag;
        let groups = fresh::<UserGroupRow>(&users::Users, events);
        let groups = groups.into_iter().map(|it| it.group_name).collect();
        let user = User::from(users::User { row, groups });
        Ok(Answer::created(location.clone(), &user)?.etag(etag))
    };
    Ok(creation.create::<Aggregate>(request, make).await?)
}

/// Change a user
///
/// Replaces who they are and what they may do. Another role ends their web logins.
#[utoipa::path(
    put, path = "/admin/users/{id}", tag = "Users", operation_id = "updateUser",
    params(("id" = UserId, Path, description = "The user's id"), IfMatch),
    request_body = UpdateUser,
    responses(
        (
            status = 200, description = "Changed", body = Data<User>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another user has the user name or the e-mail address; \
                           `last_admin`: one must be left"
        ),
    )
)]
async fn update(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<UserId>,
    State(services): State<Arc<Services>>,
    Json(body): Json<UpdateUser>,
) -> Result<Shown, ApiError> {
    let row = find(&services, &id).await?.row;
    revise(&services, &admin, &id, body, if_match.revision(row.etag, row.revision)?).await
}

/// Patch a user
///
/// Changes the fields that are named, as a JSON merge patch (RFC 7396): null gives a field its
/// default, and the rest stays as it is. Another role ends their web logins.
#[utoipa::path(
    patch, path = "/admin/users/{id}", tag = "Users", operation_id = "patchUser",
    params(("id" = UserId, Path, description = "The user's id"), IfMatch),
    request_body(content(
        (UserPatch = "application/json"), (UserPatch = "application/merge-patch+json")
    )),
    responses(
        (
            status = 200, description = "Changed", body = Data<User>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (
            status = 409, body = ErrorBody,
            description = "`already_taken`: another user has the user name or the e-mail address; \
                           `last_admin`: one must be left"
        ),
    )
)]
async fn patch(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<UserId>,
    State(services): State<Arc<Services>>,
    patch: UserPatch,
) -> Result<Shown, ApiError> {
    unless_overtaken(&if_match, || async {
        let user = find(&services, &id).await?;
        if_match.check(user.row.etag)?;
        let revision = Some(user.row.revision);
        let body = patch.onto(&User::from(user))?;
        revise(&services, &admin, &id, body, revision).await
    })
    .await
}

async fn revise(
    services: &Services,
    admin: &Admin,
    id: &UserId,
    body: UpdateUser,
    revision: Option<i64>,
) -> Result<Shown, ApiError> {
    let command = Command::Revise {
        profile: profile(id, body.username, body.email, body.name),
        role: body.role,
    };
    let request =
        Request::new::<Aggregate>(id, command, admin.metadata(None)).if_revision(revision);
    execute(services, request).await?;
    answer(services, id).await
}

/// Delete a user
///
/// Their sessions and API keys are refused from now on, their certificates are revoked and their
/// connections end. What they did stays in the history.
#[utoipa::path(
    delete, path = "/admin/users/{id}", tag = "Users", operation_id = "deleteUser",
    params(("id" = UserId, Path, description = "The user's id"), IfMatch),
    responses(
        (status = 200, description = "They are gone", body = Data<Reference>),
        (status = 409, description = "`last_admin`: one must be left", body = ErrorBody),
    )
)]
async fn remove(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<UserId>,
    State(services): State<Arc<Services>>,
) -> Result<Data<Reference>, ApiError> {
    let found = users::find_any(&services.db, id.as_str()).await?;
    let row = found.ok_or_else(ApiError::not_found)?.row;
    if row.deleted_at.is_none() {
        let request = Request::new::<Aggregate>(&id, Command::Delete, admin.metadata(None))
            .if_revision(if_match.revision(row.etag, row.revision)?);
        let request = secret_id(row.password)?.into_iter().fold(request, Request::forget);
        execute(&services, request).await?;
    }
    Ok(Reference::to(id))
}

/// Change a user's groups
///
/// Replaces all of them. Those who come by single sign-on get theirs from there at each login.
#[utoipa::path(
    put, path = "/admin/users/{id}/groups", tag = "Users", operation_id = "updateUserGroups",
    params(("id" = UserId, Path, description = "The user's id"), IfMatch),
    request_body = UserGroups,
    responses((
        status = 200, description = "Changed", body = Data<User>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn change_groups(
    admin: Admin,
    if_match: IfMatch,
    Path(id): Path<UserId>,
    State(services): State<Arc<Services>>,
    Json(body): Json<UserGroups>,
) -> Result<Shown, ApiError> {
    let row = find(&services, &id).await?.row;
    let command = Command::ChangeGroups(body.groups);
    let request = Request::new::<Aggregate>(&id, command, admin.metadata(None))
        .if_revision(if_match.revision(row.etag, row.revision)?);
    execute(&services, request).await?;
    answer(&services, &id).await
}

/// Give a user another password
///
/// For those who have lost theirs, or had none. It ends their web logins.
#[utoipa::path(
    put, path = "/admin/users/{id}/password", tag = "Users", operation_id = "updateUserPassword",
    params(("id" = UserId, Path, description = "The user's id")),
    request_body = UserPassword,
    responses((
        status = 200, description = "Changed", body = Data<User>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn change_password(
    admin: Admin,
    Path(id): Path<UserId>,
    State(services): State<Arc<Services>>,
    Json(body): Json<UserPassword>,
) -> Result<Shown, ApiError> {
    let row = find(&services, &id).await?.row;
    // Whose name was erased has none that the password could be.
    let parsed = |text: Option<String>| text.ok_or_else(ApiError::not_found);
    let username: Username = parsed(row.username)?.parse().map_err(ApiError::internal)?;
    let email: Email = parsed(row.email)?.parse().map_err(ApiError::internal)?;
    let sealed = seal_password(&services, &body.password, &username, &email).await?;
    let command = Command::ChangePassword {
        password: sealed.id.clone(),
        must_change_password: body.must_change_password,
        expected: None,
    };
    let request = Request::new::<Aggregate>(&id, command, admin.metadata(None)).with_secret(sealed);
    let request = secret_id(row.password)?.into_iter().fold(request, Request::forget);
    execute(&services, request).await?;
    answer(&services, &id).await
}

/// Disable a user
///
/// They can do nothing until they are enabled again: their sessions and API keys are refused, and
/// live connections reach nothing any more.
#[utoipa::path(
    post, path = "/admin/users/{id}/disable", tag = "Users", operation_id = "disableUser",
    params(("id" = UserId, Path, description = "The user's id")),
    responses(
        (
            status = 200, description = "They are disabled", body = Data<User>,
            headers(("ETag" = String, description = "For `If-Match`"))
        ),
        (status = 409, description = "`last_admin`: one must be left", body = ErrorBody),
    )
)]
async fn disable(
    admin: Admin,
    Path(id): Path<UserId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    let request = Request::new::<Aggregate>(&id, Command::Disable, admin.metadata(None));
    execute(&services, request).await?;
    answer(&services, &id).await
}

/// Enable a user
#[utoipa::path(
    post, path = "/admin/users/{id}/enable", tag = "Users", operation_id = "enableUser",
    params(("id" = UserId, Path, description = "The user's id")),
    responses((
        status = 200, description = "They are enabled", body = Data<User>,
        headers(("ETag" = String, description = "For `If-Match`"))
    ))
)]
async fn enable(
    admin: Admin,
    Path(id): Path<UserId>,
    State(services): State<Arc<Services>>,
) -> Result<Shown, ApiError> {
    let request = Request::new::<Aggregate>(&id, Command::Enable, admin.metadata(None));
    execute(&services, request).await?;
    answer(&services, &id).await
}
