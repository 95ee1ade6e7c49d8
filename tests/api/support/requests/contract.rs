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
use jsonschema::Validator;
use serde_json::{Value, json};

use crate::support::reply::Reply;

/// The document with every object and every enum closed, so that responses may contain only what is documented.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = routes::description();
    close_objects(&mut document);
    close_enums(&mut document);
    document
});

static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

fn close_objects(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(close_objects);
            let open = members.get("properties").is_some_and(Value::is_object) && !members.contains_key("allOf");
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
        let codes = described["x-error-codes"].as_array().unwrap();
        assert!(codes.contains(&json!(code)), "{method} {template} returned the undocumented code {code}");
        if let Some(examples) = content["examples"].as_object() {
            assert!(examples.contains_key(code), "{method} {template} returned {code} with the wrong status {status}");
        }
    }
    if media_type == "application/json" || media_type.ends_with("+json") {
        let pointer = format!("{pointer}/{}", escaped(&["content", media_type, "schema"]));
        let json: Value = serde_json::from_slice(&body).unwrap_or_default();
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
        let mut root = DOCUMENT.clone();
        root["$schema"] = json!("https://json-schema.org/draft/2020-12/schema");
        // Pointers in a URI fragment are percent-encoded. Only braces occur in ours.
        root["$ref"] = json!(format!("#/{}", pointer.replace('{', "%7B").replace('}', "%7D")));
        Arc::new(jsonschema::options().should_validate_formats(true).build(&root).unwrap())
    };
    Arc::clone(validators.entry(pointer.to_owned()).or_insert_with(compile))
}

/// The documented path that `path` matches: the one with the fewest parameters.
fn find(path: &str) -> Option<(&'static str, &'static Value)> {
    let given: Vec<&str> = path.split('/').collect();
    let matches = |template: &str| {
        let parts: Vec<&str> = template.split('/').collect();
        parts.len() == given.len()
            && parts
                .iter()
                .zip(&given)
                .all(|(part, given)| part == given || (part.starts_with('{') && !given.is_empty()))
    };
    let paths = DOCUMENT["paths"].as_object()?;
    paths
        .iter()
        .filter(|(template, _)| matches(template))
        .min_by_key(|(template, _)| template.matches('{').count())
        .map(|(template, item)| (template.as_str(), item))
}
