//! What holds of every aggregate, whatever is asked of it, and of every event.

use crate::{Event, Refusal, Root, arbitrary};
use cqrs_es::event_sink::EventSink;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::strategy::{Union, ValueTree};
use proptest::test_runner::TestRunner;
use std::collections::BTreeSet;
use std::fmt::Debug;

/// Runs one command.
fn run<A: Root>(state: &mut A, command: A::Command) -> Result<Vec<A::Event>, A::Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let sink = EventSink::default();
        state.handle(command, &(), &sink).await?;
        Ok(sink.collect().await)
    })
}

/// Runs `commands` one after another and checks after each what no aggregate may break.
/// `always_news` tells which commands are a change each time that they are given.
fn obeys<A>(
    commands: Vec<A::Command>,
    always_news: fn(&A::Command) -> bool,
) -> Result<(), TestCaseError>
where
    A: Root<Command: Clone + Debug> + PartialEq + Debug,
{
    let mut state = A::default();
    let mut replayed = A::default();
    for command in commands {
        let before = state.clone();
        match run(&mut state, command.clone()) {
            Ok(events) => {
                for event in events {
                    let stored = serde_json::to_value(&event).unwrap();
                    replayed.apply(serde_json::from_value(stored).unwrap());
                }
                prop_assert_eq!(&state, &replayed, "a replay gives another state");
                if !always_news(&command) {
                    let again = run(&mut state, command).unwrap_or_default();
                    prop_assert!(again.is_empty(), "what was so already: {:?}", again);
                }
            }
            Err(error) => {
                prop_assert_eq!(&state, &before, "a refusal changed something");
                let code = error.code();
                prop_assert!(code.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{}", code);
            }
        }
        sane(&state)?;
    }
    Ok(())
}

/// Folds a history that no command need have made: another program may have written the log.
fn folds<A: Root + PartialEq + Debug>(events: Vec<A::Event>) -> Result<(), TestCaseError> {
    let mut state = A::default();
    for event in events {
        state.apply(event);
        sane(&state)?;
    }
    Ok(())
}

/// What does not exist claims nothing, nothing is claimed twice, and a state can be stored.
fn sane<A: Root + PartialEq + Debug>(state: &A) -> Result<(), TestCaseError> {
    let claims = state.claims("id");
    prop_assert!(claims.is_empty() || state.exists(), "claimed by nothing: {:?}", claims);
    let distinct: BTreeSet<_> = claims.iter().collect();
    prop_assert_eq!(distinct.len(), claims.len(), "claimed twice: {:?}", claims);
    let stored = serde_json::to_value(state).unwrap();
    prop_assert_eq!(&serde_json::from_value::<A>(stored).unwrap(), state);
    Ok(())
}

macro_rules! laws {
    ($($module:ident::$aggregate:ident, $command:ident, $events:ident, $always_news:expr;)+) => {
        $(mod $module {
            use super::*;

            proptest! {
                #[test]
                fn obeys(commands in vec(arbitrary::$command(), 0..30)) {
                    super::obeys::<crate::$module::$aggregate>(commands, $always_news)?;
                }

                #[test]
                fn folds(events in vec(Union::new(arbitrary::$events()), 0..30)) {
                    super::folds::<crate::$module::$aggregate>(events)?;
                }
            }
        })+

        /// Each aggregate's type and its source.
        const SOURCES: &[(&str, &str)] =
            &[$((stringify!($module), include_str!(concat!(stringify!($module), ".rs")))),+];
    };
}

laws! {
    access_rule::AccessRule, access_rule_command, access_rule_events, |_| false;
    attempt::Attempt, attempt_command, attempt_events, |_| true;
    authority::Authority, authority_command, authority_events, |_| false;
    certificate::Certificate, certificate_command, certificate_events, |_| false;
    gateway::Gateway, gateway_command, gateway_events, |command| {
        use crate::gateway::Command::{RequestReprovision, RotateToken};
        matches!(command, RotateToken(_) | RequestReprovision)
    };
    geo_fence::GeoFence, geo_fence_command, geo_fence_events, |_| false;
    geo_fence_rule::GeoFenceRule, geo_fence_rule_command, geo_fence_rule_events, |_| false;
    login::Login, login_command, login_events, |_| false;
    mesh_hub::MeshHub, mesh_hub_command, mesh_hub_events, |_| false;
    network::Network, network_command, network_events, |_| false;
    session::Session, session_command, session_events, |_| false;
    settings::Settings, settings_command, settings_events, |_| false;
    user::User, user_command, user_events, |_| false;
}

proptest! {
    #[test]
    fn an_event_survives_the_log(event in Union::new(arbitrary::events())) {
        let text = event.payload().unwrap().to_string();
        let payload = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(Event::decode(event.aggregate_type(), payload).unwrap(), event);
    }
}

#[test]
fn a_code_is_the_aggregates_type_and_what_happened() {
    let mut runner = TestRunner::deterministic();
    let mut codes = BTreeSet::new();
    for events in arbitrary::events() {
        let event = events.new_tree(&mut runner).unwrap().current();
        let payload = event.payload().unwrap();
        let tags: Vec<_> = payload.as_object().unwrap().keys().collect();
        assert_eq!(tags.len(), 1, "{payload}");
        assert_eq!(event.code(), format!("{}.{}", event.aggregate_type(), tags[0]));
        assert!(codes.insert(event.code()), "{} is there twice", event.code());
    }
    // The list above must leave out no event that the sources know a code of.
    let known: BTreeSet<_> = SOURCES
        .iter()
        .flat_map(|(aggregate_type, source)| {
            source.split('"').filter(move |text| {
                text.strip_prefix(*aggregate_type)
                    .and_then(|rest| rest.strip_prefix('.'))
                    .is_some_and(|rest| rest.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
            })
        })
        .collect();
    assert_eq!(codes, known);
}

#[test]
fn what_is_not_ours_is_refused() {
    let nothing = serde_json::json!({});
    let error = Event::decode("nonesuch", nothing.clone()).unwrap_err();
    assert_eq!(error.to_string(), "unknown aggregate type `nonesuch`");
    for (aggregate_type, _) in SOURCES {
        let error = Event::decode(aggregate_type, nothing.clone()).unwrap_err();
        assert!(error.to_string().contains(&format!("`{aggregate_type}` event")), "{error}");
    }
}
