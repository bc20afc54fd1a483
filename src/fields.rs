//! Turns serde's words into words for people: which field is wrong, and what it must be.

use gatekey_aggregates::values::{CommonName, Serial, SessionId};
use serde::Deserializer;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_ignored::Path as Ignored;
use utoipa::ToSchema;

/// What the whole is called when the fault lies in no field of it.
pub(crate) const BODY: &str = "body";

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// The field, such as `port` or `rules[2].value`.
    #[schema(example = "port")]
    pub field: String,
    /// What it must be.
    #[schema(example = "must be a whole number from 1 to 65535")]
    pub message: String,
}

/// How strictly a request is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// Unknown fields are refused, and a refusal may use a value type's own words.
    Strict,
    /// Unknown fields are ignored, and a refusal never holds anything that was sent.
    Lenient,
}

/// Reads a `T`. The error says where, and what serde says (without serde_json's line and column,
/// which [`without_place`] takes away).
pub(crate) fn read<'de, T, D>(
    deserializer: D,
    reading: Reading,
) -> Result<T, Result<FieldError, (String, D::Error)>>
where
    T: DeserializeOwned,
    D: Deserializer<'de>,
{
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(deserializer, &mut track);
    let mut unknown = None;
    let read = if reading == Reading::Strict {
        let mut note = |path: Ignored<'_>| {
            if unknown.is_none() {
                unknown = Some(ignored(&path));
            }
        };
        T::deserialize(serde_ignored::Deserializer::new(tracked, &mut note))
    } else {
        T::deserialize(tracked)
    };
    match (read, unknown) {
        (Ok(value), None) => Ok(value),
        // An unknown field is the likelier cause of a missing one: a misspelling.
        (_, Some(field)) => Err(Ok(FieldError { field, message: UNKNOWN.to_owned() })),
        (Err(error), None) => Err(Err((track.path().to_string(), error))),
    }
}

/// Said of text with a NUL.
pub(crate) const NUL: &str = "must not hold NUL characters";

/// Said of a field that is not known.
pub(crate) const UNKNOWN: &str = "is not a field that is known here";

/// What is said of a field, from the path and the words of serde.
pub(crate) fn describe(path: &str, message: &str, reading: Reading) -> FieldError {
    let path = if path == "." { "" } else { path };
    let within = |field: &str, message: &str| FieldError {
        // Some deserialisers have the field in the path already.
        field: if path.is_empty() || path == field || path.ends_with(&format!(".{field}")) {
            if path.is_empty() { field.to_owned() } else { path.to_owned() }
        } else {
            format!("{path}.{field}")
        },
        message: message.to_owned(),
    };
    for (prefix, words) in [
        ("missing field `", "is required"),
        ("duplicate field `", "is given twice"),
        ("unknown field `", UNKNOWN),
    ] {
        if let Some((field, _)) = message.strip_prefix(prefix).and_then(|rest| rest.split_once('`'))
        {
            return within(field, words);
        }
    }
    let field = if path.is_empty() { BODY } else { path };
    FieldError { field: field.to_owned(), message: expectation(message, reading) }
}

/// Takes away the ` at line 1 column 7` that serde_json puts behind its messages.
pub(crate) fn without_place(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&place).unwrap_or(&message).to_owned()
}

fn ignored(path: &Ignored<'_>) -> String {
    let below = |parent: &Ignored<'_>, rest: String| match (ignored(parent), rest) {
        (parent, rest) if parent.is_empty() => rest,
        (parent, rest) if rest.starts_with('[') => parent + &rest,
        (parent, rest) => format!("{parent}.{rest}"),
    };
    match path {
        Ignored::Root => String::new(),
        Ignored::Seq { parent, index } => below(parent, format!("[{index}]")),
        Ignored::Map { parent, key } => below(parent, key.clone()),
        Ignored::Some { parent }
        | Ignored::NewtypeStruct { parent }
        | Ignored::NewtypeVariant { parent } => ignored(parent),
    }
}

fn expectation(message: &str, reading: Reading) -> String {
    if let Some(known) = known_words(message) {
        return known.to_owned();
    }
    if let Some(own) = AGENTS_VALUES.into_iter().find(|own| *own == message) {
        return own.to_owned();
    }
    // What was sent stands before the last `expected`; what stands behind it is ours.
    let shapes = ["invalid type: ", "invalid value: ", "invalid length ", "unknown variant `"];
    if shapes.iter().any(|shape| message.starts_with(shape))
        && let Some((_, expected)) = message.rsplit_once(", expected ")
    {
        return format!("must be {}", shape(expected));
    }
    match reading {
        Reading::Strict => message.to_owned(),
        Reading::Lenient => "is not valid".to_owned(),
    }
}

/// What our own types say of the values that agents send; nothing of these stands in it.
const AGENTS_VALUES: [&str; 3] = [CommonName::EXPECTED, Serial::EXPECTED, SessionId::EXPECTED];

/// Words of the parsers of other crates.
fn known_words(message: &str) -> Option<&'static str> {
    Some(match message {
        "invalid socket address syntax" => {
            "must be an address and a port, such as `127.0.0.1:8080`"
        }
        "invalid IP address syntax" => "must be an IP address",
        "invalid IPv4 address syntax" => "must be an IPv4 address",
        "invalid IPv6 address syntax" => "must be an IPv6 address",
        "provided string was not `true` or `false`" => "must be `true` or `false`",
        "invalid digit found in string"
        | "cannot parse integer from empty string"
        | "number too large to fit in target type"
        | "number too small to fit in target type" => "must be a whole number in range",
        // chrono
        "input contains invalid characters"
        | "premature end of input"
        | "trailing input"
        | "input is out of range"
        | "no possible date and time matching input"
        | "input is not enough for unique date and time" => {
            "must be a time such as `2026-01-31T12:00:00Z`"
        }
        // serde_json, of an enum
        "expected value" => "is of the wrong type",
        _ => return None,
    })
}

/// What Rust calls a type, in the words of JSON.
fn shape(expected: &str) -> String {
    let (low, high) = match expected {
        "u8" => (0, i64::from(u8::MAX)),
        "u16" => (0, i64::from(u16::MAX)),
        "u32" => (0, i64::from(u32::MAX)),
        "i32" => (i64::from(i32::MIN), i64::from(i32::MAX)),
        "u64" | "usize" => return "a whole number, 0 or more".to_owned(),
        "i64" => return "a whole number".to_owned(),
        "f32" | "f64" => return "a number".to_owned(),
        "a boolean" => return "`true` or `false`".to_owned(),
        "a sequence" => return "a list".to_owned(),
        "a map" => return "an object".to_owned(),
        "a formatted date and time string or a unix timestamp"
        | "an RFC 3339 formatted date and time string" => {
            return "a time such as `2026-01-31T12:00:00Z`".to_owned();
        }
        struct_name if struct_name.starts_with("struct ") => return "an object".to_owned(),
        enum_name if enum_name.starts_with("enum ") => return "one of the known words".to_owned(),
        other => return other.to_owned(),
    };
    format!("a whole number from {low} to {high}")
}

/// The first string or key that holds a NUL, which no database takes as text.
pub(crate) fn find_nul(value: &serde_json::Value, at: &str) -> Option<String> {
    use serde_json::Value;
    match value {
        Value::String(text) => text.contains('\0').then(|| at.to_owned()),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .find_map(|(index, item)| find_nul(item, &format!("{at}[{index}]"))),
        Value::Object(fields) => fields.iter().find_map(|(key, item)| {
            let at = if at.is_empty() { key.clone() } else { format!("{at}.{key}") };
            if key.contains('\0') { Some(BODY.to_owned()) } else { find_nul(item, &at) }
        }),
        _ => None,
    }
}
