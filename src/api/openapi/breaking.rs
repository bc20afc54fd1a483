//! What of a new document breaks those who wrote against the old one: what they send must still be
//! taken, what they read must still be there. More operations, more optional input, more in an
//! answer, one more value of an answer's enumeration: these break nobody (the document says so).

use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// What breaks, a line each.
pub fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let mut found = Vec::new();
    let (old_paths, new_paths) = (operations(old), operations(new));
    for (name, before) in &old_paths {
        match new_paths.get(name) {
            None => found.push(format!("{name} is gone")),
            Some(now) => {
                let mut all = Vec::new();
                Compared { old, new }.operation(before, now, &mut all);
                found.extend(all.into_iter().map(|what| format!("{name}: {what}")));
            }
        }
    }
    found
}

/// Whether a document of `new` may break those of `old`: the major version is raised, or before
/// 1.0 the minor one.
pub fn may_break(old: &str, new: &str) -> bool {
    let parts = |version: &str| {
        let mut numbers = version.split(['.', '-', '+']).map(|it| it.parse().unwrap_or(0));
        let mut next = || numbers.next().unwrap_or(0u64);
        (next(), next())
    };
    let ((old_major, old_minor), (new_major, new_minor)) = (parts(old), parts(new));
    new_major > old_major || (new_major, old_major) == (0, 0) && new_minor > old_minor
}

/// By method and path. What a parameter in the path is called, callers don't see.
fn operations(document: &Value) -> Map<String, Value> {
    let mut all = Map::new();
    for (path, item) in document["paths"].as_object().into_iter().flatten() {
        let mut nameless = String::new();
        for part in path.split_inclusive('{') {
            nameless.push_str(part.split_once('}').map_or(part, |(_, rest)| rest));
        }
        for (method, operation) in item.as_object().into_iter().flatten() {
            let name = format!("{} {}", method.to_uppercase(), nameless.replace('{', "{}"));
            all.insert(name, operation.clone());
        }
    }
    all
}

/// Which way a schema is used.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    /// Callers send it: what was taken must be taken.
    Sent,
    /// Callers read it: what was there must be there.
    Read,
}

#[derive(Clone, Copy)]
struct Compared<'a> {
    old: &'a Value,
    new: &'a Value,
}

impl Compared<'_> {
    fn operation(self, before: &Value, now: &Value, found: &mut Vec<String>) {
        if before["operationId"] != now["operationId"] {
            found.push(format!("operationId {} is {}", before["operationId"], now["operationId"]));
        }
        let mark = "x-gatekey-access";
        let rank = |of: &Value| {
            ["anyone", "member", "auditor", "admin"].iter().position(|it| of[mark] == *it)
        };
        if rank(now) > rank(before) || (rank(now).is_none() && rank(before).is_some()) {
            found.push(format!("fewer may call it: {} instead of {}", now[mark], before[mark]));
        }
        self.parameters(before, now, found);
        self.request(&before["requestBody"], &now["requestBody"], found);
        self.answers(&before["responses"], &now["responses"], found);
    }

    fn parameters(self, before: &Value, now: &Value, found: &mut Vec<String>) {
        let parameters = |of: &Value| -> Map<String, Value> {
            let all = of["parameters"].as_array().into_iter().flatten();
            all.filter(|it| it["in"] != "path")
                .map(|it| (format!("{} in {}", it["name"], it["in"]), it.clone()))
                .collect()
        };
        let (before, now) = (parameters(before), parameters(now));
        for (name, parameter) in &before {
            match now.get(name) {
                None => found.push(format!("parameter {name} is gone")),
                Some(it) => {
                    let at = format!("parameter {name}");
                    self.schema(&at, &parameter["schema"], &it["schema"], Way::Sent, found);
                }
            }
        }
        for (name, parameter) in &now {
            let was_required = before.get(name).is_some_and(|it| it["required"] == true);
            if parameter["required"] == true && !was_required {
                found.push(format!("parameter {name} is required now"));
            }
        }
    }

    fn request(self, before: &Value, now: &Value, found: &mut Vec<String>) {
        if now["required"] == true && before["required"] != true {
            found.push("a body is required now".to_owned());
        }
        self.content("request", &before["content"], &now["content"], Way::Sent, found);
    }

    fn answers(self, before: &Value, now: &Value, found: &mut Vec<String>) {
        for (status, answer) in before.as_object().into_iter().flatten() {
            let at = format!("answer {status}");
            let Some(now) = now.get(status) else {
                found.push(format!("{at} is gone"));
                continue;
            };
            let (answer, now) = (resolved(self.old, answer), resolved(self.new, now));
            self.content(&at, &answer["content"], &now["content"], Way::Read, found);
            for name in answer["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
                if now["headers"][name].is_null() {
                    found.push(format!("{at}: header `{name}` is gone"));
                }
            }
        }
    }

    fn content(self, at: &str, before: &Value, now: &Value, way: Way, found: &mut Vec<String>) {
        for (kind, media) in before.as_object().into_iter().flatten() {
            match now.get(kind) {
                None => found.push(format!("{at}: `{kind}` is gone")),
                Some(now) => self.schema(at, &media["schema"], &now["schema"], way, found),
            }
        }
    }

    fn schema(self, at: &str, old: &Value, new: &Value, way: Way, found: &mut Vec<String>) {
        Schemas { documents: self, way, seen: BTreeSet::new() }.compare(at, old, new, found);
    }
}

struct Schemas<'a> {
    documents: Compared<'a>,
    way: Way,
    /// Pairs that are compared already, or just now.
    seen: BTreeSet<(String, String)>,
}

impl Schemas<'_> {
    fn compare(&mut self, at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
        if let (Some(one), Some(other)) = (old["$ref"].as_str(), new["$ref"].as_str())
            && !self.seen.insert((one.to_owned(), other.to_owned()))
        {
            return;
        }
        let old = resolved(self.documents.old, old);
        let new = resolved(self.documents.new, new);
        let (may_be_null, was_null) = (takes_null(new), takes_null(old));
        match self.way {
            Way::Sent if was_null && !may_be_null => {
                found.push(format!("{at}: null is not taken any more"));
            }
            Way::Read if may_be_null && !was_null => found.push(format!("{at}: may be null now")),
            _ => {}
        }
        let (before, now) = (choices(old), choices(new));
        for choice in &before {
            // The one that fits best tells what is wrong.
            let mut best: Option<Vec<String>> = None;
            for other in &now {
                let seen = self.seen.clone();
                let mut wrong = Vec::new();
                self.compare_one(at, choice, other, &mut wrong);
                if before.len() > 1 || now.len() > 1 {
                    self.seen = seen;
                }
                if best.as_ref().is_none_or(|best| wrong.len() < best.len()) {
                    best = Some(wrong);
                }
            }
            found.extend(best.unwrap_or_else(|| vec![format!("{at}: its type is gone")]));
        }
    }

    fn compare_one(&mut self, at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
        if choices(old).len() > 1 || choices(new).len() > 1 || old["$ref"] != new["$ref"] {
            let (one, other) =
                (resolved(self.documents.old, old), resolved(self.documents.new, new));
            if one != old || other != new {
                return self.compare(at, one, other, found);
            }
        } else if old["$ref"].is_string() {
            return self.compare(at, old, new, found);
        }
        self.types(at, old, new, found);
        self.values(at, old, new, found);
        if self.way == Way::Sent {
            bounds(at, old, new, found);
        }
        self.fields(at, old, new, found);
        for part in ["items", "additionalProperties"] {
            if old[part].is_object() && new[part].is_object() {
                self.compare(&format!("{at}[]"), &old[part], &new[part], found);
            }
        }
    }

    fn types(&self, at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
        let (before, now) = (types(old), types(new));
        // Every type is what none is said of.
        let within = |inner: &BTreeSet<String>, outer: &BTreeSet<String>| {
            outer.is_empty()
                || !inner.is_empty()
                    && inner
                        .iter()
                        .all(|it| outer.contains(it) || it == "integer" && outer.contains("number"))
        };
        let fine = match self.way {
            Way::Sent => within(&before, &now),
            Way::Read => within(&now, &before),
        };
        if !fine {
            found.push(format!("{at}: is {now:?} instead of {before:?}"));
        }
    }

    fn values(&self, at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
        match (old["enum"].as_array(), new["enum"].as_array()) {
            (Some(before), Some(now)) => {
                for value in before.iter().filter(|it| !now.contains(it)) {
                    found.push(format!("{at}: value {value} is gone"));
                }
            }
            (None, Some(_)) if self.way == Way::Sent => {
                found.push(format!("{at}: only some values are taken now"));
            }
            (Some(_), None) if self.way == Way::Read => {
                found.push(format!("{at}: any value may be read now"));
            }
            _ => {}
        }
    }

    fn fields(&mut self, at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
        let closed = |schema: &Value| schema["additionalProperties"] == false;
        for (name, before) in old["properties"].as_object().into_iter().flatten() {
            let inner = format!("{at} `{name}`");
            let Some(now) = new["properties"].get(name) else {
                if self.way == Way::Read || closed(new) {
                    found.push(format!("{inner} is gone"));
                }
                continue;
            };
            match (self.way, requires(old, name), requires(new, name)) {
                (Way::Sent, false, true) => found.push(format!("{inner} is required now")),
                (Way::Read, true, false) => found.push(format!("{inner} may be absent now")),
                _ => {}
            }
            self.compare(&inner, before, now, found);
        }
        if self.way == Way::Sent {
            for name in new["properties"].as_object().into_iter().flatten().map(|(name, _)| name) {
                if old["properties"].get(name).is_none() && requires(new, name) {
                    found.push(format!("{at} `{name}` is new, and required"));
                }
            }
            if closed(new) && !closed(old) && old["properties"].is_object() {
                found.push(format!("{at}: unknown fields are refused now"));
            }
        }
    }
}

/// Whether less is taken than was.
fn bounds(at: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    for name in ["maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties"] {
        if let Some(now) = new[name].as_f64()
            && old[name].as_f64().is_none_or(|before| now < before)
        {
            found.push(format!("{at}: {name} is {now} now"));
        }
    }
    for name in ["minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties"] {
        if let Some(now) = new[name].as_f64()
            && old[name].as_f64().is_none_or(|before| now > before)
        {
            found.push(format!("{at}: {name} is {now} now"));
        }
    }
    for name in ["pattern", "format", "const", "uniqueItems"] {
        if !new[name].is_null() && new[name] != old[name] {
            found.push(format!("{at}: {name} is {} now", new[name]));
        }
    }
}

fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let pointer = value["$ref"].as_str().and_then(|it| it.strip_prefix('#'));
    match pointer.and_then(|it| document.pointer(it)) {
        Some(target) => resolved(document, target),
        None => value,
    }
}

/// What it may be besides null: itself, where it offers no choice.
fn choices(schema: &Value) -> Vec<&Value> {
    let given = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    given.map_or_else(|| vec![schema], |all| all.iter().filter(|it| it["type"] != "null").collect())
}

fn takes_null(schema: &Value) -> bool {
    let given = schema["oneOf"].as_array().or(schema["anyOf"].as_array());
    given.is_some_and(|all| all.iter().any(takes_null))
        || schema["type"] == "null"
        || schema["type"].as_array().is_some_and(|all| all.contains(&"null".into()))
}

/// Its types besides null.
fn types(schema: &Value) -> BTreeSet<String> {
    let all = match &schema["type"] {
        Value::Array(all) => all.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().map_or_else(Vec::new, |one| vec![one]),
    };
    all.into_iter().filter(|it| *it != "null").map(str::to_owned).collect()
}

fn requires(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|all| all.contains(&name.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// One way of changing the document: what is at the pointer becomes something else, or goes.
    type Change = (&'static str, Option<Value>);

    fn document() -> Value {
        json!({
            "paths": {
                "/things": {"get": {
                    "operationId": "listThings",
                    "x-gatekey-access": "member",
                    "parameters": [{"name": "sort", "in": "query",
                        "schema": {"type": "string", "enum": ["name", "-name"]}}],
                    "responses": {"200": {"headers": {"ETag": {}}, "content": {"application/json": {
                        "schema": {"type": "array", "items": {"$ref": "#/components/schemas/Thing"}}
                    }}}, "400": {}},
                }},
                "/things/{id}": {"put": {
                    "operationId": "putThing",
                    "requestBody": {"content": {"application/json": {
                        "schema": {"$ref": "#/components/schemas/ThingRequest"}
                    }}},
                    "responses": {"200": {}},
                }},
            },
            "components": {"schemas": {
                "Thing": {"type": "object", "required": ["name", "kind"], "properties": {
                    "name": {"type": "string"},
                    "kind": {"enum": ["ip", "cidr"]},
                    "parent": {"oneOf": [{"type": "null"}, {"$ref": "#/components/schemas/Thing"}]},
                }},
                "ThingRequest": {"type": "object", "required": ["name"], "additionalProperties": false,
                    "properties": {
                        "name": {"type": "string", "maxLength": 64},
                        "port": {"type": ["integer", "null"], "minimum": 1},
                        "host": {"oneOf": [{"type": "string"}, {"type": "integer"}]},
                    }},
            }},
        })
    }

    fn changed(changes: &[Change]) -> Vec<String> {
        let mut new = document();
        for (pointer, value) in changes {
            let (parent, name) = pointer.rsplit_once('/').unwrap();
            let name = name.replace("~1", "/");
            let parent = new.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
            match (parent, value) {
                (Value::Object(parent), Some(value)) => drop(parent.insert(name, value.clone())),
                (Value::Object(parent), None) => assert!(parent.remove(&name).is_some()),
                (Value::Array(parent), _) => parent.push(value.clone().unwrap()),
                _ => panic!("{pointer}"),
            }
        }
        breaks(&document(), &new)
    }

    #[test]
    fn what_breaks_is_told() {
        let list = "/paths/~1things/get";
        let put = "/paths/~1things~1{id}/put";
        let at = |at: &str, rest: &str| -> &'static str { format!("{at}{rest}").leak() };
        let thing = "/components/schemas/Thing";
        let request = "/components/schemas/ThingRequest";
        let port = at(request, "/properties/port");
        let read = "GET /things: answer 200[]";
        let sent = "PUT /things/{}: request";
        for (change, expected) in [
            ((at(list, ""), None), "GET /things is gone".to_owned()),
            (
                (at(put, "/operationId"), Some(json!("replaceThing"))),
                "PUT /things/{}: operationId \"putThing\" is \"replaceThing\"".to_owned(),
            ),
            (
                (at(list, "/x-gatekey-access"), Some(json!("admin"))),
                "GET /things: fewer may call it: \"admin\" instead of \"member\"".to_owned(),
            ),
            ((at(list, "/responses/400"), None), "GET /things: answer 400 is gone".to_owned()),
            (
                (at(list, "/responses/200/headers/ETag"), None),
                "GET /things: answer 200: header `ETag` is gone".to_owned(),
            ),
            (
                (at(list, "/parameters/0/schema/enum"), Some(json!(["name"]))),
                "GET /things: parameter \"sort\" in \"query\": value \"-name\" is gone".to_owned(),
            ),
            (
                (at(list, "/parameters/0/required"), Some(json!(true))),
                "GET /things: parameter \"sort\" in \"query\" is required now".to_owned(),
            ),
            (
                (at(list, "/parameters"), Some(json!([]))),
                "GET /things: parameter \"sort\" in \"query\" is gone".to_owned(),
            ),
            ((at(thing, "/properties/name"), None), format!("{read} `name` is gone")),
            (
                (at(thing, "/required"), Some(json!(["kind"]))),
                format!("{read} `name` may be absent now"),
            ),
            (
                (at(thing, "/properties/name/type"), Some(json!(["string", "null"]))),
                format!("{read} `name`: may be null now"),
            ),
            (
                (at(thing, "/properties/name/type"), Some(json!("integer"))),
                format!("{read} `name`: is {{\"integer\"}} instead of {{\"string\"}}"),
            ),
            (
                (at(thing, "/properties/kind/enum"), Some(json!(["ip"]))),
                format!("{read} `kind`: value \"cidr\" is gone"),
            ),
            (
                (at(thing, "/properties/kind/enum"), None),
                format!("{read} `kind`: any value may be read now"),
            ),
            ((at(request, "/properties/host"), None), format!("{sent} `host` is gone")),
            (
                (at(request, "/required"), Some(json!(["name", "port"]))),
                format!("{sent} `port` is required now"),
            ),
            (
                (at(request, "/properties/name/maxLength"), Some(json!(32))),
                format!("{sent} `name`: maxLength is 32 now"),
            ),
            (
                (at(request, "/properties/name/pattern"), Some(json!("^a"))),
                format!("{sent} `name`: pattern is \"^a\" now"),
            ),
            ((at(port, "/minimum"), Some(json!(2))), format!("{sent} `port`: minimum is 2 now")),
            (
                (at(port, "/type"), Some(json!("integer"))),
                format!("{sent} `port`: null is not taken any more"),
            ),
            (
                (at(request, "/properties/host"), Some(json!({"type": "string"}))),
                format!("{sent} `host`: is {{\"string\"}} instead of {{\"integer\"}}"),
            ),
            (
                (at(put, "/requestBody/required"), Some(json!(true))),
                "PUT /things/{}: a body is required now".to_owned(),
            ),
        ] {
            assert_eq!(changed(std::slice::from_ref(&change)), [expected], "{change:?}");
        }
        let new_and_required = [
            (at(request, "/properties/zone"), Some(json!({"type": "string"}))),
            (at(request, "/required"), Some(json!(["name", "zone"]))),
        ];
        assert_eq!(changed(&new_and_required), [format!("{sent} `zone` is new, and required")]);
    }

    #[test]
    fn what_is_added_breaks_nobody() {
        let thing = "/components/schemas/Thing/properties";
        let request = "/components/schemas/ThingRequest/properties";
        let at = |at: &str, rest: &str| -> &'static str { format!("{at}{rest}").leak() };
        for change in [
            ("/paths/~1others", Some(json!({"get": {"responses": {}}}))),
            ("/paths/~1things/get/responses/409", Some(json!({}))),
            ("/paths/~1things/get/x-gatekey-access", Some(json!("anyone"))),
            (
                "/paths/~1things/get/parameters/1",
                Some(json!({"name": "q", "in": "query", "schema": {"type": "string"}})),
            ),
            (at(thing, "/colour"), Some(json!({"type": "string"}))),
            (at(thing, "/kind/enum"), Some(json!(["ip", "cidr", "hostname"]))),
            (at(request, "/zone"), Some(json!({"type": "string"}))),
            (at(request, "/name/maxLength"), Some(json!(128))),
            (at(request, "/port/minimum"), None),
            (at(request, "/host"), Some(json!({}))),
        ] {
            assert_eq!(changed(std::slice::from_ref(&change)), Vec::<String>::new(), "{change:?}");
        }
        // A parameter of the path has another name: nobody sees it.
        let mut new = document();
        let paths = new["paths"].as_object_mut().unwrap();
        let item = paths.remove("/things/{id}").unwrap();
        paths.insert("/things/{thing_id}".to_owned(), item);
        assert_eq!(breaks(&document(), &new), Vec::<String>::new());
    }

    #[test]
    fn only_a_greater_version_may_break() {
        for (old, new, may) in [
            ("0.1.0", "0.1.9", false),
            ("0.1.0", "0.2.0", true),
            ("0.2.0", "0.1.0", false),
            ("0.9.0", "1.0.0", true),
            ("1.0.0", "1.1.0", false),
            ("1.9.0", "2.0.0", true),
            ("2.0.0", "1.9.0", false),
        ] {
            assert_eq!(may_break(old, new), may, "{old} {new}");
        }
    }
}
