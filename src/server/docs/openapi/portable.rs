//! Converts schemas to a form that client generators support. The server validates requests against the schemas that
//! schemars generates; the published schemas accept the same requests with fewer JSON Schema keywords.

use std::{collections::BTreeSet, sync::LazyLock};

use schemars::{
    Schema,
    transform::{Transform, transform_subschemas},
};
use serde_json::{Map, Value, json};

use super::{
    components::{pascal_case, reference},
    composition::compose,
};
use crate::{
    base::{action::Action, input::schema::plain_enum},
    resources::kinds::Kind,
};

/// Direction of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the client. Only known values are accepted.
    Request,
    /// To the client. Later versions may add values and members.
    Response,
}

/// Converts `schema` and its subschemas to their published form.
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
        // `x-form` describes the form for validation errors. It is published only if no example shows the form.
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

/// Replaces the formats of integers with `int32` or `int64`. OpenAPI defines no others, so generators ignore them.
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

/// Publishes a constant boolean as an enum: generators treat a `const` as a text or a number.
fn constant_boolean(members: &mut Map<String, Value>) {
    if let Some(Value::Bool(constant)) = members.get("const") {
        let constant = *constant;
        members.remove("const");
        members.insert("enum".into(), json!([constant]));
    }
}

/// Publishes a tuple whose items have the same schema as an array.
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

/// Publishes a number that is zero, null or at least a minimum with `not`: generators create a separate type for
/// `anyOf`.
fn gap_in_range(members: &mut Map<String, Value>) {
    let Some(Value::Array(alternatives)) = members.get("anyOf") else { return };
    if members.get("minimum") != Some(&json!(0)) || !alternatives.contains(&json!({ "const": 0 })) {
        return;
    }
    let Some(least) = alternatives.iter().find_map(|alternative| alternative.get("minimum").cloned()) else { return };
    members.remove("anyOf");
    members.insert("not".into(), json!({ "type": "integer", "exclusiveMinimum": 0, "exclusiveMaximum": least }));
}

/// Replaces a list of the event types with a reference to a shared schema.
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

/// Schema that [`name_event_type`] refers to.
fn event_type(direction: Direction) -> Value {
    let list = if direction == Direction::Request { "enum" } else { "x-extensible-enum" };
    json!({ "type": "string", "description": EVENT_TYPE_DESCRIPTION, list: Action::names(Action::events()) })
}

/// Allows additional members: later versions may add members to a response.
fn open_object(members: &mut Map<String, Value>) {
    let has_members = members.get("properties").and_then(Value::as_object).is_some_and(|members| !members.is_empty());
    if has_members && members.get("additionalProperties") == Some(&Value::Bool(false)) {
        members.remove("additionalProperties");
    }
}

/// Publishes an enum as `x-extensible-enum`: later versions may add values to a response.
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

/// Publishes a nullable primitive type as a list of types. Enums and references keep `anyOf`, because generators lose
/// the null of an enum.
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

/// Path of request schemas until [`merge`] renames them.
pub(super) const REQUESTS: &str = "/components/requests";
/// Path of response schemas.
pub(super) const RESPONSES: &str = "/components/schemas";
const EVENT_TYPE: &str = "EventType";
const EVENT_TYPE_DESCRIPTION: &str = "Event type.";

/// Merges the schemas of requests and responses under one set of names. A type that is used in both directions has two
/// schemas; the name of its request schema ends in `Input`. Also returns the names of the response schemas.
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
    compose(&mut responses);
    let names: BTreeSet<String> = responses.keys().cloned().collect();
    responses.extend(requests.into_iter().map(|(name, schema)| (request_name(&name, &names), schema)));
    (responses, names)
}

/// Changes references to request schemas to the names that [`merge`] has assigned.
pub(super) fn name_requests(document: &mut Value, responses: &BTreeSet<String>) {
    match document {
        Value::Object(members) => members.values_mut().for_each(|value| name_requests(value, responses)),
        Value::Array(items) => items.iter_mut().for_each(|item| name_requests(item, responses)),
        // A reference, or an entry in the mapping of a discriminator.
        Value::String(target) => {
            if let Some(name) = target.strip_prefix("#/components/requests/") {
                *target = format!("#/components/schemas/{}", request_name(name, responses));
            }
        }
        _ => {}
    }
}

fn request_name(name: &str, responses: &BTreeSet<String>) -> String {
    if responses.contains(name) {
        return format!("{name}Input");
    }
    match name.strip_suffix("Patch") {
        Some(of) => format!("{of}Update"),
        None => name.to_owned(),
    }
}

/// Converts a kind to a name: `compute.instance` to `Instance`. The schemas are named `NetworkResource`, not `Network`,
/// because generators name an inline `spec` after its parent, and `NetworkSpec` is another schema.
fn kind_name(kind: &str) -> String {
    pascal_case(kind.rsplit('.').next().unwrap_or_default())
}

/// Replaces the conditions on `kind` with one schema for each kind of resource, and `kind` as the discriminator.
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
    // Schema of a spec that is not yet known. It needs a name, because generators do not support inline schemas in
    // `anyOf`.
    const NO_SPEC: &str = "UnknownSpec";
    // Members of every kind. The schemas of the kinds have all of them, so they become extensions of this one.
    const COMMON: &str = "ResourceAttributes";
    let Some(Value::Object(base)) = responses.remove(NAME) else { return };
    let unknown = json!({
        "type": "object",
        "description": "Empty: the provider has not yet reported the spec of an imported object.",
        "maxProperties": 0,
    });
    responses.insert(NO_SPEC.into(), unknown);
    responses.insert(COMMON.into(), without(&base, &["kind", "spec"], "Members of a resource of any kind."));
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

/// Returns `base` for one kind, with its `spec`.
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

/// Returns an object without some of its members, with another description.
pub(super) fn without(object: &Map<String, Value>, members: &[&str], description: &str) -> Value {
    let mut object = object.clone();
    object.insert("description".into(), description.into());
    if let Some(Value::Object(all)) = object.get_mut("properties") {
        all.retain(|name, _| !members.contains(&name.as_str()));
    }
    if let Some(Value::Array(required)) = object.get_mut("required") {
        required.retain(|name| name.as_str().is_none_or(|name| !members.contains(&name)));
    }
    object.into()
}

/// Returns the union of the schemas in `mapping`, with `kind` as the discriminator.
fn union_of_kinds(base: &Map<String, Value>, path: &str, mapping: Vec<(String, String)>) -> Value {
    let targets: Map<String, Value> =
        mapping.iter().map(|(kind, name)| (kind.clone(), format!("{path}{name}").into())).collect();
    json!({
        "description": base.get("description"),
        "oneOf": mapping.iter().map(|(_, name)| json!({ "$ref": format!("{path}{name}") })).collect::<Vec<_>>(),
        "discriminator": { "propertyName": "kind", "mapping": targets },
    })
}

/// Removes schemas without references to them.
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
        // A reference, or an entry in the mapping of a discriminator.
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
