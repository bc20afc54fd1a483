//! What the tests of the aggregates share: sample values, and a way to fold a history.

use crate::{PersonId, Personal, Refusal, RefusalKind};
use chrono::{DateTime, Utc};
use cqrs_es::Aggregate;
use std::fmt::Debug;
use std::str::FromStr;

/// A value from its text.
pub fn value<T: FromStr<Err: Debug>>(text: &str) -> T {
    text.parse().unwrap()
}

/// A value of Ada's that can be read.
pub fn adas<T: FromStr<Err: Debug>>(text: &str) -> Personal<T> {
    Personal::new(ada(), value(text))
}

/// A value of Ada's that was erased.
pub fn erased<T>() -> Personal<T> {
    Personal::Shut { of: ada() }
}

fn ada() -> PersonId {
    PersonId::from("usr-ada".to_owned())
}

/// SHA-256 as hex, or as good as.
pub fn digest(digit: char) -> String {
    digit.to_string().repeat(64)
}

/// A time, in seconds after some beginning.
pub fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// The state after a history.
pub fn after<A: Aggregate>(events: impl IntoIterator<Item = A::Event>) -> A {
    let mut state = A::default();
    for event in events {
        state.apply(event);
    }
    state
}

/// How a refusal is answered: code, kind, field.
pub fn answer(error: &impl Refusal) -> (&'static str, RefusalKind, Option<&'static str>) {
    (error.code(), error.kind(), error.field())
}
