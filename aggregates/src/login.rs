//! A web login: a person signed in with a browser or a script, until it ends.

use crate::Personal;
use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{TokenHash, UserId, clip};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How much of a `User-Agent` is kept, in characters.
pub const MAX_USER_AGENT: usize = 256;

/// How the person proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// With a password that we keep the hash of.
    Local,
    /// By OpenID Connect.
    Oidc,
    /// By SAML.
    Saml,
}

impl Method {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Oidc => "oidc",
            Self::Saml => "saml",
        }
    }
}

/// Why a login ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EndReason {
    /// The person left.
    Logout,
    /// Somebody ended it from another place.
    Revoked,
    /// The password was changed.
    PasswordChanged,
    /// The user was disabled.
    UserDisabled,
    /// The user's role was changed.
    RoleChanged,
    /// The user was deleted.
    UserDeleted,
}

impl EndReason {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Logout => "logout",
            Self::Revoked => "revoked",
            Self::PasswordChanged => "password_changed",
            Self::UserDisabled => "user_disabled",
            Self::RoleChanged => "role_changed",
            Self::UserDeleted => "user_deleted",
        }
    }
}

/// What is known when it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beginning {
    /// Who.
    pub user_id: UserId,
    /// How.
    pub method: Method,
    /// Hash of the session's token.
    pub token_hash: TokenHash,
    /// From where.
    pub client_ip: Option<Personal<IpAddr>>,
    /// With what; at most [`MAX_USER_AGENT`] characters of it.
    pub user_agent: Option<Personal<String>>,
    /// When it ends by itself.
    pub expires_at: DateTime<Utc>,
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Login {
    /// None before it began.
    pub began: Option<Beginning>,
    /// Why it ended, if it was ended.
    pub ended: Option<EndReason>,
}

/// What can be asked of a login.
#[derive(Clone, Debug)]
pub enum Command {
    /// Somebody signed in.
    Begin(Beginning),
    /// End it. The first reason stays.
    End(EndReason),
}

/// What happened to a login.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// Somebody signed in.
    Began(Beginning),
    /// It was ended.
    Ended {
        /// Why.
        reason: EndReason,
    },
}

/// Why a command on a login was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is none with that id.
    #[error("there is no such session")]
    NotFound,
    /// The id is in use.
    #[error("this session began already")]
    AlreadyBegan,
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self {
            Self::NotFound => "session_not_found",
            Self::AlreadyBegan => "session_exists",
        }
    }

    fn kind(&self) -> RefusalKind {
        match self {
            Self::NotFound => RefusalKind::NotFound,
            Self::AlreadyBegan => RefusalKind::Conflict,
        }
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Began(_) => "login.began",
            Self::Ended { .. } => "login.ended",
        }
    }

    fn is_configuration(&self) -> bool {
        false
    }
}

aggregate!(Login, "login");

impl Root for Login {
    fn exists(&self) -> bool {
        self.began.is_some()
    }
}

impl Login {
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        let event = match command {
            Command::Begin(beginning) => {
                if self.began.is_some() {
                    return Err(Error::AlreadyBegan);
                }
                let short = |agent: Personal<String>| agent.map(|it| clip(it, MAX_USER_AGENT));
                let user_agent = beginning.user_agent.map(short);
                Some(Event::Began(Beginning { user_agent, ..beginning }))
            }
            Command::End(_) if self.began.is_none() => return Err(Error::NotFound),
            Command::End(reason) => self.ended.is_none().then_some(Event::Ended { reason }),
        };
        Ok(event.into_iter().collect())
    }

    fn evolve(&mut self, event: Event) {
        match event {
            Event::Began(beginning) => self.began = Some(beginning),
            Event::Ended { reason } => self.ended = Some(reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{adas, after, answer, at, digest, erased, value};
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};

    fn given(events: Vec<Event>) -> AggregateTestExecutor<Login> {
        TestFramework::with(()).given(events)
    }

    fn beginning() -> Beginning {
        Beginning {
            user_id: value("usr-ada"),
            method: Method::Local,
            token_hash: value(&digest('a')),
            client_ip: Some(adas("192.0.2.7")),
            user_agent: Some(adas("curl/8.0")),
            expires_at: at(43_200),
        }
    }

    fn began() -> Event {
        Event::Began(beginning())
    }

    #[tokio::test]
    async fn it_begins_once() {
        let begin = Command::Begin(beginning());
        given(vec![]).when_async(begin.clone()).await.then_expect_events(vec![began()]);
        for history in [vec![began()], vec![began(), Event::Ended { reason: EndReason::Logout }]] {
            given(history).when_async(begin.clone()).await.then_expect_error(Error::AlreadyBegan);
        }
    }

    #[tokio::test]
    async fn a_long_user_agent_is_cut() {
        let with = |agent: &str| Beginning { user_agent: Some(adas(agent)), ..beginning() };
        given(vec![])
            .when_async(Command::Begin(with(&"ä".repeat(MAX_USER_AGENT + 1))))
            .await
            .then_expect_events(vec![Event::Began(with(&"ä".repeat(MAX_USER_AGENT)))]);
    }

    #[tokio::test]
    async fn it_ends_once_and_the_first_reason_stays() {
        let reasons = [
            (EndReason::Logout, "logout"),
            (EndReason::Revoked, "revoked"),
            (EndReason::PasswordChanged, "password_changed"),
            (EndReason::UserDisabled, "user_disabled"),
            (EndReason::RoleChanged, "role_changed"),
            (EndReason::UserDeleted, "user_deleted"),
        ];
        for (reason, text) in reasons {
            assert_eq!(reason.as_str(), text);
            assert_eq!(serde_json::to_value(reason).unwrap(), text);
            given(vec![began()])
                .when_async(Command::End(reason))
                .await
                .then_expect_events(vec![Event::Ended { reason }]);
            given(vec![began(), Event::Ended { reason: EndReason::Logout }])
                .when_async(Command::End(reason))
                .await
                .then_expect_events(vec![]);
            given(vec![]).when_async(Command::End(reason)).await.then_expect_error(Error::NotFound);
        }
    }

    #[tokio::test]
    async fn one_whose_person_was_erased_can_end() {
        let nobody =
            Beginning { client_ip: Some(erased()), user_agent: Some(erased()), ..beginning() };
        given(vec![Event::Began(nobody)])
            .when_async(Command::End(EndReason::UserDeleted))
            .await
            .then_expect_events(vec![Event::Ended { reason: EndReason::UserDeleted }]);
    }

    #[test]
    fn methods_are_written_as_in_json() {
        for method in [Method::Local, Method::Oidc, Method::Saml] {
            assert_eq!(serde_json::to_value(method).unwrap(), method.as_str());
        }
    }

    #[test]
    fn nobody_configures_a_login() {
        assert!(after::<Login>([began()]).exists());
        assert!(!began().is_configuration());
        assert!(!Event::Ended { reason: EndReason::Logout }.is_configuration());
    }

    #[test]
    fn refusals_are_answered_by_code_kind_and_field() {
        use RefusalKind::{Conflict, NotFound};
        assert_eq!(answer(&Error::NotFound), ("session_not_found", NotFound, None));
        assert_eq!(answer(&Error::AlreadyBegan), ("session_exists", Conflict, None));
    }
}
