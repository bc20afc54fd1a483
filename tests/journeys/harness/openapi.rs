//! The server's own OpenAPI document, as a list of what can be asked: for tests that must miss no route.

use super::client::Api;
use reqwest::Method;
use serde_json::Value;

/// One operation of the document.
#[derive(Clone, Debug)]
pub struct Operation {
    /// `GET`, …
    pub method: Method,
    /// As in the document, such as `/api/v1/admin/gateways/{id}`.
    pub template: String,
    /// The resolved schema of its JSON body, where it takes one.
    pub body: Option<Value>,
    /// What the document says of it.
    pub document: Value,
}

/// All operations.
pub async fn operations(api: &Api) -> Vec<Operation> {
    let document = api.get("/openapi.json").await.flat(200);
    let paths = document["paths"].as_object().expect("paths");
    let mut operations = Vec::new();
    for (template, item) in paths {
        for (method, operation) in item.as_object().expect("a path item") {
            let Ok(method) = method.to_uppercase().parse::<Method>() else { continue };
            if !operation.is_object() {
                continue;
            }
            let body = &operation["requestBody"]["content"]["application/json"]["schema"];
            operations.push(Operation {
                method,
                template: template.clone(),
                body: (!body.is_null()).then(|| resolve(&document, body)),
                document: operation.clone(),
            });
        }
    }
    operations
}

/// The schema itself, where `schema` only refers to it.
fn resolve(document: &Value, schema: &Value) -> Value {
    match schema["$ref"].as_str() {
        Some(reference) => {
            let pointer = reference.trim_start_matches('#');
            let target = document.pointer(pointer).unwrap_or_else(|| panic!("{reference}"));
            resolve(document, target)
        }
        None => schema.clone(),
    }
}

impl Operation {
    /// Whether its path takes parameters.
    pub fn has_parameters(&self) -> bool {
        self.template.contains('{')
    }

    /// Whether its body may be left out.
    pub fn may_have_no_body(&self) -> bool {
        self.document["requestBody"]["required"] != true
    }

    /// Whether it is an agent's: those are lenient about what they don't know.
    pub fn is_an_agents(&self) -> bool {
        self.template.contains("/gateway/")
    }

    /// Its path with well-formed ids of things that never were.
    pub fn path_to_nothing(&self) -> String {
        let mut kind = "";
        let segments = self.template.split('/').map(|segment| {
            if segment == "{rule_id}" {
                return "fence-none";
            }
            if segment.starts_with('{') {
                return id_of_nothing(kind);
            }
            kind = segment;
            segment
        });
        segments.collect::<Vec<_>>().join("/")
    }

    /// The names of its body's fields, with whether each takes an object (or may).
    pub fn fields(&self) -> Vec<(String, bool)> {
        let properties = self.body.as_ref().and_then(|body| body["properties"].as_object());
        let takes_object = |schema: &Value| {
            let kinds = schema["type"].to_string();
            kinds.contains("object") || schema["type"].is_null()
        };
        let fields = properties.into_iter().flatten();
        fields.map(|(name, schema)| (name.clone(), takes_object(schema))).collect()
    }
}

fn id_of_nothing(kind: &str) -> &'static str {
    match kind {
        "gateways" => "gw-none",
        "users" => "usr-none",
        "networks" => "net-none",
        "hubs" => "hub-none",
        "spokes" => "spoke-none",
        "access-rules" => "rule-none",
        "rules" => "fence-none",
        "configs" | "download" => "cfg-none",
        "connections" => "con-none",
        "sessions" => "ses-none",
        "api-keys" => "key-none",
        "check" => "5a0f3c",
        _ => "none",
    }
}
