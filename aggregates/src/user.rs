//! A user: a person who may sign in, what they may do, and their API keys.

use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{
    ApiKeyId, Cidr, DisplayName, Email, GroupName, ResourceName, Role, SecretId, TokenHash,
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
/// Most source networks of an API key.
pub const MAX_SOURCE_CIDRS: usize = 32;
/// Longest part of an API key that is shown, so that no whole key gets into the log by mistake.
pub const MAX_KEY_PREFIX: usize = 16;
/// The scope that allows all its owner may do; so far the only one.
pub const SCOPE_ALL: &str = "*";

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
    /// What it may do: only [`SCOPE_ALL`] so far.
    pub scopes: Vec<String>,
    /// When it ends by itself; none: never.
    pub expires_at: Option<DateTime<Utc>>,
    /// Where it may be used from; empty: anywhere.
    pub source_cidrs: Vec<Cidr>,
}

/// What is remembered of an API key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyStatus {
    /// When it ends by itself.
    pub expires_at: Option<DateTime<Utc>>,
    /// Whether it was revoked.
    pub revoked: bool,
}

impl KeyStatus {
    fn is_live(self, now: DateTime<Utc>) -> bool {
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
    /// Take a key away.
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
    /// Anything but [`SCOPE_ALL`].
    #[error("must be [\"{SCOPE_ALL}\"]")]
    UnknownScope,
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
            Self::Disabled => "user_disabled",
            Self::TooManyApiKeys => "too_many_api_keys",
            Self::ApiKeyExists => "api_key_exists",
            Self::ApiKeyNotFound => "api_key_not_found",
            Self::UnknownScope
            | Self::ExpiryPast
            | Self::TooManySourceCidrs
            | Self::PrefixTooLong => "invalid_api_key",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound | Self::ApiKeyNotFound => RefusalKind::NotFound,
            Self::AlreadyCreated | Self::Disabled | Self::TooManyApiKeys | Self::ApiKeyExists => {
                RefusalKind::Conflict
            }
            Self::TooManyGroups
            | Self::UnknownScope
            | Self::ExpiryPast
            | Self::TooManySourceCidrs
            | Self::PrefixTooLong => RefusalKind::Invalid,
        }
    }

    fn field(&self) -> Option<&'static str> {
        match self {
            Self::TooManyGroups => Some("groups"),
            Self::UnknownScope => Some("scopes"),
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
            Command::Update(profile) => {
                (self.profile.as_ref() != Some(&profile)).then_some(Event::Updated { profile })
            }
            Command::ChangeRole(role) => (self.role != role).then_some(Event::RoleChanged { role }),
            Command::ChangeGroups(groups) => {
                check_groups(&groups)?;
                (self.groups != groups).then_some(Event::GroupsChanged { groups })
            }
            Command::ChangePassword { password, must_change_password } => {
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
            Command::RevokeApiKey(id) => {
                let key = self.api_keys.get(&id).ok_or(Error::ApiKeyNotFound)?;
                (!key.revoked).then_some(Event::ApiKeyRevoked { id })
            }
            Command::Delete => Some(Event::Deleted {}),
        };
        Ok(event.into_iter().collect())
    }

    fn check_api_key(&self, key: &ApiKey, now: DateTime<Utc>) -> Result<(), Error> {
        if self.disabled {
            return Err(Error::Disabled);
        }
        if self.api_keys.contains_key(&key.id) {
            return Err(Error::ApiKeyExists);
        }
        if key.scopes != [SCOPE_ALL] {
            return Err(Error::UnknownScope);
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
        if self.api_keys.values().filter(|it| it.is_live(now)).count() >= MAX_API_KEYS {
            return Err(Error::TooManyApiKeys);
        }
        Ok(())
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
                let status = KeyStatus { expires_at: api_key.expires_at, revoked: false };
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
