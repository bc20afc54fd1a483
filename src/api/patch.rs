//! PATCH: a JSON merge patch (RFC 7396) of what PUT replaces.
//!
//! ```ignore
//! type NetworkPatch = MergePatch<NetworkRequest>;
//!
//! async fn patch(…, patch: NetworkPatch) -> Result<Answer, ApiError> {
//!     unless_overtaken(&if_match, || async {
//!         let network = find(&services, &id).await?;
//!         if_match.check(network.row.etag)?;
//!         let revision = Some(network.row.revision);
//!         let body = patch.onto(&Network::from(network))?;
//!         change(&services, &admin, &id, body, revision).await
//!     })
//!     .await
//! }
//! ```

use super::json::{is_of_type, parse, read_body};
use super::{ApiError, IfMatch};
use crate::event_log::CommandError;
use crate::fields::{self, Reading};
use axum::extract::{FromRequest, Request};
use serde::de::value::Error as NoValue;
use serde::de::{DeserializeOwned, Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use utoipa::openapi::schema::{OneOfBuilder, SchemaType, Type};
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// How often a change is tried anew that others keep overtaking.
const TRIES: u32 = 8;
/// What a patch may be sent as.
const CONTENT_TYPES: [&str; 2] = ["application/merge-patch+json", "application/json"];

/// What is to change of a thing whose PUT takes a `T`: the fields that are named. Null takes a
/// field away, which gives it its default. Fields that `T` does not know, and values that it does
/// not take, are a 400 that names them, before anything is looked up.
///
/// `T` is a struct of plain fields, named in answers as they are in `T`.
#[derive(Clone, Debug)]
pub struct MergePatch<T> {
    changes: Map<String, Value>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> MergePatch<T> {
    /// What PUT would be sent to make this change of `thing`, as GET shows it.
    pub fn onto(&self, thing: &impl Serialize) -> Result<T, ApiError> {
        let mut whole = match serde_json::to_value(thing).map_err(ApiError::internal)? {
            Value::Object(whole) => whole,
            other => return Err(ApiError::internal(format!("{other} can't be patched"))),
        };
        let known = fields_of::<T>();
        whole.retain(|name, _| known.contains(&name.as_str()));
        merge(&mut whole, &self.changes);
        typed(whole).map_err(ApiError::from)
    }

    fn read(bytes: &[u8]) -> Result<Self, ApiError> {
        let Changes(changes) = parse(bytes, Reading::Strict)?;
        let known = fields_of::<T>();
        if let Some(name) = changes.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(ApiError::invalid_field(name.clone(), fields::UNKNOWN));
        }
        let mut given = changes.clone();
        given.retain(|_, value| !value.is_null());
        match typed::<T>(given) {
            // What is missing is what stays as it is.
            Ok(_) | Err(Wrong::Missing(_)) => Ok(Self { changes, of: PhantomData }),
            Err(wrong) => Err(wrong.into()),
        }
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for MergePatch<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        if !CONTENT_TYPES.iter().any(|it| is_of_type(request.headers(), it)) {
            return Err(ApiError::unsupported_media_type().message(
                "The body must be sent with `Content-Type: application/merge-patch+json` or \
                 `application/json`",
            ));
        }
        Self::read(&read_body(request).await?)
    }
}

/// Makes a change that is derived from the state it is for, and demands that state. If others were
/// faster, it is derived anew; but not where the caller named the state with `If-Match`.
pub async fn unless_overtaken<T, F>(
    if_match: &IfMatch,
    change: impl Fn() -> F,
) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    for _ in 0..TRIES {
        match change().await {
            Err(error) if *if_match == IfMatch::Any && error.is_changed_meanwhile() => {}
            done => return done,
        }
    }
    Err(CommandError::Contended.into())
}

/// RFC 7396, 2.
fn merge(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (name, value) in patch {
        match value {
            Value::Null => {
                target.remove(name);
            }
            Value::Object(inner) => {
                let slot = target.entry(name.clone()).or_insert(Value::Null);
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(slot) = slot {
                    merge(slot, inner);
                }
            }
            value => {
                target.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Why fields are no `T`.
enum Wrong {
    /// One of its own is not there.
    Missing(fields::FieldError),
    /// One has a wrong value.
    Value(fields::FieldError),
}

impl From<Wrong> for ApiError {
    fn from(wrong: Wrong) -> Self {
        match wrong {
            Wrong::Missing(error) | Wrong::Value(error) => Self::invalid_fields(vec![error]),
        }
    }
}

fn typed<T: DeserializeOwned>(given: Map<String, Value>) -> Result<T, Wrong> {
    fields::read(Value::Object(given), Reading::Strict).map_err(|error| match error {
        Ok(unknown) => Wrong::Value(unknown),
        Err((path, error)) => {
            let message = error.to_string();
            let error = fields::describe(&path, &message, Reading::Strict);
            // serde looks for what is missing when it has read all there is.
            if path == "." && message.starts_with("missing field `") {
                Wrong::Missing(error)
            } else {
                Wrong::Value(error)
            }
        }
    })
}

/// An object none of whose fields is given twice.
struct Changes(Map<String, Value>);

impl<'de> Deserialize<'de> for Changes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        impl<'de> Visitor<'de> for Fields {
            type Value = Changes;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Changes, A::Error> {
                let mut fields = Map::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if fields.contains_key(&name) {
                        return Err(A::Error::custom(format!("duplicate field `{name}`")));
                    }
                    fields.insert(name, value);
                }
                Ok(Changes(fields))
            }
        }

        deserializer.deserialize_map(Fields)
    }
}

/// The names of a struct's fields, as its `Deserialize` tells them to whoever it reads from.
pub(crate) fn fields_of<T: DeserializeOwned>() -> &'static [&'static str] {
    struct Listener<'a>(&'a mut &'static [&'static str]);

    impl<'de> Deserializer<'de> for Listener<'_> {
        type Error = NoValue;

        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, NoValue> {
            Err(NoValue::custom("there is nothing to read"))
        }

        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, NoValue> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
            option unit unit_struct newtype_struct seq tuple tuple_struct map enum identifier
            ignored_any
        }
    }

    let mut fields: &'static [&'static str] = &[];
    // It fails always: only the names are wanted.
    let _ = T::deserialize(Listener(&mut fields));
    fields
}

impl<T: ToSchema> PartialSchema for MergePatch<T> {
    fn schema() -> RefOr<Schema> {
        let RefOr::T(Schema::Object(mut object)) = T::schema() else { return T::schema() };
        for (name, property) in &mut object.properties {
            if let RefOr::T(Schema::Object(property)) = property {
                property.default = None;
            }
            if !object.required.contains(name) {
                or_null(property);
            }
        }
        object.required.clear();
        object.description = Some("Only what is to change: null takes a field away.".to_owned());
        RefOr::T(Schema::Object(object))
    }
}

impl<T: ToSchema> ToSchema for MergePatch<T> {
    fn name() -> Cow<'static, str> {
        let whole = T::name();
        format!("{}Patch", whole.strip_suffix("Request").unwrap_or(&whole)).into()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        T::schemas(schemas);
    }
}

/// Lets a property be null too.
fn or_null(property: &mut RefOr<Schema>) {
    let schema_type = match property {
        RefOr::T(Schema::Object(it)) => Some(&mut it.schema_type),
        RefOr::T(Schema::Array(it)) => Some(&mut it.schema_type),
        RefOr::Ref(_) => None,
        // What can be several things can be null already, where it may.
        RefOr::T(_) => return,
    };
    match schema_type {
        Some(SchemaType::Type(one)) => {
            let one = one.clone();
            if let Some(it) = schema_type {
                *it = SchemaType::Array(vec![one, Type::Null]);
            }
        }
        Some(_) => {}
        None => {
            let null = ObjectBuilder::new().schema_type(Type::Null);
            let one = OneOfBuilder::new().item(null).item(property.clone());
            *property = RefOr::T(Schema::OneOf(one.build()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gatekey_aggregates::values::{Description, Role};
    use serde_json::json;

    #[derive(Debug, PartialEq, Deserialize, Serialize, ToSchema)]
    #[serde(deny_unknown_fields)]
    struct ThingRequest {
        name: String,
        #[serde(default)]
        description: Description,
        port: Option<u16>,
        #[serde(default)]
        role: Role,
        #[serde(default)]
        dns: Vec<String>,
    }

    fn read(body: &Value) -> Result<MergePatch<ThingRequest>, ApiError> {
        MergePatch::read(body.to_string().as_bytes())
    }

    fn whole() -> Value {
        json!({"id": "x-1", "name": "a", "description": "d", "port": 7, "role": "admin",
            "dns": ["1", "2"], "created_at": 5})
    }

    #[test]
    fn what_is_named_changes_and_the_rest_stays() {
        for (patch, field, value) in [
            (json!({}), "name", json!("a")),
            (json!({"name": "b"}), "name", json!("b")),
            (json!({"description": null}), "description", json!("")),
            (json!({"port": null}), "port", json!(null)),
            (json!({"role": null}), "role", json!("member")),
            (json!({"dns": ["3"]}), "dns", json!(["3"])),
            (json!({"dns": null}), "dns", json!([])),
        ] {
            let patched = read(&patch).unwrap().onto(&whole()).unwrap();
            let mut expected = whole();
            expected
                .as_object_mut()
                .unwrap()
                .retain(|name, _| !["id", "created_at"].contains(&&**name));
            expected[field] = value;
            assert_eq!(serde_json::to_value(patched).unwrap(), expected, "{patch}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_named_whatever_it_is_for() {
        for (body, field, message) in [
            (r#"{"nope":1}"#, "nope", fields::UNKNOWN),
            (r#"{"nope":null}"#, "nope", fields::UNKNOWN),
            (r#"{"id":"x-2"}"#, "id", fields::UNKNOWN),
            (r#"{"name":5}"#, "name", "must be a string"),
            (r#"{"port":"x"}"#, "port", "must be a whole number from 0 to 65535"),
            (r#"{"role":"king"}"#, "role", "must be one of `member`, `auditor`, `admin`"),
            (r#"{"name":"a","name":"b"}"#, "name", "is given twice"),
            (r#"{"name":"a\u0000"}"#, "name", fields::NUL),
            ("[]", "body", "must be an object"),
            ("null", "body", "must be an object"),
        ] {
            let error = MergePatch::<ThingRequest>::read(body.as_bytes()).unwrap_err();
            let detail = &error.details[0];
            assert_eq!((&*detail.field, &*detail.message), (field, message), "{body}");
        }
        for malformed in ["", "{", "{} x"] {
            assert!(MergePatch::<ThingRequest>::read(malformed.as_bytes()).is_err(), "{malformed}");
        }
        // What must be there can't be taken away.
        let error = read(&json!({"name": null})).unwrap().onto(&whole()).unwrap_err();
        assert_eq!((&*error.details[0].field, &*error.details[0].message), ("name", "is required"));
    }

    #[test]
    fn objects_are_merged_and_anything_else_replaced() {
        // RFC 7396, appendix A.
        for (target, patch, merged) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
            (
                json!({"a": {"b": "c"}}),
                json!({"a": {"b": "d", "c": null}}),
                json!({"a": {"b": "d"}}),
            ),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!({"a": "foo"}), json!({"a": {"bb": {"c": null}}}), json!({"a": {"bb": {}}})),
        ] {
            let mut result = target.as_object().unwrap().clone();
            merge(&mut result, patch.as_object().unwrap());
            assert_eq!(Value::Object(result), merged, "{target} {patch}");
        }
    }

    #[test]
    fn the_document_says_what_may_be_null() {
        let schema = serde_json::to_value(MergePatch::<ThingRequest>::schema()).unwrap();
        assert_eq!(MergePatch::<ThingRequest>::name(), "ThingPatch");
        assert!(schema.get("required").is_none(), "{schema}");
        assert_eq!(schema["additionalProperties"], false);
        assert_eq!(schema["properties"]["port"]["type"], json!(["integer", "null"]));
        assert_eq!(schema["properties"]["dns"]["type"], json!(["array", "null"]));
        let null = json!({"type": "null"});
        assert_eq!(schema["properties"]["role"]["oneOf"][0], null);
        assert_eq!(schema["properties"]["name"]["type"], "string");
    }

    #[tokio::test]
    async fn a_change_that_was_overtaken_is_made_anew() {
        let calls = std::sync::atomic::AtomicU32::new(0);
        let attempt = |lost: u32| {
            let calls = &calls;
            move || async move {
                match calls.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                    n if n < lost => Err(ApiError::changed_meanwhile()),
                    n => Ok(n),
                }
            }
        };
        assert_eq!(unless_overtaken(&IfMatch::Any, attempt(3)).await.unwrap(), 3);
        let named = IfMatch::Positions(vec![1]);
        let error = unless_overtaken(&named, attempt(9)).await.unwrap_err();
        assert_eq!(error.status, 412);
        let error = unless_overtaken(&IfMatch::Any, attempt(100)).await.unwrap_err();
        assert_eq!(error.status, 503);
    }
}
