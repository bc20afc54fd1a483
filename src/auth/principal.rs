//! Who is calling, with what they proved it, and the circumstances: what is kept with every event
//! that they cause.

use super::credential::Credential as Shown;
use crate::access::{State, UserEntry};
use crate::api::RequestId;
use crate::entropy::token_hash;
use chrono::{DateTime, TimeDelta, Utc};
use gatekey_aggregates::login::Method;
use gatekey_aggregates::user::ApiKey;
use gatekey_aggregates::values::{GroupName, LoginId, Role, UserId};
use gatekey_aggregates::{
    Actor, ActorKind, Credential, CredentialKind, Metadata, PersonId, Personal,
};
use std::collections::BTreeSet;
use std::net::IpAddr;

/// What is known of a request, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Circumstances {
    /// From where.
    pub client_ip: IpAddr,
    /// With what, cut to a bound.
    pub user_agent: Option<String>,
    /// Its id.
    pub request_id: RequestId,
    /// When.
    pub now: DateTime<Utc>,
}

impl Circumstances {
    /// What is kept with an event that nobody we know caused.
    pub fn metadata(&self) -> Metadata {
        let nobody = Actor {
            kind: ActorKind::Anonymous,
            id: String::new(),
            label: ActorKind::Anonymous.as_str().to_owned(),
        };
        let none = Credential { kind: CredentialKind::None, id: String::new() };
        self.metadata_of(nobody, none, PersonId::unknown_on(self.now.date_naive()), None)
    }

    /// What is kept with an event that `actor` caused.
    pub fn metadata_of(
        &self,
        actor: Actor,
        credential: Credential,
        person: PersonId,
        reason: Option<String>,
    ) -> Metadata {
        Metadata {
            actor,
            credential,
            person,
            source_ip: Some(self.client_ip.to_string()),
            user_agent: self.user_agent.clone(),
            request_id: Some(self.request_id.as_str().to_owned()),
            correlation_id: None,
            causation_id: None,
            reason,
        }
    }
}

/// With what a caller proved who they are.
#[derive(Clone, Debug, PartialEq)]
pub enum Proof {
    /// A web login.
    Session {
        /// Its id.
        id: LoginId,
        /// How they signed in.
        method: Method,
        /// When it ends at the latest.
        expires_at: DateTime<Utc>,
    },
    /// One of their API keys.
    ApiKey(ApiKey),
}

impl Proof {
    /// `ses-…` or `key-…`.
    pub fn id(&self) -> &str {
        match self {
            Self::Session { id, .. } => id.as_str(),
            Self::ApiKey(key) => key.id.as_str(),
        }
    }

    fn kind(&self) -> CredentialKind {
        match self {
            Self::Session { .. } => CredentialKind::Session,
            Self::ApiKey(_) => CredentialKind::ApiKey,
        }
    }
}

/// An active user who proved who they are.
#[derive(Clone, Debug, PartialEq)]
pub struct Caller {
    /// Their id.
    pub user_id: UserId,
    /// What they may do.
    pub role: Role,
    /// Empty if it was erased.
    pub username: String,
    /// Empty if it was erased.
    pub email: String,
    /// What they are called.
    pub name: Option<String>,
    /// Their groups.
    pub groups: BTreeSet<GroupName>,
    /// Whether they may do nothing but change their password.
    pub must_change_password: bool,
    /// With what they proved it.
    pub proof: Proof,
    /// The request.
    pub circumstances: Circumstances,
}

impl Caller {
    /// What is kept with every event that they cause; `reason` is theirs, where they gave one.
    pub fn metadata(&self, reason: Option<String>) -> Metadata {
        let label = if self.email.is_empty() { &self.username } else { &self.email };
        self.circumstances.metadata_of(
            Actor { kind: ActorKind::User, id: self.user_id.to_string(), label: label.clone() },
            Credential { kind: self.proof.kind(), id: self.proof.id().to_owned() },
            self.person(),
            reason,
        )
    }

    /// Whose key seals what is kept of them.
    pub fn person(&self) -> PersonId {
        PersonId::user(&self.user_id)
    }

    /// Something of theirs, to be sealed with their key.
    pub fn personal<T>(&self, value: T) -> Personal<T> {
        Personal::new(self.person(), value)
    }

    fn new(user_id: &UserId, user: &UserEntry, proof: Proof, circumstances: Circumstances) -> Self {
        let profile = &user.profile;
        Self {
            user_id: user_id.clone(),
            role: user.role,
            username: profile.username.open().map(ToString::to_string).unwrap_or_default(),
            email: profile.email.open().map(ToString::to_string).unwrap_or_default(),
            name: profile.name.as_ref().and_then(|it| it.open()).map(ToString::to_string),
            groups: user.groups.clone(),
            must_change_password: user.must_change_password,
            proof,
            circumstances,
        }
    }
}

/// Whose idempotency keys are told from others': a person's, or one API key's. An answer may hold
/// what the key that asks again could not have asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyOwner(pub String);

impl KeyOwner {
    /// The caller's.
    pub fn of(caller: &Caller) -> Self {
        Self(match &caller.proof {
            Proof::Session { .. } => caller.user_id.to_string(),
            Proof::ApiKey(key) => key.id.to_string(),
        })
    }
}

/// Why what was shown proves nothing. The caller is not told which.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Unproven {
    /// It is unknown, ended or expired, or its owner may not sign in.
    Invalid,
    /// A good API key, from where it may not be used. Somebody else may have it: worth a note.
    WrongSource(Box<Caller>),
}

/// Who it is that shows `shown`. `last_used` tells when a session was last used, as far as is
/// known.
pub(super) fn authenticate(
    state: &State,
    shown: Shown<'_>,
    circumstances: Circumstances,
    last_used: impl FnOnce(&str) -> Option<DateTime<Utc>>,
) -> Result<Caller, Unproven> {
    let now = circumstances.now;
    let active = |user_id: &UserId| {
        state.users.get(user_id).filter(|user| user.active).ok_or(Unproven::Invalid)
    };
    match shown {
        Shown::Session { token, .. } => {
            let login = state.logins.get(&token_hash(token)).ok_or(Unproven::Invalid)?;
            let user = active(&login.user_id)?;
            let idle_since =
                last_used(login.id.as_str()).map_or(login.began_at, |at| at.max(login.began_at));
            let most_idle = TimeDelta::minutes(i64::from(state.settings.login_idle_minutes));
            if login.expires_at <= now || idle_since + most_idle <= now {
                return Err(Unproven::Invalid);
            }
            let proof = Proof::Session {
                id: login.id.clone(),
                method: login.method,
                expires_at: login.expires_at,
            };
            Ok(Caller::new(&login.user_id, user, proof, circumstances))
        }
        Shown::ApiKey(key) => {
            let entry = state.api_keys.get(&token_hash(key)).ok_or(Unproven::Invalid)?;
            let user = active(&entry.user_id)?;
            if entry.key.expires_at.is_some_and(|end| end <= now) || !state.has_makers(&entry.key) {
                return Err(Unproven::Invalid);
            }
            let sources = &entry.key.source_cidrs;
            let ip = circumstances.client_ip;
            let welcome = sources.is_empty() || sources.iter().any(|net| net.contains(ip));
            let proof = Proof::ApiKey(entry.key.clone());
            let caller = Caller::new(&entry.user_id, user, proof, circumstances);
            if welcome { Ok(caller) } else { Err(Unproven::WrongSource(Box::new(caller))) }
        }
        Shown::Unusable => Err(Unproven::Invalid),
    }
}
