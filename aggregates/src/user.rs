//! A user: a person who may sign in, what they may do, and their API keys.

use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{
    ApiKeyId, Cidr, DisplayName, Email, GroupName, ResourceName, Role, Scope, SecretId, TokenHash,
    Username,
};
use crate::{Claim, ClaimKind, Personal};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Most groups of a user.
pub const MAX_GROUPS: usize = 200;
/// Most API keys of a user that are neither revoked nor expired.
pub const MAX_API_KEYS: usize = 100;
/// Most API keys that one user ever makes: a stream must stay short.
pub const MAX_API_KEYS_EVER: usize = 1000;
/// Most source networks of an API key.
pub const MAX_SOURCE_CIDRS: usize = 32;
/// Longest part of an API key that is shown, so that no whole key gets into the log by mistake.
pub const MAX_KEY_PREFIX: usize = 16;
/// Most scopes of an API key; there are fewer.
pub const MAX_SCOPES: usize = 64;

/// Who a user is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Profile {
    /// Unique among users.
    pub username: Personal<Username>,
    /// Unique among users.
    pub email: Personal<Email>,
    /// What they are called.
    pub name: Option<Personal<DisplayName>>,
}

/// A key that acts as its owner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What its owner calls it.
    pub name: ResourceName,
    /// The first characters of the key, to recognise it by; at most [`MAX_KEY_PREFIX`].
    pub prefix: String,
    /// Hash of the key.
    pub key_hash: TokenHash,
    /// What it may do, as far as its owner may; each once.
    pub scopes: Vec<Scope>,
    /// When it ends by itself; none: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Where it may be used from; empty: anywhere.
    pub source_cidrs: Vec<Cidr>,
    /// The key that it was made with, where it was one: it lasts no longer than that. That may be
    /// another user's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<ApiKeyId>,
}

/// What is remembered of an API key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// The key that it was made with.
    pub created_by: Option<ApiKeyId>,
    /// Whether it was revoked.
    pub revoked: bool,
}

impl KeyStatus {
    fn is_live(&self, now: DateTime<Utc>) -> bool {
        !self.revoked && self.expires_at.is_none_or(|end| end > now)
    }
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// None before it is created.
    pub profile: Option<Profile>,
    /// What they may do.
    pub role: Role,
    /// The groups they are in.
    pub groups: BTreeSet<GroupName>,
    /// Where the password's hash is kept; none: single sign-on only.
    pub password: Option<SecretId>,
    /// Whether the password is good for nothing but changing it.
    pub must_change_password: bool,
    /// A disabled user can do nothing.
    pub disabled: bool,
    /// Deleted ones stay deleted.
    pub deleted: bool,
    /// Every key they ever had.
    pub api_keys: BTreeMap<ApiKeyId, KeyStatus>,
}

/// What can be asked of a user.
#[derive(Clone, Debug)]
pub enum Command {
    /// Make them known.
    Create {
        /// Who they are.
        profile: Profile,
        /// What they may do.
        role: Role,
        /// The groups they are in.
        groups: BTreeSet<GroupName>,
        /// Where the password's hash is kept; none: single sign-on only.
        password: Option<SecretId>,
        /// Whether the password must be changed at first login; without a password, no.
        must_change_password: bool,
    },
    /// Replace who they are.
    Update(Profile),
    /// Replace who they are and what they may do, at once.
    Revise {
        /// Who they are.
        profile: Profile,
        /// What they may do.
        role: Role,
    },
    /// Replace what they may do.
    ChangeRole(Role),
    /// Replace the groups they are in.
    ChangeGroups(BTreeSet<GroupName>),
    /// Replace, or give, a password.
    ChangePassword {
        /// Where the new one's hash is kept.
        password: SecretId,
        /// Whether it must be changed at next login.
        must_change_password: bool,
        /// Where the hash is kept of the password that was shown to be known; none: nothing was
        /// shown, an admin gives another one.
        expected: Option<SecretId>,
    },
    /// Shut them out.
    Disable,
    /// Let them in again.
    Enable,
    /// Give them a key.
    CreateApiKey {
        /// Which.
        api_key: ApiKey,
        /// The time now: expired keys do not count.
        now: DateTime<Utc>,
    },
    /// Take a key away, and those that were made with it.
    RevokeApiKey(ApiKeyId),
    /// Remove them.
    Delete,
}

/// What happened to a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// They were made known.
    Created {
        /// Who they are.
        profile: Profile,
        /// What they may do.
        role: Role,
        /// The groups they are in.
        groups: BTreeSet<GroupName>,
        /// Where the password's hash is kept.
        password: Option<SecretId>,
        /// Whether the password must be changed at first login.
        must_change_password: bool,
    },
    /// Who they are was replaced.
    Updated {
        /// Who they are now.
        profile: Profile,
    },
    /// What they may do was replaced.
    RoleChanged {
        /// What they may do now.
        role: Role,
    },
    /// The groups they are in were replaced.
    GroupsChanged {
        /// All of them.
        groups: BTreeSet<GroupName>,
    },
    /// They have another password.
    PasswordChanged {
        /// Where its hash is kept.
        password: SecretId,
        /// Whether it must be changed at next login.
        must_change_password: bool,
    },
    /// They were shut out.
    Disabled {},
    /// They were let in again.
    Enabled {},
    /// They were given a key.
    ApiKeyCreated {
        /// Which.
        api_key: ApiKey,
    },
    /// A key was taken away.
    ApiKeyRevoked {
        /// Which.
        id: ApiKeyId,
    },
    /// They were removed.
    Deleted {},
}

/// Why a command on a user was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none with that id.
    #[error("there is no such user")]
    NotFound,
    /// The id is in use.
    #[error("this user exists already")]
    AlreadyCreated,
    /// More than [`MAX_GROUPS`].
    #[error("must be at most {MAX_GROUPS} groups")]
    TooManyGroups,
    /// A password that was confirmed is not theirs any more.
    #[error("the password was changed meanwhile; sign in again")]
    PasswordChanged,
    /// A key for somebody who was shut out.
    #[error("this user is disabled")]
    Disabled,
    /// More than [`MAX_API_KEYS`].
    #[error("this user has {MAX_API_KEYS} API keys; revoke one first")]
    TooManyApiKeys,
    /// The key's id is in use.
    #[error("this API key exists already")]
    ApiKeyExists,
    /// The user never had that key.
    #[error("there is no such API key")]
    ApiKeyNotFound,
    /// A key that may do nothing.
    #[error("must name at least one scope")]
    NoScope,
    /// More than [`MAX_SCOPES`], or one of them twice.
    #[error("must be at most {MAX_SCOPES} scopes, each once")]
    TooManyScopes,
    /// The key that makes it has just been revoked.
    #[error("the API key that makes it is revoked")]
    MakerRevoked,
    /// A key that has expired when it is made.
    #[error("must be in the future")]
    ExpiryPast,
    /// More than [`MAX_SOURCE_CIDRS`].
    #[error("must be at most {MAX_SOURCE_CIDRS} networks")]
    TooManySourceCidrs,
    /// Longer than [`MAX_KEY_PREFIX`].
    #[error("must be at most {MAX_KEY_PREFIX} characters of the key")]
    PrefixTooLong,
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "user_not_found",
            Self::AlreadyCreated => "user_exists",
            Self::TooManyGroups => "invalid_user",
            Self::PasswordChanged => "password_changed",
            Self::Disabled => "user_disabled",
            Self::TooManyApiKeys => "too_many_api_keys",
            Self::ApiKeyExists => "api_key_exists",
            Self::ApiKeyNotFound => "api_key_not_found",
            Self::MakerRevoked => "api_key_revoked",
            Self::NoScope
            | Self::TooManyScopes
            | Self::ExpiryPast
            | Self::TooManySourceCidrs
            | Self::PrefixTooLong => "invalid_api_key",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound | Self::ApiKeyNotFound => RefusalKind::NotFound,
            Self::AlreadyCreated
            | Self::PasswordChanged
            | Self::Disabled
            | Self::TooManyApiKeys
            | Self::ApiKeyExists
            | Self::MakerRevoked => RefusalKind::Conflict,
            Self::TooManyGroups
            | Self::NoScope
            | Self::TooManyScopes
            | Self::ExpiryPast
            | Self::TooManySourceCidrs
            | Self::PrefixTooLong => RefusalKind::Invalid,
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::TooManyGroups => Some("groups"),
            Self::NoScope | Self::TooManyScopes => Some("scopes"),
            Self::ExpiryPast => Some("expires_at"),
            Self::TooManySourceCidrs => Some("source_cidrs"),
            Self::PrefixTooLong => Some("prefix"),
            _ => None,
        }
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Created { .. } => "user.created",
            Self::Updated { .. } => "user.updated",
            Self::RoleChanged { .. } => "user.role_changed",
            Self::GroupsChanged { .. } => "user.groups_changed",
            Self::PasswordChanged { .. } => "user.password_changed",
            Self::Disabled {} => "user.disabled",
            Self::Enabled {} => "user.enabled",
            Self::ApiKeyCreated { .. } => "user.api_key_created",
            Self::ApiKeyRevoked { .. } => "user.api_key_revoked",
            Self::Deleted {} => "user.deleted",
        }
    }

    fn is_configuration(&self) -> bool {
        match self {
            Self::Created { .. }
            | Self::Updated { .. }
            | Self::RoleChanged { .. }
            | Self::GroupsChanged { .. }
            | Self::Disabled {}
            | Self::Enabled {}
            | Self::Deleted {} => true,
            Self::PasswordChanged { .. }
            | Self::ApiKeyCreated { .. }
            | Self::ApiKeyRevoked { .. } => false,
        }
    }
}

aggregate!(User, "user");

impl Root for User {
    fn exists(&self) -> bool {
        self.profile.is_some() && !self.deleted
    }

    fn claims(&self, id: &str) -> Vec<Claim> {
        let Some(profile) = self.profile.as_ref().filter(|_| !self.deleted) else {
            return Vec::new();
        };
        // Both are lower case already. What was erased can be claimed no more.
        let username =
            profile.username.open().map(|it| Claim::new(ClaimKind::Username, it.as_str()));
        let email = profile.email.open().map(|it| Claim::new(ClaimKind::UserEmail, it.as_str()));
        let admin = self.is_active_admin().then(|| Claim::new(ClaimKind::ActiveAdmin, id));
        username.into_iter().chain(email).chain(admin).collect()
    }
}

impl User {
    /// Whether they can manage everything, now.
    pub fn is_active_admin(&self) -> bool {
        self.exists() && !self.disabled && self.role == Role::Admin
    }

    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        if let Command::Create { profile, role, groups, password, must_change_password } = command {
            if self.profile.is_some() {
                return Err(Error::AlreadyCreated);
            }
            check_groups(&groups)?;
            let must_change_password = must_change_password && password.is_some();
            return Ok(vec![Event::Created {
                profile,
                role,
                groups,
                password,
                must_change_password,
            }]);
        }
        if self.deleted && matches!(command, Command::Delete) {
            return Ok(Vec::new());
        }
        if !self.exists() {
            return Err(Error::NotFound);
        }
        // Asking for what is so already is no change, and no event.
        let event = match command {
            Command::Create { .. } => None,
            Command::Update(profile) => self.updated(profile),
            Command::Revise { profile, role } => {
                return Ok(self
                    .updated(profile)
                    .into_iter()
                    .chain(self.role_changed(role))
                    .collect());
            }
            Command::ChangeRole(role) => self.role_changed(role),
            Command::ChangeGroups(groups) => {
                check_groups(&groups)?;
                (self.groups != groups).then_some(Event::GroupsChanged { groups })
            }
            Command::ChangePassword { password, must_change_password, expected } => {
                if expected.is_some() && expected != self.password {
                    return Err(Error::PasswordChanged);
                }
                let changed = self.password.as_ref() != Some(&password)
                    || self.must_change_password != must_change_password;
                changed.then_some(Event::PasswordChanged { password, must_change_password })
            }
            Command::Disable => (!self.disabled).then_some(Event::Disabled {}),
            Command::Enable => self.disabled.then_some(Event::Enabled {}),
            Command::CreateApiKey { api_key, now } => {
                self.check_api_key(&api_key, now)?;
                Some(Event::ApiKeyCreated { api_key })
            }
            Command::RevokeApiKey(id) => return self.revoked(id),
            Command::Delete => Some(Event::Deleted {}),
        };
        Ok(event.into_iter().collect())
    }

    fn updated(&self, profile: Profile) -> Option<Event> {
        (self.profile.as_ref() != Some(&profile)).then_some(Event::Updated { profile })
    }

    fn role_changed(&self, role: Role) -> Option<Event> {
        (self.role != role).then_some(Event::RoleChanged { role })
    }

    fn check_api_key(&self, key: &ApiKey, now: DateTime<Utc>) -> Result<(), Error> {
        if self.disabled {
            return Err(Error::Disabled);
        }
        if self.api_keys.contains_key(&key.id) {
            return Err(Error::ApiKeyExists);
        }
        // Another user's key is not known here: whoever asks vouches for it.
        let maker = key.created_by.as_ref().and_then(|id| self.api_keys.get(id));
        if maker.is_some_and(|it| it.revoked) {
            return Err(Error::MakerRevoked);
        }
        if key.scopes.is_empty() {
            return Err(Error::NoScope);
        }
        let distinct: BTreeSet<_> = key.scopes.iter().collect();
        if distinct.len() != key.scopes.len() || key.scopes.len() > MAX_SCOPES {
            return Err(Error::TooManyScopes);
        }
        if key.expires_at.is_some_and(|end| end <= now) {
            return Err(Error::ExpiryPast);
        }
        if key.source_cidrs.len() > MAX_SOURCE_CIDRS {
            return Err(Error::TooManySourceCidrs);
        }
        if key.prefix.chars().count() > MAX_KEY_PREFIX {
            return Err(Error::PrefixTooLong);
        }
        let live = self.api_keys.values().filter(|it| it.is_live(now)).count();
        if live >= MAX_API_KEYS || self.api_keys.len() >= MAX_API_KEYS_EVER {
            return Err(Error::TooManyApiKeys);
        }
        Ok(())
    }

    /// A key ends, and with it every key that was made with it, and with those in turn.
    fn revoked(&self, id: ApiKeyId) -> Result<Vec<Event>, Error> {
        if self.api_keys.get(&id).ok_or(Error::ApiKeyNotFound)?.revoked {
            return Ok(Vec::new());
        }
        let mut ended = vec![id];
        let mut next = 0;
        while let Some(maker) = ended.get(next).cloned() {
            let made = |it: &KeyStatus| !it.revoked && it.created_by.as_ref() == Some(&maker);
            let more: Vec<_> = self
                .api_keys
                .iter()
                .filter(|(id, it)| made(it) && !ended.contains(id))
                .map(|(id, _)| id.clone())
                .collect();
            ended.extend(more);
            next += 1;
        }
        Ok(ended.into_iter().map(|id| Event::ApiKeyRevoked { id }).collect())
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Created { profile, role, groups, password, must_change_password } => {
                self.profile = Some(profile);
                self.role = role;
                self.groups = groups;
                self.password = password;
                self.must_change_password = must_change_password;
            }
            Event::Updated { profile } => self.profile = Some(profile),
            Event::RoleChanged { role } => self.role = role,
            Event::GroupsChanged { groups } => self.groups = groups,
            Event::PasswordChanged { password, must_change_password } => {
                self.password = Some(password);
                self.must_change_password = must_change_password;
            }
            Event::Disabled {} => self.disabled = true,
            Event::Enabled {} => self.disabled = false,
            Event::ApiKeyCreated { api_key } => {
                let status = KeyStatus {
                    expires_at: api_key.expires_at,
                    created_by: api_key.created_by,
                    revoked: false,
                };
                self.api_keys.insert(api_key.id, status);
            }
            Event::ApiKeyRevoked { id } => {
                if let Some(key) = self.api_keys.get_mut(&id) {
                    key.revoked = true;
                }
            }
            Event::Deleted {} => self.deleted = true,
        }
    }
}

fn check_groups(groups: &BTreeSet<GroupName>) -> Result<(), Error> {
    if groups.len() > MAX_GROUPS { Err(Error::TooManyGroups) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arbitrary;
    use crate::samples::{adas, after, answer, at, digest, erased, value};
    use cqrs_es::Aggregate;
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn given(events: Vec<Event>) -> AggregateTestExecutor<User> {
        TestFramework::with(()).given(events)
    }

    fn profile() -> Profile {
        Profile {
            username: adas("Ada"),
            email: adas("Ada@Example.com"),
            name: Some(adas("Ada Lovelace")),
        }
    }

    fn groups(count: usize) -> BTreeSet<GroupName> {
        (0..count).map(|n| value(&format!("group {n}"))).collect()
    }

    fn create(groups: BTreeSet<GroupName>, password: Option<SecretId>) -> Command {
        Command::Create {
            profile: profile(),
            role: Role::Admin,
            groups,
            password,
            must_change_password: true,
        }
    }

    fn change_password(id: &str, must_change_password: bool, expected: Option<&str>) -> Command {
        Command::ChangePassword {
            password: value(id),
            must_change_password,
            expected: expected.map(value),
        }
    }

    fn created_as(role: Role) -> Event {
        Event::Created {
            profile: profile(),
            role,
            groups: groups(2),
            password: Some(value("sec-first")),
            must_change_password: true,
        }
    }

    fn created() -> Event {
        created_as(Role::Admin)
    }

    fn deleted() -> Vec<Event> {
        vec![created(), Event::Deleted {}]
    }

    fn key(id: &str) -> ApiKey {
        ApiKey {
            id: value(id),
            name: value("terraform"),
            prefix: "gk_abcdefgh".to_owned(),
            key_hash: value(&digest('a')),
            scopes: vec![Scope::All],
            expires_at: Some(at(60)),
            source_cidrs: vec![value("10.0.0.0/8")],
            created_by: None,
        }
    }

    fn create_key(api_key: ApiKey) -> Command {
        Command::CreateApiKey { api_key, now: at(0) }
    }

    #[tokio::test]
    async fn they_are_created_once() {
        let create = create(groups(2), Some(value("sec-first")));
        given(vec![]).when_async(create.clone()).await.then_expect_events(vec![created()]);
        for history in [vec![created()], deleted()] {
            given(history)
                .when_async(create.clone())
                .await
                .then_expect_error(Error::AlreadyCreated);
        }
    }

    #[tokio::test]
    async fn without_a_password_there_is_none_to_change() {
        given(vec![]).when_async(create(groups(0), None)).await.then_expect_events(vec![
            Event::Created {
                profile: profile(),
                role: Role::Admin,
                groups: groups(0),
                password: None,
                must_change_password: false,
            },
        ]);
    }

    #[tokio::test]
    async fn nothing_can_be_asked_of_none() {
        let commands = [
            Command::Update(profile()),
            Command::Revise { profile: profile(), role: Role::Admin },
            Command::ChangeRole(Role::Admin),
            Command::ChangeGroups(groups(1)),
            change_password("sec-new", false, None),
            Command::Disable,
            Command::Enable,
            create_key(key("key-1")),
            Command::RevokeApiKey(value("key-1")),
        ];
        for command in commands {
            for history in [vec![], deleted()] {
                given(history).when_async(command.clone()).await.then_expect_error(Error::NotFound);
            }
        }
    }

    #[tokio::test]
    async fn each_change_is_news_once() {
        let renamed = Profile { name: None, ..profile() };
        let changes = [
            (Command::Update(renamed.clone()), Event::Updated { profile: renamed }),
            (Command::ChangeRole(Role::Auditor), Event::RoleChanged { role: Role::Auditor }),
            (
                Command::ChangeGroups(groups(MAX_GROUPS)),
                Event::GroupsChanged { groups: groups(MAX_GROUPS) },
            ),
            (
                change_password("sec-new", false, None),
                Event::PasswordChanged { password: value("sec-new"), must_change_password: false },
            ),
            (Command::Disable, Event::Disabled {}),
        ];
        for (command, event) in changes {
            given(vec![created()])
                .when_async(command.clone())
                .await
                .then_expect_events(vec![event.clone()]);
            given(vec![created(), event]).when_async(command).await.then_expect_events(vec![]);
        }
    }

    #[tokio::test]
    async fn asking_for_what_is_so_already_is_no_news() {
        let commands = [
            Command::Update(profile()),
            Command::Revise { profile: profile(), role: Role::Admin },
            Command::ChangeRole(Role::Admin),
            Command::ChangeGroups(groups(2)),
            change_password("sec-first", true, None),
            Command::Enable,
        ];
        for command in commands {
            given(vec![created()]).when_async(command).await.then_expect_events(vec![]);
        }
    }

    #[tokio::test]
    async fn a_revision_is_as_many_events_as_it_changes_things() {
        let renamed = Profile { name: None, ..profile() };
        let (updated, demoted) = (
            Event::Updated { profile: renamed.clone() },
            Event::RoleChanged { role: Role::Member },
        );
        for (profile, role, events) in [
            (renamed.clone(), Role::Member, vec![updated.clone(), demoted.clone()]),
            (renamed, Role::Admin, vec![updated]),
            (profile(), Role::Member, vec![demoted]),
        ] {
            given(vec![created()])
                .when_async(Command::Revise { profile, role })
                .await
                .then_expect_events(events);
        }
    }

    #[tokio::test]
    async fn the_disabled_are_let_in_again() {
        given(vec![created(), Event::Disabled {}])
            .when_async(Command::Enable)
            .await
            .then_expect_events(vec![Event::Enabled {}]);
        given(vec![created(), Event::Disabled {}, Event::Enabled {}])
            .when_async(Command::Disable)
            .await
            .then_expect_events(vec![Event::Disabled {}]);
    }

    #[tokio::test]
    async fn a_password_may_have_to_be_changed_once_more() {
        given(vec![created()])
            .when_async(change_password("sec-first", false, None))
            .await
            .then_expect_events(vec![Event::PasswordChanged {
                password: value("sec-first"),
                must_change_password: false,
            }]);
    }

    #[tokio::test]
    async fn a_password_that_was_confirmed_must_still_be_theirs() {
        let changed =
            |id: &str| Event::PasswordChanged { password: value(id), must_change_password: false };
        let change = change_password("sec-new", false, Some("sec-first"));
        given(vec![created()])
            .when_async(change.clone())
            .await
            .then_expect_events(vec![changed("sec-new")]);
        given(vec![created(), changed("sec-reset")])
            .when_async(change)
            .await
            .then_expect_error(Error::PasswordChanged);
        // Who signs in otherwise has confirmed none.
        let without = Event::Created {
            profile: profile(),
            role: Role::Member,
            groups: groups(0),
            password: None,
            must_change_password: false,
        };
        given(vec![without])
            .when_async(change_password("sec-new", false, Some("sec-first")))
            .await
            .then_expect_error(Error::PasswordChanged);
        let answered = answer(&Error::PasswordChanged);
        assert_eq!(answered, ("password_changed", RefusalKind::Conflict, None));
    }

    #[tokio::test]
    async fn too_many_groups_are_refused() {
        let many = groups(MAX_GROUPS + 1);
        given(vec![])
            .when_async(create(many.clone(), None))
            .await
            .then_expect_error(Error::TooManyGroups);
        given(vec![created()])
            .when_async(Command::ChangeGroups(many))
            .await
            .then_expect_error(Error::TooManyGroups);
    }

    #[tokio::test]
    async fn they_are_deleted_once_and_never_if_they_never_were() {
        given(vec![created()])
            .when_async(Command::Delete)
            .await
            .then_expect_events(vec![Event::Deleted {}]);
        given(deleted()).when_async(Command::Delete).await.then_expect_events(vec![]);
        given(vec![]).when_async(Command::Delete).await.then_expect_error(Error::NotFound);
    }

    #[tokio::test]
    async fn a_key_is_created_once_and_revoked_once() {
        let key_created = Event::ApiKeyCreated { api_key: key("key-1") };
        let key_revoked = Event::ApiKeyRevoked { id: value("key-1") };
        let revoke = Command::RevokeApiKey(value("key-1"));
        let with = vec![created(), key_created.clone()];
        let without = vec![created(), key_created.clone(), key_revoked.clone()];
        given(vec![created()])
            .when_async(create_key(key("key-1")))
            .await
            .then_expect_events(vec![key_created]);
        given(with.clone()).when_async(revoke.clone()).await.then_expect_events(vec![key_revoked]);
        given(without.clone()).when_async(revoke.clone()).await.then_expect_events(vec![]);
        given(vec![created()]).when_async(revoke).await.then_expect_error(Error::ApiKeyNotFound);
        for history in [with, without] {
            given(history)
                .when_async(create_key(key("key-1")))
                .await
                .then_expect_error(Error::ApiKeyExists);
        }
    }

    #[tokio::test]
    async fn a_key_that_makes_no_sense_is_refused() {
        let net: Cidr = value("10.0.0.0/8");
        let wrong = [
            (ApiKey { scopes: vec![], ..key("key-1") }, Error::NoScope),
            (
                ApiKey { scopes: vec![Scope::Read, Scope::Read], ..key("key-1") },
                Error::TooManyScopes,
            ),
            (ApiKey { expires_at: Some(at(0)), ..key("key-1") }, Error::ExpiryPast),
            (
                ApiKey { source_cidrs: vec![net; MAX_SOURCE_CIDRS + 1], ..key("key-1") },
                Error::TooManySourceCidrs,
            ),
            (
                ApiKey { prefix: "k".repeat(MAX_KEY_PREFIX + 1), ..key("key-1") },
                Error::PrefixTooLong,
            ),
        ];
        for (wrong, error) in wrong {
            given(vec![created()]).when_async(create_key(wrong)).await.then_expect_error(error);
        }
        let widest = ApiKey {
            expires_at: None,
            source_cidrs: vec![net; MAX_SOURCE_CIDRS],
            prefix: "k".repeat(MAX_KEY_PREFIX),
            ..key("key-1")
        };
        given(vec![created()])
            .when_async(create_key(widest.clone()))
            .await
            .then_expect_events(vec![Event::ApiKeyCreated { api_key: widest }]);
    }

    #[tokio::test]
    async fn with_a_key_ends_what_was_made_with_it() {
        let made_with = |id: &str, maker: &str| Event::ApiKeyCreated {
            api_key: ApiKey { created_by: Some(value(maker)), ..key(id) },
        };
        let revoked = |id: &str| Event::ApiKeyRevoked { id: value(id) };
        let history = vec![
            created(),
            Event::ApiKeyCreated { api_key: key("key-1") },
            made_with("key-2", "key-1"),
            made_with("key-3", "key-2"),
            made_with("key-4", "key-1"),
            made_with("key-5", "key-of-another-user"),
            Event::ApiKeyCreated { api_key: key("key-6") },
            revoked("key-4"),
        ];
        let revoke = |id: &str| Command::RevokeApiKey(value(id));
        given(history.clone()).when_async(revoke("key-1")).await.then_expect_events(vec![
            revoked("key-1"),
            revoked("key-2"),
            revoked("key-3"),
        ]);
        given(history.clone())
            .when_async(revoke("key-3"))
            .await
            .then_expect_events(vec![revoked("key-3")]);
        // It makes no more of them.
        let late = ApiKey { created_by: Some(value("key-4")), ..key("key-7") };
        given(history.clone())
            .when_async(create_key(late))
            .await
            .then_expect_error(Error::MakerRevoked);
        let foreign = ApiKey { created_by: Some(value("key-of-another-user")), ..key("key-7") };
        given(history)
            .when_async(create_key(foreign.clone()))
            .await
            .then_expect_events(vec![Event::ApiKeyCreated { api_key: foreign }]);
    }

    #[test]
    fn a_key_of_the_first_logs_is_still_read() {
        let stored = serde_json::json!({"api_key_created": {"api_key": {
            "id": "key-1", "name": "terraform", "prefix": "gk_abcdefgh",
            "key_hash": digest('a'), "scopes": ["*"], "expires_at": null, "source_cidrs": []}}});
        let event: Event = serde_json::from_value(stored.clone()).unwrap();
        let Event::ApiKeyCreated { api_key } = &event else { panic!("{event:?}") };
        assert_eq!((&*api_key.scopes, &api_key.created_by), (&[Scope::All][..], &None));
        assert_eq!(serde_json::to_value(&event).unwrap(), stored);
    }

    #[tokio::test]
    async fn the_disabled_get_no_key_but_lose_theirs() {
        let history =
            vec![created(), Event::ApiKeyCreated { api_key: key("key-1") }, Event::Disabled {}];
        given(history.clone())
            .when_async(create_key(key("key-2")))
            .await
            .then_expect_error(Error::Disabled);
        given(history)
            .when_async(Command::RevokeApiKey(value("key-1")))
            .await
            .then_expect_events(vec![Event::ApiKeyRevoked { id: value("key-1") }]);
    }

    #[tokio::test]
    async fn only_live_keys_are_counted() {
        let keys =
            (0..MAX_API_KEYS).map(|n| Event::ApiKeyCreated { api_key: key(&format!("key-{n}")) });
        let full: Vec<Event> = [created()].into_iter().chain(keys).collect();
        let next = key("key-next");
        given(full.clone())
            .when_async(create_key(next.clone()))
            .await
            .then_expect_error(Error::TooManyApiKeys);
        given(full.clone())
            .and(vec![Event::ApiKeyRevoked { id: value("key-7") }])
            .when_async(create_key(next.clone()))
            .await
            .then_expect_events(vec![Event::ApiKeyCreated { api_key: next.clone() }]);
        let later = ApiKey { expires_at: None, ..next };
        given(full)
            .when_async(Command::CreateApiKey { api_key: later.clone(), now: at(60) })
            .await
            .then_expect_events(vec![Event::ApiKeyCreated { api_key: later }]);
    }

    fn names() -> Vec<Claim> {
        vec![
            Claim::new(ClaimKind::Username, "ada"),
            Claim::new(ClaimKind::UserEmail, "ada@example.com"),
        ]
    }

    fn admin() -> Claim {
        Claim::new(ClaimKind::ActiveAdmin, "usr-ada")
    }

    fn claims(history: Vec<Event>) -> Vec<Claim> {
        after::<User>(history).claims("usr-ada")
    }

    #[test]
    fn they_claim_their_names_while_they_exist() {
        assert_eq!(claims(vec![created_as(Role::Member)]), names());
        assert_eq!(claims(vec![created_as(Role::Member), Event::Disabled {}]), names());
        assert_eq!(claims(deleted()), []);
        assert_eq!(claims(vec![]), []);
    }

    #[test]
    fn an_admin_counts_while_active() {
        let with_admin: Vec<_> = names().into_iter().chain([admin()]).collect();
        let demoted = Event::RoleChanged { role: Role::Auditor };
        let promoted = Event::RoleChanged { role: Role::Admin };
        assert_eq!(claims(vec![created()]), with_admin);
        assert_eq!(claims(vec![created(), Event::Disabled {}]), names());
        assert_eq!(claims(vec![created(), Event::Disabled {}, Event::Enabled {}]), with_admin);
        assert_eq!(claims(vec![created(), demoted.clone()]), names());
        assert_eq!(claims(vec![created(), demoted, promoted]), with_admin);
    }

    #[tokio::test]
    async fn the_erased_claim_no_name_and_can_still_be_dealt_with() {
        let nobody = Profile { username: erased(), email: erased(), name: Some(erased()) };
        let half = Profile { email: erased(), ..profile() };
        let history = vec![created(), Event::Updated { profile: nobody.clone() }];
        assert_eq!(claims(history.clone()), [admin()]);
        let half_erased = vec![created(), Event::Updated { profile: half }];
        assert_eq!(claims(half_erased), [names()[0].clone(), admin()]);
        given(history.clone()).when_async(Command::Update(nobody)).await.then_expect_events(vec![]);
        given(history)
            .when_async(Command::Delete)
            .await
            .then_expect_events(vec![Event::Deleted {}]);
    }

    #[test]
    fn neither_passwords_nor_keys_are_configuration() {
        let password_changed =
            Event::PasswordChanged { password: value("sec-new"), must_change_password: false };
        let key_created = Event::ApiKeyCreated { api_key: key("key-1") };
        let key_revoked = Event::ApiKeyRevoked { id: value("key-1") };
        let others = [password_changed, key_created, key_revoked];
        assert!(!others.iter().any(Fact::is_configuration));
        let configuration = [
            created(),
            Event::Updated { profile: profile() },
            Event::RoleChanged { role: Role::Member },
            Event::GroupsChanged { groups: groups(1) },
            Event::Disabled {},
            Event::Enabled {},
            Event::Deleted {},
        ];
        assert!(configuration.iter().all(Fact::is_configuration));
    }

    #[test]
    fn refusals_are_answered_by_code_kind_and_field() {
        use RefusalKind::{Conflict, Invalid, NotFound};
        let key = "invalid_api_key";
        let answers = [
            (Error::NotFound, ("user_not_found", NotFound, None)),
            (Error::AlreadyCreated, ("user_exists", Conflict, None)),
            (Error::TooManyGroups, ("invalid_user", Invalid, Some("groups"))),
            (Error::Disabled, ("user_disabled", Conflict, None)),
            (Error::TooManyApiKeys, ("too_many_api_keys", Conflict, None)),
            (Error::ApiKeyExists, ("api_key_exists", Conflict, None)),
            (Error::ApiKeyNotFound, ("api_key_not_found", NotFound, None)),
            (Error::NoScope, (key, Invalid, Some("scopes"))),
            (Error::TooManyScopes, (key, Invalid, Some("scopes"))),
            (Error::MakerRevoked, ("api_key_revoked", Conflict, None)),
            (Error::ExpiryPast, (key, Invalid, Some("expires_at"))),
            (Error::TooManySourceCidrs, (key, Invalid, Some("source_cidrs"))),
            (Error::PrefixTooLong, (key, Invalid, Some("prefix"))),
        ];
        for (error, expected) in answers {
            assert_eq!(answer(&error), expected);
        }
    }

    /// What the commands that were accepted should have made of a user.
    #[derive(Default)]
    struct Model {
        created: bool,
        admin: bool,
        disabled: bool,
        deleted: bool,
        profile: Option<Profile>,
    }

    impl Model {
        fn accept(&mut self, command: Command) {
            match command {
                Command::Create { profile, role, .. } => {
                    self.created = true;
                    self.admin = role == Role::Admin;
                    self.profile = Some(profile);
                }
                Command::Update(profile) => self.profile = Some(profile),
                Command::Revise { profile, role } => {
                    self.profile = Some(profile);
                    self.admin = role == Role::Admin;
                }
                Command::ChangeRole(role) => self.admin = role == Role::Admin,
                Command::Disable => self.disabled = true,
                Command::Enable => self.disabled = false,
                Command::Delete => self.deleted = true,
                Command::ChangeGroups(_)
                | Command::ChangePassword { .. }
                | Command::CreateApiKey { .. }
                | Command::RevokeApiKey(_) => {}
            }
        }

        fn claims(&self) -> BTreeSet<Claim> {
            let mut claims = BTreeSet::new();
            if !self.created || self.deleted {
                return claims;
            }
            if let Some(name) = self.profile.as_ref().and_then(|it| it.username.open()) {
                claims.insert(Claim::new(ClaimKind::Username, name.as_str()));
            }
            if let Some(email) = self.profile.as_ref().and_then(|it| it.email.open()) {
                claims.insert(Claim::new(ClaimKind::UserEmail, email.as_str()));
            }
            if self.admin && !self.disabled {
                claims.insert(admin());
            }
            claims
        }
    }

    proptest! {
        #[test]
        fn claims_are_exactly_the_names_and_the_active_admin(
            commands in vec(arbitrary::user_command(), 0..40),
        ) {
            let (mut user, mut model) = (User::default(), Model::default());
            for command in commands {
                if let Ok(events) = user.decide(command.clone()) {
                    model.accept(command);
                    for event in events {
                        user.apply(event);
                    }
                }
                let claims: BTreeSet<_> = user.claims("usr-ada").into_iter().collect();
                prop_assert_eq!(claims, model.claims());
            }
        }
    }
}
