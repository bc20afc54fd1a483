//! The last touches on the document: what follows from the rest of it, so that no handler need
//! write it. Wrapped things are referred to by name, and every body has an example, made of the
//! examples of its fields.

use axum::http::StatusCode;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use utoipa::openapi::OpenApi;

use crate::api::ApiError;
use crate::api::json::MAX_BODY;

const ERROR: &str = "#/components/schemas/Error";
/// What every time in the examples is.
const TIME: &str = "2026-01-31T12:00:00Z";
/// No example goes deeper.
const DEPTH: u32 = 16;

/// The document as it is sent.
pub fn finish(document: &OpenApi) -> Result<Value, serde_json::Error> {
    let mut document = serde_json::to_value(document)?;
    every_schema(&mut document, &mut |schema| {
        // OpenAPI 3.1 is JSON Schema, where examples are a list.
        if let Some(example) = schema.remove("example") {
            schema.entry("examples").or_insert_with(|| json!([example]));
        }
    });
    refer(&mut document);
    every_operation(&mut document, &mut absent_is_not_null);
    every_operation(&mut document, &mut bytes_are_no_list);
    let schemas = schemas_of(&document);
    every_operation(&mut document, &mut |operation| exemplify(operation, &schemas));
    exemplify_shared_errors(&mut document);
    Ok(document)
}

/// The schemas by name.
pub(super) fn schemas_of(document: &Value) -> Map<String, Value> {
    document["components"]["schemas"].as_object().cloned().unwrap_or_default()
}

/// An example of `schema`; or the path of a field that has none.
pub(super) fn example(schema: &Value, schemas: &Map<String, Value>) -> Result<Value, String> {
    example_within(schema, schemas, String::new(), DEPTH)
}

fn example_within(
    schema: &Value,
    schemas: &Map<String, Value>,
    at: String,
    depth: u32,
) -> Result<Value, String> {
    let Some(depth) = depth.checked_sub(1) else { return Err(at) };
    let within = |schema: &Value, part: &str| {
        let at = if at.is_empty() { part.to_owned() } else { format!("{at}.{part}") };
        example_within(schema, schemas, at, depth)
    };
    if let Some(given) = schema["examples"].get(0).or(schema["enum"].get(0)) {
        return Ok(given.clone());
    }
    if let Some(given) = schema.get("default").or(schema.get("const")) {
        return Ok(given.clone());
    }
    if let Some(name) = schema["$ref"].as_str().and_then(|it| it.rsplit('/').next()) {
        let known = schemas.get(name).ok_or_else(|| at.clone())?;
        return example_within(known, schemas, at, depth);
    }
    for choice in ["oneOf", "anyOf"] {
        let mut choices = schema[choice].as_array().into_iter().flatten();
        if let Some(first) = choices.find(|it| it["type"] != "null") {
            return example_within(first, schemas, at, depth);
        }
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let mut whole = Map::new();
        for part in parts {
            if let Value::Object(fields) = example_within(part, schemas, at.clone(), depth)? {
                whole.extend(fields);
            }
        }
        return Ok(whole.into());
    }
    match kind(schema) {
        Some("object") => {
            let mut fields = Map::new();
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                fields.insert(name.clone(), within(field, name)?);
            }
            match &schema["additionalProperties"] {
                // What keys look like, only an example of the whole can tell.
                Value::Object(_) => Err(at),
                _ => Ok(fields.into()),
            }
        }
        Some("array") => Ok(json!([within(&schema["items"], "[]")?])),
        Some("boolean") => Ok(true.into()),
        Some("string") if schema["format"] == "date-time" => Ok(TIME.into()),
        Some("string") if schema["format"] == "binary" => Ok("…".into()),
        Some("integer" | "number") => Ok(schema.get("minimum").cloned().unwrap_or(1.into())),
        _ => Err(at),
    }
}

/// The type, or the one besides null.
fn kind(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).find(|it| *it != "null"),
        one => one.as_str(),
    }
}

/// utoipa writes what a generic type wraps out in full; generators would make a type of each.
fn refer(document: &mut Value) {
    let named: Vec<(String, Value)> = schemas_of(document)
        .into_iter()
        .filter(|(name, schema)| !name.contains('_') && schema["properties"].is_object())
        .collect();
    let named: BTreeMap<String, &str> =
        named.iter().map(|(name, schema)| (schema.to_string(), name.as_str())).collect();
    for schema in members(document.pointer_mut("/components/schemas")) {
        every_part(schema, &mut |part| {
            if part["properties"].is_object()
                && let Some(name) = named.get(&part.to_string())
            {
                *part = json!({"$ref": format!("#/components/schemas/{name}")});
            }
        });
    }
}

/// A parameter that is left out is absent; null is a word that it might take.
fn absent_is_not_null(operation: &mut Value) {
    for parameter in items(operation.get_mut("parameters")) {
        let Some(schema) = parameter.get_mut("schema") else { continue };
        let choices = schema["oneOf"].as_array().into_iter().flatten();
        let real: Vec<Value> = choices.filter(|it| it["type"] != "null").cloned().collect();
        if let [only] = &real[..] {
            *schema = only.clone();
        }
        if let Some(only) = kind(schema).map(str::to_owned) {
            schema["type"] = only.into();
        }
    }
}

/// utoipa takes bytes for a list of numbers.
fn bytes_are_no_list(operation: &mut Value) {
    for answer in members(operation.get_mut("responses")) {
        let content = answer.get_mut("content").and_then(Value::as_object_mut);
        for (kind, media) in content.into_iter().flatten() {
            if !kind.ends_with("json") && media["schema"]["type"] == "array" {
                *media = json!({"schema": {"type": "string", "format": "binary"}});
            }
        }
    }
}

fn exemplify(operation: &mut Value, schemas: &Map<String, Value>) {
    for media in members(operation.pointer_mut("/requestBody/content")) {
        give(media, |schema| example(schema, schemas).ok());
    }
    let answers = operation.get_mut("responses").and_then(Value::as_object_mut);
    for (status, answer) in answers.into_iter().flatten() {
        for media in members(answer.get_mut("content")) {
            give(media, |schema| match schema["$ref"].as_str() {
                Some(ERROR) => an_error(status),
                _ => example(schema, schemas).ok(),
            });
        }
    }
}

/// An example of its schema, unless it has one.
fn give(media: &mut Value, make: impl FnOnce(&Value) -> Option<Value>) {
    if media["example"].is_null()
        && media["examples"].is_null()
        && let Some(made) = make(&media["schema"])
    {
        media["example"] = made;
    }
}

/// The errors that operations share stand among the components, without a status.
fn exemplify_shared_errors(document: &mut Value) {
    let mut status_of = BTreeMap::new();
    every_operation(document, &mut |operation| {
        for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
            if let Some(name) = answer["$ref"].as_str().and_then(|it| it.rsplit('/').next()) {
                status_of.insert(name.to_owned(), status.clone());
            }
        }
    });
    let shared = document.pointer_mut("/components/responses").and_then(Value::as_object_mut);
    for (name, answer) in shared.into_iter().flatten() {
        for media in members(answer.get_mut("content")) {
            give(media, |_| status_of.get(name).and_then(|status| an_error(status)));
        }
    }
}

/// What an error of that status may look like.
fn an_error(status: &str) -> Option<Value> {
    let error = match status {
        "400" => ApiError::invalid_field("name", "is required"),
        "401" => ApiError::unauthorized(),
        "403" => ApiError::forbidden(),
        "404" => ApiError::not_found(),
        "409" => ApiError::taken("name", "`us-east-1` is taken by gw-001"),
        "412" => ApiError::changed_meanwhile(),
        "413" => ApiError::too_large(MAX_BODY),
        "415" => ApiError::unsupported_media_type(),
        "429" => ApiError::rate_limited(2),
        "500" => ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal_error",
            "Something went wrong here; the log says what, under this request id",
        ),
        "503" => ApiError::unavailable("The database is unavailable: try again"),
        _ => return None,
    };
    serde_json::to_value(error.body()).ok()
}

/// What an object holds; nothing of what is none.
fn members(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_object_mut).into_iter().flatten().map(|(_, member)| member)
}

fn items(value: Option<&mut Value>) -> impl Iterator<Item = &mut Value> {
    value.and_then(Value::as_array_mut).into_iter().flatten()
}

/// `f` on every operation.
fn every_operation(document: &mut Value, f: &mut impl FnMut(&mut Value)) {
    for item in members(document.get_mut("paths")) {
        members(Some(item)).for_each(&mut *f);
    }
}

/// `f` on every schema, wherever it stands.
fn every_schema(document: &mut Value, f: &mut impl FnMut(&mut Map<String, Value>)) {
    let mut on_all = |schema: &mut Value| {
        let mut on_one = |part: &mut Value| part.as_object_mut().into_iter().for_each(&mut *f);
        on_one(schema);
        every_part(schema, &mut on_one);
    };
    members(document.pointer_mut("/components/schemas")).for_each(&mut on_all);
    every_operation(document, &mut |operation| {
        let parameters = items(operation.get_mut("parameters"));
        parameters.filter_map(|it| it.get_mut("schema")).for_each(&mut on_all);
        let bodies = members(operation.pointer_mut("/requestBody/content"));
        bodies.filter_map(|it| it.get_mut("schema")).for_each(&mut on_all);
        for answer in members(operation.get_mut("responses")) {
            for part in ["content", "headers"] {
                let media = members(answer.get_mut(part));
                media.filter_map(|it| it.get_mut("schema")).for_each(&mut on_all);
            }
        }
    });
}

/// `f` on every schema within this one, the outer ones first.
fn every_part(schema: &mut Value, f: &mut impl FnMut(&mut Value)) {
    let Some(schema) = schema.as_object_mut() else { return };
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("properties", Value::Object(parts)) => parts.iter_mut().for_each(|(_, part)| {
                f(part);
                every_part(part, f);
            }),
            ("oneOf" | "anyOf" | "allOf" | "prefixItems", Value::Array(parts)) => {
                for part in parts {
                    f(part);
                    every_part(part, f);
                }
            }
            ("items" | "additionalProperties" | "propertyNames", part @ Value::Object(_)) => {
                f(part);
                every_part(part, f);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named() -> Map<String, Value> {
        let network = json!({
            "type": "object",
            "properties": {
                "cidr": {"type": "string", "examples": ["10.0.0.0/8"]},
                "active": {"type": "boolean"},
                "seen_at": {"type": ["string", "null"], "format": "date-time"},
                "kind": {"enum": ["ip", "cidr"]},
                "tags": {"type": "array", "items": {"type": "string", "examples": ["lab"]}},
            }
        });
        Map::from_iter([("Network".to_owned(), network)])
    }

    #[test]
    fn an_example_is_made_of_the_fields_examples() {
        let nullable =
            json!({"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Network"}]});
        let made = example(&nullable, &named()).unwrap();
        let expected = json!({
            "cidr": "10.0.0.0/8", "active": true, "seen_at": TIME, "kind": "ip", "tags": ["lab"],
        });
        assert_eq!(made, expected);
    }

    #[test]
    fn a_field_without_an_example_is_named() {
        let text = json!({"type": "string"});
        let schema = json!({"type": "object", "properties": {"notes": {
            "type": "array", "items": {"type": "object", "properties": {"by": text}}
        }}});
        assert_eq!(example(&schema, &Map::new()).unwrap_err(), "notes.[].by");
        let itself = json!({"$ref": "#/components/schemas/Tree"});
        let tree = Map::from_iter([("Tree".to_owned(), itself.clone())]);
        assert!(example(&itself, &tree).is_err());
    }

    #[test]
    fn what_is_wrapped_is_referred_to() {
        let network = named().remove("Network").unwrap();
        let mut document = json!({"components": {"schemas": {
            "Network": network,
            "Page_Network": {"properties": {"data": {"type": "array", "items": network}}},
        }}});
        refer(&mut document);
        let schemas = &document["components"]["schemas"];
        assert_eq!(schemas["Network"], network);
        let items = &schemas["Page_Network"]["properties"]["data"]["items"];
        assert_eq!(*items, json!({"$ref": "#/components/schemas/Network"}));
    }
}
