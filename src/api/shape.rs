//! An object in a body must be given as one. serde's derive also reads a struct from a list of its
//! fields' values, and has no switch for that, so bodies with lists in them are walked once more.

use crate::fields::FieldError;
use serde::Deserializer;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{DeserializeOwned, Error as _, IntoDeserializer, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// Said of a list that stands where an object is expected.
pub(super) const NOT_AN_OBJECT: &str = "must be an object";

/// The first list in the body that a `T` would read as an object.
pub(super) fn list_for_object<T: DeserializeOwned>(bytes: &[u8]) -> Option<FieldError> {
    if !bytes.contains(&b'[') {
        return None;
    }
    // What is no JSON is told by others.
    let value: Value = serde_json::from_slice(bytes).ok()?;
    let mut track = serde_path_to_error::Track::new();
    let tracked = serde_path_to_error::Deserializer::new(Walked(&value), &mut track);
    // Whatever else is wrong is told by others, too.
    let error = T::deserialize(tracked).err()?;
    (error.to_string() == NOT_AN_OBJECT).then(|| {
        let path = track.path().to_string();
        let field = if path == "." { crate::fields::BODY.to_owned() } else { path };
        FieldError { field, message: NOT_AN_OBJECT.to_owned() }
    })
}

/// A value of which no list is an object.
#[derive(Clone, Copy)]
struct Walked<'a>(&'a Value);

impl<'de> IntoDeserializer<'de, Error> for Walked<'de> {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}

impl<'de> Deserializer<'de> for Walked<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(items) => visitor.visit_seq(SeqDeserializer::new(items.iter().map(Self))),
            Value::Object(fields) => {
                let fields = fields.iter().map(|(name, value)| (name.as_str(), Self(value)));
                visitor.visit_map(MapDeserializer::new(fields))
            }
            scalar => scalar.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if self.0.is_array() {
            return Err(Error::custom(NOT_AN_OBJECT));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.0.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use std::collections::BTreeMap;

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Inner {
        cidr: String,
        port: Option<u16>,
    }

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Wrapped(Inner);

    #[derive(Deserialize)]
    #[allow(dead_code)]
    struct Thing {
        name: String,
        #[serde(default)]
        groups: Vec<String>,
        one: Option<Inner>,
        wrapped: Option<Wrapped>,
        #[serde(default)]
        many: Vec<Inner>,
        #[serde(default)]
        named: BTreeMap<String, Inner>,
        pair: Option<(u8, u8)>,
    }

    fn found(body: &str) -> Option<String> {
        list_for_object::<Thing>(body.as_bytes()).map(|it| {
            assert_eq!(it.message, NOT_AN_OBJECT);
            it.field
        })
    }

    #[test]
    fn a_list_for_an_object_is_found_at_any_depth() {
        for (body, field) in [
            (r#"["a"]"#, "body"),
            (r#"{"name":"a","one":["10.0.0.0/8",443]}"#, "one"),
            (r#"{"name":"a","one":[]}"#, "one"),
            (r#"{"name":"a","wrapped":["10.0.0.0/8",null]}"#, "wrapped"),
            (r#"{"name":"a","many":[{"cidr":"10.0.0.0/8"},["10.1.0.0/16",1]]}"#, "many[1]"),
            (r#"{"name":"a","named":{"x":["10.0.0.0/8",1]}}"#, "named.x"),
        ] {
            assert_eq!(found(body).as_deref(), Some(field), "{body}");
        }
    }

    #[test]
    fn a_list_for_a_list_is_none_and_neither_is_what_others_tell() {
        for body in [
            r#"{"name":"a","groups":["b","c"],"many":[{"cidr":"10.0.0.0/8","port":1}],"pair":[1,2]}"#,
            r#"{"name":"a","one":{"cidr":"10.0.0.0/8","more":[1,[2]]},"more":[[]]}"#,
            r#"{"name":"a","many":[1]}"#,
            r#"{"name":["a"]}"#,
            r#"{"groups":["b"]}"#,
            r#"{"name":"a","#,
            "[",
        ] {
            assert_eq!(found(body), None, "{body}");
        }
    }
}
