//! The settings that an admin can change while the server runs.

use crate::root::{Fact, Refusal, RefusalKind, Root};
use serde::{Deserialize, Serialize};
use std::ops::RangeInclusive;

/// The id of the one stream.
pub const ID: &str = "settings";

/// The values. A field that an older event lacks has its default.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default)]
#[schema(as = Settings)]
pub struct Values {
    /// How long a VPN configuration is valid: 1 to 720.
    #[schema(minimum = 1, maximum = 720)]
    pub config_lifetime_hours: u32,
    /// How long a web login lasts: 1 to 168.
    #[schema(minimum = 1, maximum = 168)]
    pub login_lifetime_hours: u32,
    /// After how long without a request a web login ends: 5 to 1440.
    #[schema(minimum = 5, maximum = 1440)]
    pub login_idle_minutes: u32,
    /// After how long without a sign of life a gateway is offline: 30 to 3600.
    #[schema(minimum = 30, maximum = 3600)]
    pub gateway_offline_seconds: u32,
    /// How long after that its sessions end: 0 to 3600.
    #[schema(minimum = 0, maximum = 3600)]
    pub gateway_lost_grace_seconds: u32,
    /// After how many days without a sign-in the API keys of a single-sign-on user lapse: 0
    /// (never) to 3650.
    #[schema(minimum = 0, maximum = 3650)]
    pub api_key_idle_days: u32,
}

impl Default for Values {
    fn default() -> Self {
        Self {
            config_lifetime_hours: 24,
            login_lifetime_hours: 12,
            login_idle_minutes: 60,
            gateway_offline_seconds: 90,
            gateway_lost_grace_seconds: 60,
            api_key_idle_days: 30,
        }
    }
}

/// The state that commands are decided on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// The values in force.
    pub values: Values,
}

/// What can be asked of the settings.
#[derive(Clone, Debug)]
pub enum Command {
    /// Replace the values.
    Change(Values),
}

/// What happened to the settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The values were replaced.
    Changed {
        /// The new ones.
        values: Values,
    },
}

/// Why a command on the settings was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A value that makes no sense.
    #[error("must be from {min} to {max}")]
    OutOfRange {
        /// Which.
        field: &'static str,
        /// The least it may be.
        min: u32,
        /// The most it may be.
        max: u32,
    },
}

impl Refusal for Error {
    fn code(&self) -> &'static str {
        "invalid_settings"
    }

    fn kind(&self) -> RefusalKind {
        RefusalKind::Invalid
    }

    fn field(&self) -> Option<&'static str> {
        let Self::OutOfRange { field, .. } = self;
        Some(field)
    }
}

impl Fact for Event {
    fn code(&self) -> &'static str {
        match self {
            Self::Changed { .. } => "settings.changed",
        }
    }
}

aggregate!(Settings, "settings");

impl Root for Settings {
    /// There are always settings: before any event, the defaults.
    fn exists(&self) -> bool {
        true
    }
}

impl Settings {
    fn decide(&self, command: Command) -> Result<Vec<Event>, Error> {
        let Command::Change(values) = command;
        check(&values)?;
        let changed = self.values != values;
        Ok(changed.then_some(Event::Changed { values }).into_iter().collect())
    }

    fn evolve(&mut self, event: Event) {
        let Event::Changed { values } = event;
        self.values = values;
    }
}

fn check(values: &Values) -> Result<(), Error> {
    let within = |field, value: u32, allowed: RangeInclusive<u32>| {
        if allowed.contains(&value) {
            Ok(())
        } else {
            Err(Error::OutOfRange { field, min: *allowed.start(), max: *allowed.end() })
        }
    };
    within("config_lifetime_hours", values.config_lifetime_hours, 1..=720)?;
    within("login_lifetime_hours", values.login_lifetime_hours, 1..=168)?;
    within("login_idle_minutes", values.login_idle_minutes, 5..=1440)?;
    within("gateway_offline_seconds", values.gateway_offline_seconds, 30..=3600)?;
    within("gateway_lost_grace_seconds", values.gateway_lost_grace_seconds, 0..=3600)?;
    within("api_key_idle_days", values.api_key_idle_days, 0..=3650)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{after, answer};
    use cqrs_es::test::{AggregateTestExecutor, TestFramework};

    fn given(events: Vec<Event>) -> AggregateTestExecutor<Settings> {
        TestFramework::with(()).given(events)
    }

    #[tokio::test]
    async fn they_change_when_a_value_does() {
        let values = Values { config_lifetime_hours: 8, ..Values::default() };
        given(vec![])
            .when_async(Command::Change(values))
            .await
            .then_expect_events(vec![Event::Changed { values }]);
        given(vec![Event::Changed { values }])
            .when_async(Command::Change(values))
            .await
            .then_expect_events(vec![]);
        given(vec![])
            .when_async(Command::Change(Values::default()))
            .await
            .then_expect_events(vec![]);
        assert_eq!(after::<Settings>([Event::Changed { values }]).values, values);
    }

    type Field = fn(&mut Values) -> &mut u32;

    /// Each field, how to reach it, and its bounds.
    const FIELDS: [(&str, Field, u32, u32); 6] = [
        ("config_lifetime_hours", |it| &mut it.config_lifetime_hours, 1, 720),
        ("login_lifetime_hours", |it| &mut it.login_lifetime_hours, 1, 168),
        ("login_idle_minutes", |it| &mut it.login_idle_minutes, 5, 1440),
        ("gateway_offline_seconds", |it| &mut it.gateway_offline_seconds, 30, 3600),
        ("gateway_lost_grace_seconds", |it| &mut it.gateway_lost_grace_seconds, 0, 3600),
        ("api_key_idle_days", |it| &mut it.api_key_idle_days, 0, 3650),
    ];

    #[tokio::test]
    async fn each_value_has_its_bounds() {
        for (field, of, min, max) in FIELDS {
            let with = |value| {
                let mut values = Values::default();
                *of(&mut values) = value;
                values
            };
            let refusal = Error::OutOfRange { field, min, max };
            assert_eq!(answer(&refusal), ("invalid_settings", RefusalKind::Invalid, Some(field)));
            assert_eq!(refusal.to_string(), format!("must be from {min} to {max}"));
            for values in [with(min), with(max)] {
                given(vec![])
                    .when_async(Command::Change(values))
                    .await
                    .then_expect_events(vec![Event::Changed { values }]);
            }
            for values in min.checked_sub(1).into_iter().chain([max + 1]).map(with) {
                given(vec![]).when_async(Command::Change(values)).await.then_expect_error(refusal);
            }
        }
    }

    #[test]
    fn the_defaults_are_in_force_before_any_event_and_in_older_ones() {
        assert!(Settings::default().exists());
        assert_eq!(Settings::default().values, Values::default());
        let older = serde_json::json!({"changed": {"values": {"login_idle_minutes": 5}}});
        let values = Values { login_idle_minutes: 5, ..Values::default() };
        assert_eq!(serde_json::from_value::<Event>(older).unwrap(), Event::Changed { values });
        let fields: Vec<_> = FIELDS.iter().map(|(name, ..)| *name).collect();
        let json = serde_json::to_value(Values::default()).unwrap();
        assert_eq!(json.as_object().unwrap().len(), fields.len());
        assert!(fields.iter().all(|name| json.get(name).is_some()));
    }
}
