//! Reads the published OpenAPI document and resolves its references.

use std::{collections::BTreeSet, sync::LazyLock};

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

/// The operation's path with IDs that do not exist.
pub fn absent_path(operation: &Operation) -> String {
    fill_path(operation, operation.path)
}

/// Replaces the parameters in `path`, the operation's path or a part of it, by IDs that do not exist: `proj_1`.
pub fn fill_path(operation: &Operation, path: &str) -> String {
    let in_path = parameters(described(operation)).filter(|parameter| parameter["in"] == "path");
    in_path.fold(path.to_owned(), |path, parameter| {
        let name = parameter["name"].as_str().unwrap();
        let pattern = resolve(&parameter["schema"])["pattern"].as_str().unwrap_or_default();
        let prefix = pattern.strip_prefix('^').and_then(|pattern| pattern.split_once('_')).map(|(prefix, _)| prefix);
        match (name, prefix) {
            ("name", _) => path.replace("{name}", "sim"),
            ("kind", _) => path.replace("{kind}", "storage.volume"),
            (_, Some(prefix)) => path.replace(&format!("{{{name}}}"), &format!("{prefix}_1")),
            _ => path,
        }
    })
}

/// The schema of an operation's JSON body. For `oneOf`, whose alternatives have the same members, the first one.
pub fn body_schema(operation: &Operation) -> Option<&'static Value> {
    let schema = described(operation)["requestBody"]["content"]["application/json"].get("schema")?;
    let schema = resolve(schema);
    Some(schema["oneOf"].get(0).map_or(schema, resolve))
}

/// The members that a schema adds to the one that it extends, or the whole schema.
pub fn own(schema: &'static Value) -> &'static Value {
    schema["allOf"].get(1).unwrap_or(schema)
}

/// The error codes of an operation: its own, and those of its error responses.
pub fn error_codes(described: &'static Value) -> BTreeSet<&'static str> {
    let responses = described["responses"].as_object().unwrap().values().map(resolve);
    let lists = responses.filter_map(|response| response.get("x-error-codes")).chain([&described["x-error-codes"]]);
    lists.flat_map(|list| list.as_array().unwrap()).map(|code| code.as_str().unwrap()).collect()
}

/// Whether an operation documents this error code.
pub fn has_code(described: &'static Value, code: &str) -> bool {
    error_codes(described).contains(code)
}
