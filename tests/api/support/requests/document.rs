//! Reads the published OpenAPI document and resolves its references.

use std::sync::LazyLock;

use cloudapi::{http::describe::Operation, server::routes};
use serde_json::Value;

static DOCUMENT: LazyLock<Value> = LazyLock::new(routes::description);

/// The published document.
pub fn published() -> &'static Value {
    &DOCUMENT
}

/// The object that `value` refers to.
pub fn resolve(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str() {
        Some(reference) => resolve(published().pointer(reference.trim_start_matches('#')).unwrap()),
        None => value,
    }
}

/// The OpenAPI object of an operation.
pub fn described(operation: &Operation) -> &'static Value {
    &published()["paths"][operation.path][operation.method.as_str().to_lowercase()]
}

/// The parameters of an operation.
pub fn parameters(described: &'static Value) -> impl Iterator<Item = &'static Value> {
    described["parameters"].as_array().into_iter().flatten().map(resolve)
}

/// The schema of an operation's JSON body. For `oneOf`, whose alternatives have the same members, the first one.
pub fn body_schema(operation: &Operation) -> Option<&'static Value> {
    let schema = described(operation)["requestBody"]["content"]["application/json"].get("schema")?;
    let schema = resolve(schema);
    Some(schema["oneOf"].get(0).map_or(schema, resolve))
}

/// Whether an operation documents this error code.
pub fn has_code(described: &Value, code: &str) -> bool {
    described["x-error-codes"].as_array().unwrap().iter().any(|described| described == code)
}
