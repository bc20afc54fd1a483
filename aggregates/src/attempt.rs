//! What was tried and refused, where no other stream could tell of it: one stream per node's run
//! and UTC day, appended to without loading it.

use crate::Personal;
use crate::root::{Fact, Refusal, RefusalKind, Root};
use crate::values::{CertificateId, GatewayId, MeshHubId, UserId, clip};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How much is kept of a text that a stranger sent, in characters.
pub const MAX_TEXT: usize = 128;

/// A refusal, or several alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denial {
    /// Why: a stable code.
    pub reason: String,
    /// At which gateway.
    pub gateway_id: Option<GatewayId>,
    /// At which mesh hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_id: Option<MeshHubId>,
    /// The user it was about, where that is known.
    pub user_id: Option<UserId>,
    /// The certificate it was about, where that is known.
    pub certificate_id: Option<CertificateId>,
    /// The user name or e-mail address that was typed, where it is somebody's. What else people
    /// type there may be their password.
    pub username: Option<Personal<String>>,
    /// The common name as it was sent.
    pub common_name: Option<Personal<String>>,
    /// From where.
    pub client_ip: Option<Personal<IpAddr>>,
    /// Method and route, such as `GET /api/v1/admin/users`.
    pub target: Option<String>,
    /// How many times since the last such event; at least 1.
    pub count: u32,
}

impl Denial {
    /// A single refusal of which nothing else is known.
    pub fn new(reason: impl Into<String>) -> Self {
        Self {
            reason: reason.into(),
            gateway_id: None,
            hub_id: None,
            user_id: None,
            certificate_id: None,
            username: None,
            common_name: None,
            client_ip: None,
            target: None,
            count: 1,
        }
    }

    /// The same, with every text cut to [`MAX_TEXT`].
    fn bounded(self) -> Self {
        let short = |text: String| clip(text, MAX_TEXT);
        Self {
            reason: short(self.reason),
            username: self.username.map(|it| it.map(short)),
            common_name: self.common_name.map(|it| it.map(short)),
            target: self.target.map(short),
            ..self
        }
    }
}

/// The state: nothing is decided on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {}

/// What can be asked of the record.
#[derive(Clone, Debug)]
pub enum Command {
    /// Write this down.
    Record(Event),
}

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A sign-in.
    LoginFailed(Denial),
    /// A gateway's token.
    GatewayTokenRejected(Denial),
    /// A client that a gateway asked about.
    VerifyDenied(Denial),
    /// A connection that a gateway reported.
    ConnectDenied(Denial),
    /// A VPN configuration.
    ConfigDenied(Denial),
    /// A request of somebody who may not make it.
    RequestForbidden(Denial),
    /// A client that the geo-fence would have refused, were it enforced: it was let in.
    FenceWouldDeny(Denial),
    /// A request of somebody who had made too many.
    RateLimited(Denial),
}

impl Event {
    /// The refusal.
    pub fn denial(&self) -> &Denial {
        match self {
            Self::LoginFailed(denial)
            | Self::GatewayTokenRejected(denial)
            | Self::VerifyDenied(denial)
            | Self::ConnectDenied(denial)
            | Self::ConfigDenied(denial)
            | Self::RequestForbidden(denial)
            | Self::FenceWouldDeny(denial)
            | Self::RateLimited(denial) => denial,
        }
    }

    fn bounded(self) -> Self {
        match self {
            Self::LoginFailed(denial) => Self::LoginFailed(denial.bounded()),
            Self::GatewayTokenRejected(denial) => Self::GatewayTokenRejected(denial.bounded()),
            Self::VerifyDenied(denial) => Self::VerifyDenied(denial.bounded()),
            Self::ConnectDenied(denial) => Self::ConnectDenied(denial.bounded()),
            Self::ConfigDenied(denial) => Self::ConfigDenied(denial.bounded()),
            Self::RequestForbidden(denial) => Self::RequestForbidden(denial.bounded()),
            Self::FenceWouldDeny(denial) => Self::FenceWouldDeny(denial.bounded()),
            Self::RateLimited(denial) => Self::RateLimited(denial.bounded()),
        }
    }
}

/// Why a record was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A count of 0.
    #[error("must be at least 1")]
    CountZero,
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        "invalid_attempt"
    }

    fn kind(&self) -> RefusalKind {
        RefusalKind::Invalid
    }

    fn field(&self) -> Option<&'static str> {
        Some("count")
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::LoginFailed(_) => "attempt.login_failed",
            Self::GatewayTokenRejected(_) => "attempt.gateway_token_rejected",
            Self::VerifyDenied(_) => "attempt.verify_denied",
            Self::ConnectDenied(_) => "attempt.connect_denied",
            Self::ConfigDenied(_) => "attempt.config_denied",
            Self::RequestForbidden(_) => "attempt.request_forbidden",
            Self::FenceWouldDeny(_) => "attempt.fence_would_deny",
            Self::RateLimited(_) => "attempt.rate_limited",
        }
    }

    fn is_configuration(&self) -> bool {
        false
    }
}

aggregate!(Attempt, "attempt");

impl Root for Attempt {
    /// Every day has its record, if an empty one.
    fn exists(&self) -> bool {
        true
    }
}

#[expect(clippy::unused_self, reason = "the shape that `aggregate!` wants")]
impl Attempt {
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        let Command::Record(event) = command;
        if event.denial().count == 0 {
            return Err(Error::CountZero);
        }
        Ok(vec![event.bounded()])
    }

    fn evolve(&mut self, _event: Event) {}
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{adas, answer, erased, value};
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};

    fn given(events: Vec<Event>) -> AggregateTestExecutor<Attempt> {
        TestFramework::with(()).given(events)
    }

    const EVENTS: [fn(Denial) -> Event; 8] = [
        Event::LoginFailed,
        Event::GatewayTokenRejected,
        Event::VerifyDenied,
        Event::ConnectDenied,
        Event::ConfigDenied,
        Event::RequestForbidden,
        Event::FenceWouldDeny,
        Event::RateLimited,
    ];

    fn denial() -> Denial {
        Denial {
            gateway_id: Some(value("gw-001")),
            hub_id: Some(value("hub-001")),
            username: Some(adas("ada")),
            common_name: Some(erased()),
            client_ip: Some(adas("192.0.2.7")),
            target: Some("POST /api/v1/gateway/verify".to_owned()),
            count: 3,
            ..Denial::new("not_granted")
        }
    }

    #[tokio::test]
    async fn each_kind_is_recorded_again_and_again() {
        for event in EVENTS.map(|event| event(denial())) {
            given(vec![event.clone()])
                .when_async(Command::Record(event.clone()))
                .await
                .then_expect_events(vec![event.clone()]);
            assert_eq!(event.denial(), &denial());
            assert!(!event.is_configuration());
        }
    }

    #[tokio::test]
    async fn what_happened_no_times_is_refused() {
        let none = Denial { count: 0, ..denial() };
        for event in EVENTS.map(|event| event(none.clone())) {
            given(vec![])
                .when_async(Command::Record(event))
                .await
                .then_expect_error(Error::CountZero);
        }
        let answered = answer(&Error::CountZero);
        assert_eq!(answered, ("invalid_attempt", RefusalKind::Invalid, Some("count")));
    }

    #[tokio::test]
    async fn long_texts_are_cut() {
        let with = |length: usize| {
            let text = "ä".repeat(length);
            Denial {
                username: Some(adas(&text)),
                common_name: Some(adas(&text)),
                target: Some(text.clone()),
                ..Denial::new(text)
            }
        };
        for event in EVENTS {
            given(vec![])
                .when_async(Command::Record(event(with(MAX_TEXT + 1))))
                .await
                .then_expect_events(vec![event(with(MAX_TEXT))]);
        }
    }

    #[test]
    fn a_day_without_attempts_has_its_record_too() {
        assert!(Attempt::default().exists());
    }
}
