//! Checks every response that a test receives against the published OpenAPI document. A status, media type, member or
//! error code that is not documented fails the test.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::Read,
    sync::{Arc, LazyLock, Mutex},
};

use cloudapi::server::routes;
use flate2::read::GzDecoder;
use jsonschema::{Draft, Registry, Validator};
use serde_json::{Value, json};

use crate::support::{document::has_code, reply::Reply};

/// The document with every object and every enum closed, so that responses may contain only what is documented.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = routes::description();
    let schemas = document["components"]["schemas"].clone();
    flatten(&mut document, &schemas);
    close_objects(&mut document);
    close_enums(&mut document);
    document
});

/// The document as a resource that schemas refer to, which is indexed once for all validators.
static REGISTRY: LazyLock<Registry> = LazyLock::new(|| {
    let registry = Registry::new().draft(Draft::Draft202012).add(DOCUMENT_URI, &*DOCUMENT).unwrap();
    registry.prepare().unwrap()
});
const DOCUMENT_URI: &str = "https://openapi.invalid/document";

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// Adds the members of the schemas that objects extend with `allOf`, because each part of an `allOf` would have to be open.
fn flatten(value: &mut Value, schemas: &Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(|value| flatten(value, schemas));
            let Some(Value::Array(parts)) = members.remove("allOf") else { return };
            members.insert("type".into(), "object".into());
            for mut part in parts {
                if let Some(name) = part["$ref"].as_str().and_then(|reference| reference.rsplit('/').next()) {
                    part = schemas[name].clone();
                    flatten(&mut part, schemas);
                }
                let Value::Object(of_part) = part["properties"].take() else { panic!("no members in {part}") };
                members.entry("properties").or_insert(json!({})).as_object_mut().unwrap().extend(of_part);
                if let Value::Array(required) = part["required"].take() {
                    members.entry("required").or_insert(json!([])).as_array_mut().unwrap().extend(required);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| flatten(item, schemas)),
        _ => {}
    }
}

fn close_objects(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(close_objects);
            let open = members.get("properties").is_some_and(Value::is_object);
            if open && members.get("type").is_some_and(|kind| kind == "object") {
                members.entry("additionalProperties").or_insert(json!(false));
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close_objects),
        _ => {}
    }
}

/// Clients must expect new enum values in the future; this server returns only the documented ones.
fn close_enums(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(close_enums);
            if let Some(Value::Array(mut values)) = members.remove("x-extensible-enum") {
                if members["type"].as_array().is_some_and(|kinds| kinds.contains(&json!("null"))) {
                    values.push(Value::Null);
                }
                members.insert("enum".into(), values.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(close_enums),
        _ => {}
    }
}

/// The object that `value` refers to with its pointer, or `value` itself with `pointer`.
fn resolve(value: &'static Value, pointer: String) -> (&'static Value, String) {
    match value["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/")) {
        Some(target) => (DOCUMENT.pointer(&format!("/{target}")).unwrap(), target.to_owned()),
        None => (value, pointer),
    }
}

/// Checks a response to `method` on `path`.
#[track_caller]
pub fn check(method: &str, path: &str, reply: &Reply) {
    assert!(reply.header("x-request-id").is_some_and(|id| id.starts_with("req_")), "no request ID");
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let is_json = reply.header("content-type").is_some_and(|kind| kind.contains("json"));
    let body = unpacked(reply);
    if is_json && !body.is_empty() {
        assert!(body.ends_with(b"\n") && !body.ends_with(b"\n\n"), "JSON must end with one newline");
    }
    let Some((template, item)) = find(path) else {
        assert!(matches!(reply.status, 404 | 414 | 431 | 503), "{} on an undocumented path", reply.status);
        return;
    };
    let method = method.to_lowercase();
    let described = if method == "head" { &item["get"] } else { &item[&method] };
    if described.is_null() {
        assert!(matches!(reply.status, 204 | 405), "{} to {method}, which {template} does not support", reply.status);
        return;
    }
    let status = reply.status.to_string();
    let escaped = |parts: &[&str]| -> String {
        parts.iter().map(|part| part.replace('~', "~0").replace('/', "~1")).collect::<Vec<_>>().join("/")
    };
    let response = &described["responses"][&status];
    let (response, pointer) = resolve(response, escaped(&["paths", template, &method, "responses", &status]));
    assert!(!response.is_null(), "{method} {template} returned {status}, which is not documented: {}", reply.json());
    let described_headers = response["headers"].as_object().into_iter().flatten();
    for (name, _) in described_headers.filter(|(_, header)| resolve(header, String::new()).0["required"] == true) {
        assert!(reply.headers.contains_key(name), "{method} {template} {status} has no header {name}");
    }
    if method == "head" || matches!(reply.status, 204 | 302 | 304) {
        return;
    }
    let media_type = reply.header("content-type").unwrap_or_default().split(';').next().unwrap_or_default();
    let content = &response["content"][media_type];
    assert!(!content.is_null(), "{method} {template} {status} has the undocumented type {media_type:?}");
    if let (Some(code), "application/problem+json") = (reply["code"].as_str(), media_type) {
        assert!(has_code(described, code), "{method} {template} returned the undocumented code {code}");
        if let Some(examples) = content["examples"].as_object() {
            assert!(examples.contains_key(code), "{method} {template} returned {code} with the wrong status {status}");
        }
    }
    if media_type == "application/json" || media_type.ends_with("+json") {
        let pointer = format!("{pointer}/{}", escaped(&["content", media_type, "schema"]));
        let json = match &body {
            Cow::Borrowed(_) => Cow::Borrowed(reply.json()),
            Cow::Owned(unpacked) => Cow::Owned(serde_json::from_slice(unpacked).unwrap_or_default()),
        };
        let faults: Vec<String> = validator(&pointer)
            .iter_errors(&json)
            .map(|fault| format!("{} at {}", fault, fault.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{method} {template} {status} violates its schema: {faults:?} in {json}");
    }
}

/// The decompressed body.
fn unpacked(reply: &Reply) -> Cow<'_, [u8]> {
    if reply.header("content-encoding").is_none() {
        return reply.body.as_slice().into();
    }
    let mut body = Vec::new();
    GzDecoder::new(reply.body.as_slice()).read_to_end(&mut body).unwrap_or_default();
    body.into()
}

/// Checks an event against the schema of its type.
#[track_caller]
pub fn check_event(event: &Value) {
    let kind = event["type"].as_str().unwrap();
    let path = ["webhooks", kind, "post", "requestBody", "content", "application/json", "schema"];
    let pointer = path.map(|part| part.replace('/', "~1")).join("/");
    let faults: Vec<String> =
        validator(&pointer).iter_errors(event).map(|fault| format!("{fault} at {}", fault.instance_path())).collect();
    assert!(faults.is_empty(), "{kind} violates its schema: {faults:?} in {event:#}");
}

fn validator(pointer: &str) -> Arc<Validator> {
    let mut validators = VALIDATORS.lock().unwrap();
    let compile = || {
        // Pointers in a URI fragment are percent-encoded. Only braces occur in ours.
        let target = format!("{DOCUMENT_URI}#/{}", pointer.replace('{', "%7B").replace('}', "%7D"));
        let schema = json!({ "$schema": "https://json-schema.org/draft/2020-12/schema", "$ref": target });
        let options = jsonschema::options().should_validate_formats(true).with_registry(&REGISTRY);
        Arc::new(options.build(&schema).unwrap())
    };
    Arc::clone(validators.entry(pointer.to_owned()).or_insert_with(compile))
}

/// A documented path.
struct Template {
    path: &'static str,
    parts: Vec<&'static str>,
    item: &'static Value,
}

/// All documented paths, those with the fewest parameters first.
static TEMPLATES: LazyLock<Vec<Template>> = LazyLock::new(|| {
    let paths = DOCUMENT["paths"].as_object().into_iter().flatten();
    let mut templates: Vec<_> =
        paths.map(|(path, item)| Template { path, parts: path.split('/').collect(), item }).collect();
    templates.sort_by_key(|template| template.path.matches('{').count());
    templates
});

/// The documented path that `path` matches: the one with the fewest parameters.
fn find(path: &str) -> Option<(&'static str, &'static Value)> {
    let given: Vec<&str> = path.split('/').collect();
    let fits = |(part, given): (&&str, &&str)| part == given || (part.starts_with('{') && !given.is_empty());
    let templates = TEMPLATES.iter().filter(|template| template.parts.len() == given.len());
    let mut matching = templates.filter(|template| template.parts.iter().zip(&given).all(fits));
    matching.next().map(|template| (template.path, template.item))
}
