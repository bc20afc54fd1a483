//! A YAML file in which everything knows its line, so that whatever is wrong with it can be said
//! with the place.

use crate::fields::{self, FieldError, Reading};
use serde::de::{DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Number};
use serde_saphyr::{Error as YamlError, Options, Spanned, budget, options};
use std::fmt;

/// Most things in a file: mappings, lists, texts, numbers.
const MAX_NODES: usize = 10_000_000;

/// Said of what must be a text and is not.
pub const NOT_A_TEXT: &str = "must be a text: put it in quotes";

/// What is wrong with a file, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Fault {
    /// Counted from 1.
    pub line: u64,
    /// The field, and what is wrong with it.
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// A value, and where it stands.
#[derive(Clone, Debug)]
pub struct Node {
    /// Counted from 1.
    pub line: u64,
    /// What it is.
    pub value: Value,
}

/// What can stand in a file.
#[derive(Clone, Debug)]
pub enum Value {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// A number.
    Number(Number),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping, as it was written.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping, and where it stands.
#[derive(Clone, Debug)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Counted from 1.
    pub line: u64,
}

impl Node {
    /// Reads a file of one document.
    pub fn parse(yaml: &str) -> Result<Self, Fault> {
        serde_saphyr::from_str_with_options::<Spanned<Raw>>(yaml, reading())
            .map(Self::from)
            .map_err(|error| malformed(&error))
    }

    /// The mapping's entries; none if it is no mapping.
    pub fn entries(&self) -> &[(Key, Self)] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// What stands under that key.
    pub fn get(&self, name: &str) -> Option<&Self> {
        self.entries().iter().find(|(key, _)| key.name == name).map(|(_, value)| value)
    }

    /// The text, if it is one.
    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The same as JSON, without the keys in `but`.
    pub fn json(&self, but: &[&str]) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(truth) => (*truth).into(),
            Value::Number(number) => number.clone().into(),
            Value::Text(text) => text.clone().into(),
            Value::List(items) => items.iter().map(|it| it.json(&[])).collect(),
            Value::Map(entries) => {
                let kept = entries.iter().filter(|(key, _)| !but.contains(&key.name.as_str()));
                kept.map(|(key, value)| (key.name.clone(), value.json(&[])))
                    .collect::<Map<_, _>>()
                    .into()
            }
        }
    }

    /// Where a field stands: `port`, or `rules[2].value`. What is not there stands where that
    /// would be which should have it.
    pub fn line_of(&self, path: &str) -> u64 {
        let (mut node, mut line) = (self, self.line);
        for step in path.split(['.', '[']) {
            let next = match (&node.value, step.strip_suffix(']').unwrap_or(step).parse()) {
                (Value::List(items), Ok::<usize, _>(index)) => {
                    items.get(index).map(|it| (it.line, it))
                }
                (Value::Map(entries), _) => {
                    let entry = entries.iter().find(|(key, _)| key.name == step);
                    entry.map(|(key, value)| (key.line, value))
                }
                _ => None,
            };
            let Some((at, value)) = next else { break };
            (line, node) = (at, value);
        }
        line
    }
}

/// Reads fields as the API reads a body: what is missing, unknown or wrong is named.
pub fn typed<T: DeserializeOwned>(given: serde_json::Value) -> Result<T, FieldError> {
    if !given.is_object() {
        let message = "must be a mapping of fields".to_owned();
        return Err(FieldError { field: String::new(), message });
    }
    if let Some(field) = fields::find_nul(&given, "") {
        return Err(FieldError { field, message: fields::NUL.to_owned() });
    }
    let numbers = given.clone();
    let wrong = match fields::read(given, Reading::Strict) {
        Ok(value) => return Ok(value),
        Err(Ok(unknown)) => unknown,
        Err(Err((path, error))) => {
            fields::describe(&path, &fields::without_place(&error), Reading::Strict)
        }
    };
    // YAML reads `443` and `true` as what they look like.
    let is_scalar = numbers.get(&wrong.field).is_some_and(|it| it.is_number() || it.is_boolean());
    if wrong.message == "must be a string" && is_scalar {
        return Err(FieldError { message: NOT_A_TEXT.to_owned(), ..wrong });
    }
    Err(wrong)
}

fn reading() -> Options {
    options! {
        budget: budget! { max_nodes: MAX_NODES, max_events: 2 * MAX_NODES },
        with_snippet: false,
        reject_unsupported_tags: true,
        // As YAML 1.2 has it: `no` is a text, and a gateway may be called that.
        strict_booleans: true,
        leading_zero_numbers_as_strings: true,
        underscored_numbers_as_strings: true,
    }
}

fn malformed(error: &YamlError) -> Fault {
    let error = error.without_snippet();
    let (line, column) = error.location().map_or((1, 1), |it| (it.line(), it.column()));
    let message = match error {
        YamlError::DuplicateMappingKey { key: Some(key), .. } => format!("`{key}` is given twice"),
        other => {
            let text = other.to_string();
            let place = format!(" at line {line}, column {column}");
            text.strip_suffix(&place).unwrap_or(&text).to_owned()
        }
    };
    Fault { line: line.max(1), message }
}

impl From<Spanned<Raw>> for Node {
    fn from(it: Spanned<Raw>) -> Self {
        let value = match it.value {
            Raw::Scalar(value) => value,
            Raw::List(items) => Value::List(items.into_iter().map(Self::from).collect()),
            Raw::Map(entries) => {
                let entry = |(key, value): (Spanned<String>, Spanned<Raw>)| {
                    let line = key.referenced.line();
                    (Key { name: key.value, line }, Self::from(value))
                };
                Value::Map(entries.into_iter().map(entry).collect())
            }
        };
        Self { line: it.referenced.line(), value }
    }
}

/// As the parser gives it.
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Anything;

        impl<'de> Visitor<'de> for Anything {
            type Value = Raw;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a text, a number, `true`, `false`, a list or a mapping")
            }

            fn visit_unit<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }

            fn visit_none<E>(self) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Null))
            }

            fn visit_some<D: Deserializer<'de>>(self, it: D) -> Result<Raw, D::Error> {
                Raw::deserialize(it)
            }

            fn visit_bool<E>(self, it: bool) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Bool(it)))
            }

            fn visit_i64<E>(self, it: i64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Number(it.into())))
            }

            fn visit_u64<E>(self, it: u64) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Number(it.into())))
            }

            fn visit_f64<E: serde::de::Error>(self, it: f64) -> Result<Raw, E> {
                let number = Number::from_f64(it).ok_or_else(|| E::custom("is no number"))?;
                Ok(Raw::Scalar(Value::Number(number)))
            }

            fn visit_str<E>(self, it: &str) -> Result<Raw, E> {
                Ok(Raw::Scalar(Value::Text(it.to_owned())))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Raw, A::Error> {
                let mut items = Vec::new();
                while let Some(item) = list.next_element()? {
                    items.push(item);
                }
                Ok(Raw::List(items))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry::<Spanned<String>, _>()? {
                    if entry.0.value.contains('\0') {
                        return Err(A::Error::custom(fields::NUL));
                    }
                    entries.push(entry);
                }
                Ok(Raw::Map(entries))
            }
        }

        deserializer.deserialize_any(Anything)
    }
}

/// What is written to a file, in order.
#[derive(Debug)]
pub enum Out {
    /// Anything without an order of its own.
    Value(serde_json::Value),
    /// A list.
    List(Vec<Out>),
    /// A mapping.
    Map(Vec<(String, Out)>),
}

impl Serialize for Out {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Value(value) => value.serialize(serializer),
            Self::List(items) => serializer.collect_seq(items),
            Self::Map(entries) => {
                serializer.collect_map(entries.iter().map(|(name, value)| (name, value)))
            }
        }
    }
}

impl Out {
    /// As YAML.
    pub fn yaml(&self) -> Result<String, String> {
        let options = serde_saphyr::ser_options! { prefer_block_scalars: false };
        serde_saphyr::to_string_with_options(self, options).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn fault(yaml: &str) -> String {
        Node::parse(yaml).unwrap_err().to_string()
    }

    #[test]
    fn everything_knows_its_line() {
        let yaml = "# a comment\nversion: 1\nthings:\n- name: a\n  list: [x,\n    y]\n- name: b\n";
        let node = Node::parse(yaml).unwrap();
        for (path, line) in [
            ("version", 2),
            ("things", 3),
            ("things[0]", 4),
            ("things[0].name", 4),
            ("things[0].list[1]", 6),
            ("things[1].name", 7),
            ("things[1].missing", 7),
            ("things[5]", 3),
            ("nothing.at.all", 2),
        ] {
            assert_eq!(node.line_of(path), line, "{path}");
        }
        let things = json!([{"name": "a", "list": ["x", "y"]}, {"name": "b"}]);
        assert_eq!(node.json(&["version"]), json!({"things": things}));
        let yaml = "[no, yes, on, true, 010, 1_0, 10, 1.5, '10', null, ~]";
        let read = json!(["no", "yes", "on", true, "010", "1_0", 10, 1.5, "10", null, null]);
        assert_eq!(Node::parse(yaml).unwrap().json(&[]), read);
    }

    #[test]
    fn what_is_malformed_is_said_with_its_line() {
        assert_eq!(fault("a: 1\na: 2\n"), "line 2: `a` is given twice");
        for (yaml, line) in [
            ("a: [1\n", "line 1: "),
            ("a:\n\t- b\n", "line 2: "),
            ("a: 1\n---\nb: 2\n", "line 3: "),
            ("\n? [1]\n: 2\n", "line 2: "),
            ("a: !secret x\n", "line 1: "),
            ("a: .nan\n", "line 1: "),
            ("a: *b\n", "line 1: "),
        ] {
            assert!(fault(yaml).starts_with(line), "{yaml}: {}", fault(yaml));
        }
        // Nested without an end, and aliases of aliases.
        assert!(Node::parse(&"[".repeat(100_000)).is_err());
        let mut bomb = "a: &a [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for (next, last) in ["b", "c", "d", "e", "f", "g", "h", "i"].iter().zip("abcdefgh".chars())
        {
            let nine = vec![format!("*{last}"); 9].join(", ");
            bomb.extend([next, ": &", next, " [", &nine, "]\n"]);
        }
        assert!(Node::parse(&bomb).is_err());
    }

    proptest! {
        /// Whatever is written is read as what it was.
        #[test]
        fn a_text_survives_its_yaml(texts in proptest::collection::vec("\\PC{0,30}", 0..8)) {
            let out = Out::Map(vec![("texts".to_owned(), Out::Value(json!(texts)))]);
            let read = Node::parse(&out.yaml().unwrap()).unwrap();
            prop_assert_eq!(read.json(&[]), json!({"texts": texts}));
        }
    }
}
