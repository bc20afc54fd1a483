//! Personal values on their way into the log and out of it.
//!
//! In an event's JSON a personal value is `{"of": person, "open": value}`; in the log it is
//! `{"of": person, "sealed": base64}`. In metadata, a flat map of strings, the personal fields of
//! [`Metadata::PERSONAL`] belong to the person in `person`. The stream, the sequence and the place in
//! the JSON are authenticated too, so that no sealed value can be moved to where it was not written.

use crate::secrets::PersonKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use gatekey_aggregates::{Metadata, PersonId};
use serde_json::{Map, Value};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// The keys at hand. A person without a key, or with none any more, can't be read.
pub type Keys = HashMap<PersonId, Arc<PersonKey>>;

/// What a sealed metadata value begins with.
const MARK: &str = "sealed:";

/// Where a value stands; what it is bound to.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The aggregate's type.
    pub aggregate_type: &'a str,
    /// The aggregate's id.
    pub aggregate_id: &'a str,
    /// The event's place in its stream.
    pub sequence: i64,
}

impl Place<'_> {
    fn bound_to(&self, path: &str) -> Vec<u8> {
        format!("{}/{}/{}{path}", self.aggregate_type, self.aggregate_id, self.sequence)
            .into_bytes()
    }
}

/// A value could not be sealed: no key, or no randomness. Nothing may then be written.
#[derive(Debug, thiserror::Error)]
#[error("a personal value of {0} could not be sealed")]
pub struct SealError(String);

/// Whose values a payload holds.
pub fn people_in(payload: &Value, people: &mut BTreeSet<PersonId>) {
    match payload {
        Value::Object(map) => {
            if let Some(of) = personal(map) {
                people.insert(PersonId::from(of.to_owned()));
            }
            map.values().for_each(|value| people_in(value, people));
        }
        Value::Array(items) => items.iter().for_each(|value| people_in(value, people)),
        _ => {}
    }
}

/// Whose value this object is, if it is one.
fn personal(map: &Map<String, Value>) -> Option<&str> {
    let is_value = map.len() == 2 && (map.contains_key("open") || map.contains_key("sealed"));
    if is_value { map.get("of")?.as_str() } else { None }
}

/// Seals every open value of a payload.
pub fn seal_payload(payload: &mut Value, place: Place<'_>, keys: &Keys) -> Result<(), SealError> {
    visit(payload, &mut String::new(), &mut |map, path| {
        let Some(open) = map.get("open") else { return Ok(()) };
        let of = map.get("of").and_then(Value::as_str).unwrap_or_default().to_owned();
        let plain = open.to_string();
        let sealed = seal(&of, plain.as_bytes(), &place.bound_to(path), keys)?;
        map.remove("open");
        map.insert("sealed".to_owned(), sealed.into());
        Ok(())
    })
}

/// Opens every value of a payload whose key is at hand; the others stay sealed, and read as shut.
pub fn open_payload(payload: &mut Value, place: Place<'_>, keys: &Keys) {
    let opened: Result<(), SealError> = visit(payload, &mut String::new(), &mut |map, path| {
        let of = map.get("of").and_then(Value::as_str).unwrap_or_default();
        let sealed = map.get("sealed").and_then(Value::as_str).unwrap_or_default();
        let plain = open(of, sealed, &place.bound_to(path), keys);
        if let Some(value) = plain.and_then(|plain| serde_json::from_slice(&plain).ok()) {
            map.remove("sealed");
            map.insert("open".to_owned(), value);
        }
        Ok(())
    });
    debug_assert!(opened.is_ok(), "opening refuses nothing");
}

/// Seals the personal fields of metadata.
pub fn seal_metadata(
    map: &mut HashMap<String, String>,
    place: Place<'_>,
    keys: &Keys,
) -> Result<(), SealError> {
    let of = map.get("person").cloned().unwrap_or_default();
    for field in Metadata::PERSONAL {
        if let Some(value) = map.get_mut(field) {
            let bound_to = place.bound_to(&format!("#{field}"));
            *value = format!("{MARK}{}", seal(&of, value.as_bytes(), &bound_to, keys)?);
        }
    }
    Ok(())
}

/// Opens the personal fields of metadata; what can't be opened is left out.
pub fn open_metadata(map: &mut HashMap<String, String>, place: Place<'_>, keys: &Keys) {
    let of = map.get("person").cloned().unwrap_or_default();
    for field in Metadata::PERSONAL {
        let Some(sealed) = map.get(field).and_then(|value| value.strip_prefix(MARK)) else {
            continue;
        };
        let plain = open(&of, sealed, &place.bound_to(&format!("#{field}")), keys);
        match plain.and_then(|plain| String::from_utf8(plain).ok()) {
            Some(plain) => map.insert(field.to_owned(), plain),
            None => map.remove(field),
        };
    }
}

fn seal(of: &str, plain: &[u8], bound_to: &[u8], keys: &Keys) -> Result<String, SealError> {
    let key = keys.get(&PersonId::from(of.to_owned())).ok_or_else(|| SealError(of.to_owned()))?;
    let sealed = key.seal(bound_to, plain).map_err(|_| SealError(of.to_owned()))?;
    Ok(STANDARD_NO_PAD.encode(sealed))
}

fn open(of: &str, sealed: &str, bound_to: &[u8], keys: &Keys) -> Option<Vec<u8>> {
    let key = keys.get(&PersonId::from(of.to_owned()))?;
    let sealed = STANDARD_NO_PAD.decode(sealed).ok()?;
    key.open(bound_to, &sealed).ok().map(|plain| plain.to_vec())
}

/// Calls `change` for each personal value, with its path.
fn visit<E>(
    value: &mut Value,
    path: &mut String,
    change: &mut impl FnMut(&mut Map<String, Value>, &str) -> Result<(), E>,
) -> Result<(), E> {
    let length = path.len();
    match value {
        Value::Object(map) if personal(map).is_some() => change(map, path)?,
        Value::Object(map) => {
            for (name, value) in map {
                path.push('/');
                path.push_str(name);
                visit(value, path, change)?;
                path.truncate(length);
            }
        }
        Value::Array(items) => {
            for (index, value) in items.iter_mut().enumerate() {
                path.push('/');
                path.push_str(&index.to_string());
                visit(value, path, change)?;
                path.truncate(length);
            }
        }
        _ => {}
    }
    Ok(())
}
