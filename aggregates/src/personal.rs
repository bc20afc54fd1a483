//! Personal data inside events: a value that belongs to a person and can be lost on purpose.
//!
//! On disk a `Personal` is sealed with its person's key (by the repository boundary, not here).
//! Erasing the person destroys the key: the value is then [`Personal::Shut`] for ever, while the
//! event around it stays. Aggregates are total over both.

use serde::{Deserialize, Serialize};

/// Whose key seals a value: a user's id, or `day-YYYY-MM-DD` for people we do not know.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PersonId(String);

impl PersonId {
    /// The person behind a user id.
    pub fn user(id: &crate::values::UserId) -> Self {
        Self(id.to_string())
    }

    /// People nobody knows, on one UTC day.
    pub fn unknown_on(day: chrono::NaiveDate) -> Self {
        Self(format!("day-{day}"))
    }

    /// As stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for PersonId {
    fn from(stored: String) -> Self {
        Self(stored)
    }
}

/// A value of a person, readable or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Personal<T> {
    /// Readable.
    Open {
        /// Whose it is.
        of: PersonId,
        /// The value.
        value: T,
    },
    /// Sealed, or its key is gone.
    Shut {
        /// Whose it was.
        of: PersonId,
    },
}

impl<T> Personal<T> {
    /// A readable value of `of`.
    pub fn new(of: PersonId, value: T) -> Self {
        Self::Open { of, value }
    }

    /// Whose it is.
    pub fn of(&self) -> &PersonId {
        match self {
            Self::Open { of, .. } | Self::Shut { of } => of,
        }
    }

    /// The value, where it can still be read.
    pub fn open(&self) -> Option<&T> {
        match self {
            Self::Open { value, .. } => Some(value),
            Self::Shut { .. } => None,
        }
    }

    /// The same person's `change(value)`, as readable as before.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Personal<U> {
        match self {
            Self::Open { of, value } => Personal::Open { of, value: change(value) },
            Self::Shut { of } => Personal::Shut { of },
        }
    }
}

/// The shape in JSON. `sealed` is what the repository boundary puts in the place of `open`; code
/// that reads it without the key (the stock crates, say) sees a shut value.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    of: PersonId,
    #[serde(skip_serializing_if = "Option::is_none", default = "none")]
    open: Option<T>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    sealed: Option<String>,
}

fn none<T>() -> Option<T> {
    None
}

impl<T: Serialize> Serialize for Personal<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let stored = match self {
            Self::Open { of, value } => Stored { of: of.clone(), open: Some(value), sealed: None },
            Self::Shut { of } => Stored { of: of.clone(), open: None, sealed: Some(String::new()) },
        };
        stored.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Personal<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = Stored::<T>::deserialize(deserializer)?;
        Ok(match stored.open {
            Some(value) => Self::Open { of: stored.of, value },
            None => Self::Shut { of: stored.of },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ada() -> PersonId {
        PersonId::from("usr-ada".to_owned())
    }

    #[test]
    fn an_open_value_survives_json() {
        let value = Personal::new(ada(), "ada@example.com".to_owned());
        let json = serde_json::to_value(&value).unwrap();
        assert_eq!(json, serde_json::json!({"of": "usr-ada", "open": "ada@example.com"}));
        assert_eq!(serde_json::from_value::<Personal<String>>(json).unwrap(), value);
    }

    #[test]
    fn a_sealed_value_reads_as_shut() {
        let json = serde_json::json!({"of": "usr-ada", "sealed": "AAAA"});
        let value: Personal<String> = serde_json::from_value(json).unwrap();
        assert_eq!(value, Personal::Shut { of: ada() });
        assert_eq!(value.open(), None);
    }

    #[test]
    fn a_changed_value_is_as_readable_as_before() {
        let open = Personal::new(ada(), "Ada".to_owned());
        assert_eq!(open.map(|name| name.len()), Personal::new(ada(), 3));
        let shut: Personal<String> = Personal::Shut { of: ada() };
        assert_eq!(shut.map(|name| name.len()), Personal::Shut { of: ada() });
    }
}
