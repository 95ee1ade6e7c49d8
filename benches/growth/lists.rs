//! The lists of the API and their filters, from the OpenAPI document.

use serde_json::Value;

use super::samples::{self, Sample};

/// Query parameters that are not filters.
const PAGING: [&str; 4] = ["cursor", "limit", "order", "project_id"];
/// Maximum number of values of an `enum` that are all measured. Of longer ones, only the samples are.
const MAX_ENUM: usize = 12;
/// Number of values of an `enum` that are used if there are no samples.
const FALLBACK_VALUES: usize = 4;

/// List operation.
pub struct List {
    /// Path template.
    pub path: String,
    /// Filters.
    pub filters: Vec<Filter>,
    /// Whether a session names a project.
    pub is_in_project: bool,
    /// Whether a session may call.
    pub accepts_session: bool,
    /// Whether a key may call.
    pub accepts_key: bool,
    /// Scopes that admit a key.
    pub key_scopes: Vec<String>,
    /// Prefix of the cursor, if the cursor is an ID.
    pub id_prefix: Option<String>,
}

/// Filter of a list.
pub struct Filter {
    /// Name of the query parameter.
    pub name: String,
    /// Values that are also measured in pairs.
    pub samples: Vec<Sample>,
    /// Further values of the `enum`.
    pub others: Vec<Sample>,
}

/// Returns every GET operation with a cursor whose response has `data`.
pub fn all(document: &Value) -> Vec<List> {
    let paths = document["paths"].as_object().into_iter().flatten();
    paths.filter_map(|(path, item)| list(document, path, &item["get"])).collect()
}

fn list(document: &Value, path: &str, get: &Value) -> Option<List> {
    let parameters = get["parameters"].as_array()?.iter().map(|parameter| resolve(document, parameter));
    let parameters: Vec<&Value> = parameters.filter(|parameter| parameter["in"] == "query").collect();
    let named = |name: &str| parameters.iter().copied().find(|parameter| parameter["name"] == name);
    let cursor = named("cursor")?;
    let response = resolve(document, &get["responses"]["200"]);
    let schema = resolve(document, &response["content"]["application/json"]["schema"]);
    schema["properties"]["data"].as_object()?;
    let pattern = resolve(document, &cursor["schema"])["pattern"].as_str();
    let filters = parameters
        .iter()
        .copied()
        .filter_map(|parameter| Some((parameter["name"].as_str()?, resolve(document, &parameter["schema"]))))
        .filter(|(name, _)| !PAGING.contains(name))
        .map(|(name, schema)| filter(path, name, schema))
        .collect();
    Some(List {
        path: path.to_owned(),
        filters,
        is_in_project: named("project_id").is_some(),
        accepts_session: !alternatives(get, "session").is_empty(),
        accepts_key: !alternatives(get, "key").is_empty(),
        key_scopes: alternatives(get, "key")
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        id_prefix: pattern.and_then(|pattern| Some(pattern.strip_prefix('^')?.split_once("_[")?.0.to_owned())),
    })
}

/// Returns the scopes of each alternative with this kind of credential.
fn alternatives<'a>(get: &'a Value, kind: &str) -> Vec<&'a Vec<Value>> {
    let security = get["security"].as_array().into_iter().flatten();
    security.filter_map(|alternative| alternative[kind].as_array()).collect()
}

fn filter(path: &str, name: &str, schema: &Value) -> Filter {
    let known: Vec<&str> = schema["enum"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut samples = samples::of(path, name);
    // Values that the API no longer has.
    samples.retain(|sample| known.is_empty() || known.contains(&sample.value.as_str()));
    if samples.is_empty() {
        samples.extend(known.iter().take(FALLBACK_VALUES).map(|value| Sample::unclassified(value)));
    }
    let mut others = Vec::new();
    if known.len() <= MAX_ENUM {
        let is_new = |value: &&&str| samples.iter().all(|sample| sample.value != **value);
        others.extend(known.iter().filter(is_new).map(|value| Sample::unclassified(value)));
    }
    Filter { name: name.to_owned(), samples, others }
}

/// Follows references to components.
fn resolve<'a>(document: &'a Value, mut value: &'a Value) -> &'a Value {
    while let Some(reference) = value["$ref"].as_str() {
        match reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer)) {
            Some(component) => value = component,
            None => break,
        }
    }
    value
}
