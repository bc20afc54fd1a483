//! A walk through all operations of the document: whatever a reader or a generator would miss is
//! named, all of it at once.

use super::finish::{example, schemas_of};
use super::{ACCESS, Access};
use crate::app;
use serde_json::{Map, Value};
use std::collections::BTreeSet;

const ERROR: &str = "#/components/schemas/Error";

#[test]
fn nothing_is_missing() {
    let document = app::document().unwrap();
    let missing = walk(&document);
    assert!(missing.is_empty(), "the OpenAPI document lacks:\n{}", missing.join("\n"));
}

fn walk(document: &Value) -> Vec<String> {
    let mut walk = Walk {
        schemas: schemas_of(document),
        tags: names(&document["tags"]),
        schemes: document["components"]["securitySchemes"].as_object().unwrap().clone(),
        document,
        ids: BTreeSet::new(),
        missing: Vec::new(),
    };
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let at = format!("{} {path}", method.to_uppercase());
            walk.operation(&at, operation);
            walk.parameters(&at, path, operation);
            walk.request(&at, operation);
            walk.answers(&at, operation);
        }
    }
    walk.schemas();
    walk.references();
    walk.missing
}

struct Walk<'a> {
    document: &'a Value,
    schemas: Map<String, Value>,
    tags: BTreeSet<String>,
    schemes: Map<String, Value>,
    ids: BTreeSet<String>,
    missing: Vec<String>,
}

impl Walk<'_> {
    fn demand(&mut self, holds: bool, at: &str, what: &str) {
        if !holds {
            self.missing.push(format!("- {at}: {what}"));
        }
    }

    fn operation(&mut self, at: &str, operation: &Value) {
        let id = text(&operation["operationId"]);
        let camel_case = id.starts_with(|c: char| c.is_ascii_lowercase())
            && id.chars().all(|c| c.is_ascii_alphanumeric());
        self.demand(camel_case, at, "an operationId in camelCase");
        let unique = self.ids.insert(id.to_owned());
        self.demand(unique, at, &format!("an operationId of its own: `{id}` is another's too"));
        let summary = text(&operation["summary"]);
        let short = !summary.is_empty() && summary.chars().count() <= 60 && !summary.ends_with('.');
        self.demand(short, at, "a summary: a few words without a full stop");
        let tags: Vec<&str> = operation["tags"]
            .as_array()
            .map_or_else(Vec::new, |tags| tags.iter().map(text).collect());
        let known = matches!(tags[..], [tag] if self.tags.contains(tag));
        self.demand(known, at, &format!("one tag of those in `TAGS`; it has {tags:?}"));
        let access =
            [Access::Anyone, Access::Member, Access::Auditor, Access::Admin, Access::Gateway];
        let said = access.iter().any(|it| operation[ACCESS] == it.as_str());
        self.demand(said, at, "`callable_by`: nobody says who may call it");
        let schemes = operation["security"].as_array();
        let defined = schemes.is_some_and(|all| {
            let mut used = all.iter().filter_map(Value::as_object).flat_map(|it| it.keys());
            used.all(|name| self.schemes.contains_key(name))
        });
        self.demand(defined, at, "security, by schemes that are defined");
    }

    fn parameters(&mut self, at: &str, path: &str, operation: &Value) {
        let mut in_path = BTreeSet::new();
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let name = text(&parameter["name"]);
            let at = format!("{at}: parameter `{name}`");
            self.demand(parameter["description"].is_string(), &at, "a description");
            self.demand(parameter["schema"].is_object(), &at, "a schema");
            if parameter["in"] == "path" {
                in_path.insert(name.to_owned());
                self.demand(parameter["required"] == true, &at, "`required`");
                let exemplified = example(&parameter["schema"], &self.schemas).is_ok();
                self.demand(exemplified, &at, "an example");
            }
        }
        let parts = path.split('{').skip(1).filter_map(|part| part.split('}').next());
        for part in parts.map(str::to_owned).collect::<BTreeSet<_>>().symmetric_difference(&in_path)
        {
            self.demand(false, at, &format!("`{part}` in its path and its parameters alike"));
        }
    }

    fn request(&mut self, at: &str, operation: &Value) {
        let body = &operation["requestBody"];
        if body.is_null() {
            return;
        }
        let content = body["content"].as_object();
        self.demand(content.is_some_and(|it| !it.is_empty()), at, "what its body is made of");
        for (kind, media) in content.into_iter().flatten() {
            self.media(&format!("{at}: request as {kind}"), media);
        }
    }

    fn answers(&mut self, at: &str, operation: &Value) {
        let answers = operation["responses"].as_object().unwrap();
        let fine = answers.keys().any(|status| status.starts_with('2'));
        self.demand(fine, at, "an answer when all is well");
        for (status, answer) in answers {
            let at = format!("{at}: {status}");
            let answer = self.resolved(answer).clone();
            self.demand(!text(&answer["description"]).is_empty(), &at, "a description");
            let content = answer["content"].as_object();
            self.demand(content.is_some() || status == "304", &at, "content");
            for (kind, media) in content.into_iter().flatten() {
                self.media(&format!("{at} as {kind}"), media);
            }
            if status.starts_with(['4', '5']) {
                let error = &answer["content"]["application/json"]["schema"]["$ref"];
                // Readiness tells in its own words what is missing.
                let own = at.starts_with("GET /ready:");
                self.demand(error == ERROR || own, &at, "the error schema");
            }
            if status == "201" && !answer["content"].is_null() {
                // Giving somebody something makes no thing of its own.
                let gives = operation["responses"]["200"].is_object();
                let located = answer["headers"]["Location"].is_object();
                self.demand(located || gives, &at, "`Location`");
            }
        }
    }

    fn media(&mut self, at: &str, media: &Value) {
        self.demand(media["schema"].is_object(), at, "a schema");
        if media["example"].is_null() && media["examples"].is_null() {
            let lacking = example(&media["schema"], &self.schemas).err().unwrap_or_default();
            self.demand(false, at, &format!("an example (of `{lacking}`)"));
        }
    }

    fn schemas(&mut self) {
        // What wraps others is described once, with the type that it is made of.
        for (name, schema) in
            self.schemas.clone().into_iter().filter(|(name, _)| !name.contains('_'))
        {
            for (field, part) in schema["properties"].as_object().into_iter().flatten() {
                let said = part.to_string().contains("\"description\":") || {
                    let target = self.resolved(part);
                    target["description"].is_string()
                };
                self.demand(said, &format!("schema {name}.{field}"), "a description");
            }
        }
    }

    /// What is referred to is there.
    fn references(&mut self) {
        let text = self.document.to_string();
        let mut lost = BTreeSet::new();
        for rest in text.split("\"$ref\":\"#").skip(1) {
            let pointer = rest.split('"').next().unwrap();
            if self.document.pointer(pointer).is_none() {
                lost.insert(pointer.to_owned());
            }
        }
        for pointer in lost {
            self.demand(false, &pointer, "itself: add it in `base`");
        }
    }

    fn resolved<'v>(&'v self, value: &'v Value) -> &'v Value {
        let pointer = value["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
        pointer.and_then(|it| self.document.pointer(it)).unwrap_or(value)
    }
}

fn names(list: &Value) -> BTreeSet<String> {
    let all = list.as_array().into_iter().flatten();
    all.map(|it| text(&it["name"]).to_owned()).collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[test]
fn what_is_missing_is_named() {
    let document = serde_json::json!({
        "tags": [{"name": "Things"}],
        "components": {"securitySchemes": {}, "schemas": {"Thing": {"properties": {
            "name": {"type": "string"},
        }}}},
        "paths": {"/things/{id}": {"get": {
            "operationId": "get_thing",
            "tags": ["Thing"],
            "requestBody": {"content": {"application/json": {"schema": {"type": "string"}}}},
            "responses": {"404": {"description": "Gone", "content": {"text/plain": {}}}},
        }}},
    });
    let missing = walk(&document).join("\n");
    for expected in [
        "GET /things/{id}: an operationId in camelCase",
        "GET /things/{id}: a summary",
        "one tag of those in `TAGS`; it has [\"Thing\"]",
        "GET /things/{id}: `callable_by`",
        "GET /things/{id}: security",
        "GET /things/{id}: `id` in its path",
        "GET /things/{id}: request as application/json: an example",
        "GET /things/{id}: an answer when all is well",
        "GET /things/{id}: 404: the error schema",
        "GET /things/{id}: 404 as text/plain: a schema",
        "schema Thing.name: a description",
    ] {
        assert!(missing.contains(expected), "{expected:?} is not in\n{missing}");
    }
}
