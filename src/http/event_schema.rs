//! Schema and example of `data.changes` for one event type. Each slice describes its events in its `event_schemas`; the
//! OpenAPI document publishes them, and a test verifies that real events match.

#![allow(clippy::indexing_slicing, reason = "the indexed value is an object built in the same function")]

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use super::describe::SchemaOf;
use crate::base::id::Kind;

/// Changes in events of one type.
#[derive(Clone, Copy, Debug)]
pub struct EventSchema {
    /// JSON Schema.
    pub schema: SchemaOf,
    /// Type of the object.
    pub target: &'static str,
    /// Example.
    pub example: fn() -> Value,
}

impl EventSchema {
    /// Changes of an object of the kind `K`.
    pub fn new<K: Kind>(schema: SchemaOf, example: fn() -> Value) -> Self {
        Self { schema, target: K::type_name(), example }
    }
}

/// Members of a new object.
pub fn created<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Old and new value of each changed member.
pub fn updated<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    pairs(&members::<T>(generator), |member| json!([member, member]))
}

/// Former value of each member.
pub fn deleted<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    pairs(&members::<T>(generator), |member| json!([member, { "type": "null" }]))
}

/// No changes.
pub fn no_changes(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "description": "Always empty.", "additionalProperties": false })
}

fn members<T: JsonSchema>(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let reference = generator.subschema_for::<T>();
    let name = reference.get("$ref").and_then(Value::as_str).and_then(|reference| reference.rsplit('/').next());
    let schema = name.and_then(|name| generator.definitions().get(name)).unwrap_or(reference.as_value());
    schema["properties"].as_object().cloned().unwrap_or_default()
}

/// An object with the `values` of each member: the old one and the new one.
pub fn pairs(members: &Map<String, Value>, values: impl Fn(&Value) -> Value) -> Schema {
    let pair = |(name, member): (&String, &Value)| {
        let mut member = member.clone();
        let description = member.as_object_mut().and_then(|member| member.remove("description"));
        let pair = json!({
            "type": "array",
            "description": description,
            "prefixItems": values(&member),
            // `maxItems` excludes further items; the linter requires `items` to be a schema.
            "items": {},
            "minItems": 2,
            "maxItems": 2,
        });
        (name.clone(), pair)
    };
    let properties: Map<String, Value> = members.iter().map(pair).collect();
    json_schema!({
        "type": "object",
        "description": "Old and new value of each changed member.",
        "properties": properties,
        "additionalProperties": false,
    })
}

/// Derives the example for a removed object from the example of the object.
pub fn deleted_values(object: Value) -> Value {
    match object {
        Value::Object(members) => members.into_iter().map(|(name, value)| (name, json!([value, null]))).collect(),
        other => other,
    }
}
