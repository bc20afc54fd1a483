//! The geo-fence: whether people may connect only from source addresses that a rule lists.
//!
//! The rules have streams of their own ([`crate::geo_fence_rule`]).

use crate::root::{Fact, Refusal, RefusalKind, Root};
use serde::{Deserialize, Serialize};
use std::convert::Infallible;

/// The id of the one stream.
pub const ID: &str = "geo-fence";

/// What becomes of those who come from outside.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
#[schema(as = GeoFenceMode)]
pub enum Mode {
    /// They are refused.
    #[default]
    Enforce,
    /// They are let in, and it is written down.
    Audit,
}

impl Mode {
    /// As in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Enforce => "enforce",
            Self::Audit => "audit",
        }
    }
}

/// What an admin sets. All of it must be said: a mode that was forgotten would lock people out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[schema(as = GeoFenceSettings)]
pub struct Values {
    /// Whether source addresses are looked at.
    pub enabled: bool,
    /// What becomes of those who come from outside: `enforce` refuses them, `audit` lets them in
    /// and writes it down.
    pub mode: Mode,
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GeoFence {
    /// The settings in force.
    pub values: Values,
}

/// What can be asked of the fence.
#[derive(Clone, Debug)]
pub enum Command {
    /// Replace the settings.
    Change(Values),
}

/// What happened to the fence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The settings were replaced.
    Changed {
        /// The new ones.
        values: Values,
    },
}

/// No command on the fence is ever refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(transparent)]
pub struct Error(Infallible);

impl Refusal for Error {
    fn code(&self) -> &'static str {
        match self.0 {}
    }

    fn kind(&self) -> RefusalKind {
        match self.0 {}
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "geo_fence.changed",
        }
    }
}

aggregate!(GeoFence, "geo_fence");

impl Root for GeoFence {
    /// There is always a fence: before any event, one that is switched off.
    fn exists(&self) -> bool {
        true
    }
}

impl GeoFence {
    #[expect(clippy::unnecessary_wraps, reason = "the shape that `aggregate!` wants")]
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        let Command::Change(values) = command;
        let changed = self.values != values;
        Ok(changed.then_some(Event::Changed { values }).into_iter().collect())
    }

    fn evolve(&mut self, event: Event) {
        let Event::Changed { values } = event;
        self.values = values;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::after;
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};

    fn given(events: Vec<Event>) -> AggregateTestExecutor<GeoFence> {
        TestFramework::with(()).given(events)
    }

    const ON: Values = Values { enabled: true, mode: Mode::Enforce };

    #[test]
    fn it_is_off_before_anybody_switches_it_on() {
        let before = GeoFence::default();
        assert!(before.exists());
        assert_eq!(before.values, Values { enabled: false, mode: Mode::Enforce });
        assert_eq!(after::<GeoFence>([Event::Changed { values: ON }]).values, ON);
    }

    #[tokio::test]
    async fn it_changes_when_a_value_does() {
        let audit = Values { mode: Mode::Audit, ..ON };
        let off = Values { enabled: false, ..audit };
        for (history, next) in [
            (vec![], ON),
            (vec![Event::Changed { values: ON }], audit),
            (vec![Event::Changed { values: ON }, Event::Changed { values: audit }], off),
        ] {
            let changed = Event::Changed { values: next };
            given(history.clone())
                .when_async(Command::Change(next))
                .await
                .then_expect_events(vec![changed.clone()]);
            let history = history.into_iter().chain([changed]).collect();
            given(history).when_async(Command::Change(next)).await.then_expect_events(vec![]);
        }
        given(vec![])
            .when_async(Command::Change(Values::default()))
            .await
            .then_expect_events(vec![]);
    }

    #[test]
    fn every_change_is_configuration_and_says_all() {
        assert!(Event::Changed { values: ON }.is_configuration());
        for mode in [Mode::Enforce, Mode::Audit] {
            assert_eq!(serde_json::to_value(mode).unwrap(), mode.as_str());
        }
        for partial in [serde_json::json!({"enabled": true}), serde_json::json!({"mode": "audit"})]
        {
            assert!(serde_json::from_value::<Values>(partial).is_err());
        }
    }
}
