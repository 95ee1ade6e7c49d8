//! Schemas in the form that generators of clients understand. Requests are validated against the schemas as schemars
//! makes them; what is published here accepts the same requests, in fewer words of JSON Schema.

use std::{collections::BTreeSet, sync::LazyLock};

use schemars::{
    Schema,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Map, Value, json};

use super::components::{pascal_case, reference};
use crate::{
    base::{action::Action, schema::plain_enum},
    resources::kind::Kind,
};

/// Which way an object goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client: only known values are accepted.
    Request,
    /// To the client, who must expect values and members that are added later.
    Response,
}

/// Rewrites `schema` and its subschemas.
pub(super) fn publish(schema: &mut Value, direction: Direction) {
    if let Ok(schema) = <&mut Schema>::try_from(schema) {
        Publish(direction).transform(schema);
    }
}

struct Publish(Direction);

impl Transform for Publish {
    fn transform(&mut self, schema: &mut Schema) {
        transform_subschemas(self, schema);
        plain_enum(schema);
        let Some(members) = schema.as_object_mut() else { return };
        // It is for the texts of validation errors, and here where no example says the same.
        if self.0 == Direction::Response || members.contains_key("examples") {
            members.remove("x-form");
        }
        name_integer_width(members);
        constant_boolean(members);
        uniform_tuple(members);
        gap_in_range(members);
        name_event_type(members, self.0);
        if self.0 == Direction::Response {
            open_object(members);
            open_enum(members);
        }
        nullable_primitive(members);
    }
}

/// OpenAPI knows `int32` and `int64`; the formats of Rust's other integers mean nothing to generators.
fn name_integer_width(members: &mut Map<String, Value>) {
    let format = members.get("format").and_then(Value::as_str).unwrap_or_default();
    let fits = |limit: Option<&Value>| limit.and_then(Value::as_i64).is_some_and(|limit| i32::try_from(limit).is_ok());
    let width = match format {
        "int8" | "int16" | "uint8" | "uint16" => "int32",
        "uint32" if fits(members.get("maximum")) => "int32",
        "uint32" | "uint64" => "int64",
        _ => return,
    };
    members.insert("format".into(), width.into());
}

/// Generators take a constant for a text or a number.
fn constant_boolean(members: &mut Map<String, Value>) {
    if let Some(Value::Bool(constant)) = members.get("const") {
        let constant = *constant;
        members.remove("const");
        members.insert("enum".into(), json!([constant]));
    }
}

/// A tuple whose items are all alike is an array of them.
fn uniform_tuple(members: &mut Map<String, Value>) {
    if let Some(Value::Array(items)) = members.get("prefixItems")
        && let [first, rest @ ..] = items.as_slice()
        && rest.iter().all(|item| item == first)
        && members.get("maxItems").and_then(Value::as_u64) == Some(items.len() as u64)
    {
        let item = first.clone();
        members.remove("prefixItems");
        members.insert("items".into(), item);
    }
}

/// A number that is zero or at least so much, or null: `anyOf` would become a type of its own in a client.
fn gap_in_range(members: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = members.get("anyOf") else { return };
    if members.get("minimum") != Some(&json!(0)) || !alternatives.contains(&json!({ "const": 0 })) {
        return;
    }
    let Some(least) = alternatives.iter().find_map(|alternative| alternative.get("minimum").cloned()) else { return };
    members.remove("anyOf");
    members.insert("not".into(), json!({ "type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": least }));
}

/// The types of events are listed once, as a schema of their own.
fn name_event_type(members: &mut Map<String, Value>, direction: Direction) {
    static TYPES: LazyLock<Value> = LazyLock::new(|| json!(Action::names(Action::events())));
    if members.get("enum") == Some(&*TYPES) {
        for name in ["enum", "type"] {
            members.remove(name);
        }
        if members.get("description").is_some_and(|description| description == EVENT_TYPE_DESCRIPTION) {
            members.remove("description");
        }
        let path = if direction == Direction::Request { REQUESTS } else { RESPONSES };
        members.insert("$ref".into(), format!("#{path}/{EVENT_TYPE}").into());
    }
}

/// The schema that [`name_event_type`] refers to.
fn event_type(direction: Direction) -> Value {
    let list = if direction == Direction::Request { "enum" } else { "x-extensible-enum" };
    json!({ "type": "string", "description": EVENT_TYPE_DESCRIPTION, list: Action::names(Action::events()) })
}

/// Members may be added to a response.
fn open_object(members: &mut Map<String, Value>) {
    let has_members = members.get("properties").and_then(Value::as_object).is_some_and(|members| !members.is_empty());
    if has_members && members.get("additionalProperties") == Some(&Value::Bool(false)) {
        members.remove("additionalProperties");
    }
}

/// Values may be added to a response.
fn open_enum(members: &mut Map<String, Value>) {
    let is_text = |value: &Value| value.is_string() || value.is_null();
    if let Some(Value::Array(values)) = members.get_mut("enum")
        && values.len() > 1
        && values.iter().all(is_text)
    {
        values.retain(Value::is_string);
        if let Some(values) = members.remove("enum") {
            members.insert("x-extensible-enum".into(), values);
        }
    }
}

/// A primitive type or null is a list of types. Enums and references keep `anyOf`: generators lose the null of an enum.
fn nullable_primitive(members: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = members.get("anyOf") else { return };
    let [Value::Object(schema), null] = alternatives.as_slice() else { return };
    let closed = ["enum", "const", "properties", "$ref"].iter().any(|name| schema.contains_key(*name));
    let Some(Value::String(kind)) = schema.get("type") else { return };
    if closed || *null != json!({ "type": "null" }) {
        return;
    }
    let mut schema = schema.clone();
    schema.insert("type".into(), json!([kind, "null"]));
    members.remove("anyOf");
    for (name, value) in schema {
        members.entry(name).or_insert(value);
    }
}

/// The path of request schemas until [`merge`] gives them their names.
pub(super) const REQUESTS: &str = "/components/requests";
/// The path of response schemas.
pub(super) const RESPONSES: &str = "/components/schemas";
const EVENT_TYPE: &str = "EventType";
const EVENT_TYPE_DESCRIPTION: &str = "A type of event.";

/// The published schemas: those of requests and those of responses under one set of names. A type that goes both ways
/// has two schemas, and that of requests has `Input` after its name. With them come the names of response schemas.
pub(super) fn merge(
    mut requests: Map<String, Value>,
    mut responses: Map<String, Value>,
) -> (Map<String, Value>, BTreeSet<String>) {
    requests.values_mut().for_each(|schema| publish(schema, Direction::Request));
    responses.values_mut().for_each(|schema| publish(schema, Direction::Response));
    requests.insert(EVENT_TYPE.into(), event_type(Direction::Request));
    responses.insert(EVENT_TYPE.into(), event_type(Direction::Response));
    split_new_resource(&mut requests);
    split_resource(&mut responses);
    let names: BTreeSet<String> = responses.keys().cloned().collect();
    responses.extend(requests.into_iter().map(|(name, schema)| (request_name(&name, &names), schema)));
    (responses, names)
}

/// Points references to schemas of requests at the names that [`merge`] gave.
pub(super) fn name_requests(document: &mut Value, responses: &BTreeSet<String>) {
    match document {
        Value::Object(members) => members.values_mut().for_each(|value| name_requests(value, responses)),
        Value::Array(items) => items.iter_mut().for_each(|item| name_requests(item, responses)),
        // References, and the mapping of a discriminator.
        Value::String(target) => {
            if let Some(name) = target.strip_prefix("#/components/requests/") {
                *target = format!("#/components/schemas/{}", request_name(name, responses));
            }
        }
        _ => {}
    }
}

fn request_name(name: &str, responses: &BTreeSet<String>) -> String {
    match name {
        "NoMembers" => "EmptyRequest".into(),
        _ if responses.contains(name) => format!("{name}Input"),
        _ => match name.strip_suffix("Patch") {
            Some(of) => format!("{of}Update"),
            None => name.to_owned(),
        },
    }
}

/// `network.network` and `compute.instance` as `Network` and `Instance`. The schemas are `NetworkResource`, not `Network`:
/// generators give its inline `spec` the name of both, and `NetworkSpec` is another schema.
fn kind_name(kind: &str) -> String {
    pascal_case(kind.rsplit('.').next().unwrap_or_default())
}

/// One schema for each kind of resource, told apart by `kind`, instead of conditions on it.
fn split_new_resource(requests: &mut Map<String, Value>) {
    const NAME: &str = "NewResource";
    let Some(Value::Object(mut base)) = requests.remove(NAME) else { return };
    let Some(Value::Array(conditions)) = base.remove("allOf") else { return };
    let of = |condition: &Value| {
        let kind = condition.pointer("/if/properties/kind/const")?.as_str()?.to_owned();
        Some((kind, condition.pointer("/then/properties/spec")?.clone()))
    };
    let kinds: Vec<_> = conditions.iter().filter_map(of).collect();
    let mapping = kinds.iter().map(|(kind, _)| (kind.clone(), format!("New{}Resource", kind_name(kind)))).collect();
    let union = union_of_kinds(&base, "#/components/requests/", mapping);
    for (kind, spec) in kinds {
        requests.insert(format!("New{}Resource", kind_name(&kind)), with_kind(&base, &kind, spec));
    }
    requests.insert(NAME.into(), union);
}

fn split_resource(responses: &mut Map<String, Value>) {
    const NAME: &str = "Resource";
    // Where a spec is not known yet; `anyOf` needs a name for it.
    const NO_SPEC: &str = "UnknownSpec";
    let Some(Value::Object(base)) = responses.remove(NAME) else { return };
    let unknown = json!({
        "type": "object",
        "description": "Empty: the provider has not yet reported the spec of an imported object.",
        "maxProperties": 0,
    });
    responses.insert(NO_SPEC.into(), unknown);
    if let Some(Value::Array(specs)) = responses.get_mut("Spec").and_then(|spec| spec.get_mut("anyOf"))
        && let Some(last) = specs.last_mut()
    {
        *last = reference("schemas", NO_SPEC);
    }
    for kind in Kind::ALL {
        let name = kind_name(kind.as_str());
        let mut spec = json!({
            "anyOf": [reference("schemas", &format!("{name}Spec")), reference("schemas", NO_SPEC)],
        });
        let description = base.get("properties").and_then(|members| members.get("spec")?.get("description"));
        if let (Some(spec), Some(description)) = (spec.as_object_mut(), description) {
            spec.insert("description".into(), description.clone());
        }
        responses.insert(format!("{name}{NAME}"), with_kind(&base, kind.as_str(), spec));
    }
    let name = |kind: &Kind| format!("{}{NAME}", kind_name(kind.as_str()));
    let mapping = Kind::ALL.iter().map(|kind| (kind.to_string(), name(kind))).collect();
    responses.insert(NAME.into(), union_of_kinds(&base, "#/components/schemas/", mapping));
}

/// `base` for one kind, with what it asks for.
fn with_kind(base: &Map<String, Value>, kind: &str, spec: Value) -> Value {
    let mut schema = base.clone();
    let own = schema.get("description").and_then(Value::as_str).unwrap_or_default();
    schema.insert("description".into(), format!("{own} Of kind `{kind}`.").into());
    if let Some(Value::Object(members)) = schema.get_mut("properties") {
        if let Some(Value::Object(member)) = members.get_mut("kind") {
            member.retain(|name, _| name == "description");
            member.insert("type".into(), "string".into());
            member.insert("const".into(), kind.into());
        }
        members.insert("spec".into(), spec);
    }
    schema.into()
}

/// One of the schemas in `mapping`, by `kind`.
fn union_of_kinds(base: &Map<String, Value>, path: &str, mapping: Vec<(String, String)>) -> Value {
    let targets: Map<String, Value> =
        mapping.iter().map(|(kind, name)| (kind.clone(), format!("{path}{name}").into())).collect();
    json!({
        "description": base.get("description"),
        "oneOf": mapping.iter().map(|(_, name)| json!({ "$ref": format!("{path}{name}") })).collect::<Vec<_>>(),
        "discriminator": { "propertyName": "kind", "mapping": targets },
    })
}

/// Removes the schemas that nothing refers to.
pub(super) fn remove_unused(document: &mut Value) {
    let Some(Value::Object(mut schemas)) = document.pointer_mut("/components/schemas").map(Value::take) else { return };
    let mut used = Vec::new();
    names_in(document, &mut used);
    let mut kept = Map::new();
    while let Some(name) = used.pop() {
        if let Some((name, schema)) = schemas.remove_entry(&name) {
            names_in(&schema, &mut used);
            kept.insert(name, schema);
        }
    }
    if let Some(schemas) = document.pointer_mut("/components/schemas") {
        *schemas = kept.into();
    }
}

fn names_in(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.values().for_each(|value| names_in(value, found)),
        Value::Array(items) => items.iter().for_each(|item| names_in(item, found)),
        // References, and the mapping of a discriminator.
        Value::String(text) => found.extend(text.strip_prefix("#/components/schemas/").map(str::to_owned)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(mut schema: Value, direction: Direction) -> Value {
        publish(&mut schema, direction);
        schema
    }

    #[test]
    fn enums_are_closed_in_requests_and_open_in_responses() {
        let schema = json!({ "type": "string", "enum": ["a", "b"], "examples": ["a"], "x-form": "a word" });
        assert_eq!(
            published(schema.clone(), Direction::Request),
            json!({ "type": "string", "enum": ["a", "b"], "examples": ["a"] })
        );
        let open = json!({ "type": "string", "x-extensible-enum": ["a", "b"], "examples": ["a"] });
        assert_eq!(published(schema.clone(), Direction::Response), open);
        let nullable = json!({
            "anyOf": [{ "type": "string", "enum": ["a", "b"] }, { "type": "null" }], "description": "Which.",
        });
        let open = json!({ "type": ["string", "null"], "x-extensible-enum": ["a", "b"], "description": "Which." });
        assert_eq!(published(nullable.clone(), Direction::Response), open);
        let closed =
            json!({ "anyOf": [{ "type": "string", "enum": ["a", "b"] }, { "type": "null" }], "description": "Which." });
        assert_eq!(published(nullable, Direction::Request), closed);
    }

    #[test]
    fn a_gap_in_a_range_and_a_constant_boolean_are_published_without_any_of_and_const() {
        let seconds = json!({
            "type": ["integer", "null"], "format": "uint32", "minimum": 0, "maximum": 100,
            "anyOf": [{ "minimum": 60 }, { "const": 0 }, { "type": "null" }],
        });
        let without = json!({
            "type": ["integer", "null"], "format": "int32", "minimum": 0, "maximum": 100,
            "not": { "type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": 60 },
        });
        assert_eq!(published(seconds, Direction::Request), without);
        let always = json!({ "type": "boolean", "const": true });
        assert_eq!(published(always, Direction::Response), json!({ "type": "boolean", "enum": [true] }));
    }
}
