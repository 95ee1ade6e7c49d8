//! Event types as OpenAPI webhooks, one for each type. The event list, the stream and webhooks send these events.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{
    components::{pascal_case, reference},
    composition::extension,
    portable::{Direction, publish, without},
    schemas::Schemas,
};
use crate::{
    api::events::model::{Event, EventData},
    base::action::Action,
    http::event_schema::EventSchema,
};

/// Tag of the webhooks, and its description. It differs from the tag of the operations on events, because generators
/// write one file for each tag and would lose one of the two.
pub(super) const TAG: (&str, &str) =
    ("event_types", "Event types, each with its `data.changes` in lists, streams and webhooks.");

/// Describes the event types. Returns the webhooks by type, and the schemas that they refer to.
pub(super) fn webhooks(
    event_types: &[(Action, EventSchema)],
    schemas: &mut Schemas,
) -> (Map<String, Value>, Map<String, Value>) {
    let mut named = Map::from_iter(common_members(&mut schemas.response_generator));
    let webhooks = event_types
        .iter()
        .map(|(action, described)| (action.to_string(), webhook(*action, *described, schemas, &mut named)))
        .collect();
    (webhooks, named)
}

fn webhook(action: Action, described: EventSchema, schemas: &mut Schemas, named: &mut Map<String, Value>) -> Value {
    let name = format!("{}Event", pascal_case(action.as_str()));
    // A separate schema, because generators lose the members of an inline `allOf`.
    let of_data = format!("{name}Data");
    let data = data_schema(action, &described, &mut schemas.response_generator, named);
    named.insert(of_data.clone(), data);
    named.insert(name.clone(), event_schema(action, &of_data));
    json!({
        "post": {
            "operationId": format!("event_{}", action.as_str().replace('.', "_")),
            "tags": [TAG.0],
            // The sender signs the request. OpenAPI has no security scheme for that.
            "security": [],
            "summary": action.description().trim_end_matches('.'),
            "requestBody": {
                "required": true,
                "content": {
                    "application/json": { "schema": reference("schemas", &name) },
                },
            },
            "responses": { "default": reference("responses", RECEIVED) },
        },
    })
}

/// Component name of [`received`].
pub(super) const RECEIVED: &str = "EventReceived";

/// Response of a receiver.
pub(super) fn received() -> Value {
    json!({ "description": "A 2xx confirms receipt. After any other status, the delivery is retried." })
}

/// Component names of the members that every event has, and of those that its `data` has. [`Event`] and each event type
/// refer to them.
const ATTRIBUTES: &str = "EventAttributes";
const ORIGIN: &str = "EventOrigin";

fn common_members(generator: &mut SchemaGenerator) -> [(String, Value); 2] {
    let event = definition::<Event>(generator);
    let data = definition::<EventData>(generator);
    [
        (ATTRIBUTES.into(), without(&event, &["type", "data"], "Attributes of every event (CloudEvents 1.0).")),
        (ORIGIN.into(), without(&data, &["action", "changes"], "Actor, object and request of an event.")),
    ]
}

/// Schema of an event type.
fn event_schema(action: Action, data: &str) -> Value {
    let own = json!({
        "type": "object",
        "properties": { "type": { "type": "string", "const": action }, "data": reference("schemas", data) },
        "required": ["type", "data"],
    });
    extension(ATTRIBUTES, own, Some(action.description().into()))
}

/// Schema of `data` in events of this type.
fn data_schema(
    action: Action,
    described: &EventSchema,
    generator: &mut SchemaGenerator,
    named: &mut Map<String, Value>,
) -> Value {
    let mut changes = changes_of(action, described, generator, named);
    if let Value::Object(changes) = &mut changes {
        changes.insert("examples".into(), json!([(described.example)()]));
    }
    let own = json!({
        "type": "object",
        "properties": { "action": { "type": "string", "const": action }, "changes": changes },
        "required": ["action", "changes"],
    });
    extension(ORIGIN, own, None)
}

/// Schema of `data.changes`. Event types with the same kind of target share it.
fn changes_of(
    action: Action,
    described: &EventSchema,
    generator: &mut SchemaGenerator,
    named: &mut Map<String, Value>,
) -> Value {
    let mut schema = (described.schema)(generator).to_value();
    if schema.get("$ref").is_some() {
        return schema;
    }
    publish(&mut schema, Direction::Response);
    if let Some(Value::Object(members)) = schema.get_mut("properties") {
        members.values_mut().for_each(undescribe_pair);
    }
    if let Some((name, _)) = named.iter().find(|(_, named)| **named == schema) {
        return reference("schemas", name);
    }
    let (of_thing, of_type) = (described.target, action.as_str().trim_end_matches("_changed"));
    let names = [of_thing, of_type].map(|name| format!("{}Changes", pascal_case(name)));
    match names.into_iter().find(|name| !named.contains_key(name)) {
        Some(name) => {
            let reference = reference("schemas", &name);
            named.insert(name, schema);
            reference
        }
        None => schema,
    }
}

/// Removes the descriptions and examples of the old and the new value of a member, because the target's schema has
/// them.
fn undescribe_pair(pair: &mut Value) {
    let undescribe = |schema: &mut Value| {
        if let Value::Object(schema) = schema {
            schema.retain(|name, _| name != "description" && name != "examples");
        }
    };
    undescribe(pair);
    for name in ["items", "prefixItems"] {
        match pair.get_mut(name) {
            Some(Value::Array(values)) => values.iter_mut().for_each(undescribe),
            Some(value) => undescribe(value),
            None => {}
        }
    }
}

/// Returns the definition of `T` that references point to.
fn definition<T: JsonSchema>(generator: &mut SchemaGenerator) -> Map<String, Value> {
    let _ = generator.subschema_for::<T>();
    let definition = generator.definitions().get(&*T::schema_name());
    definition.and_then(Value::as_object).cloned().unwrap_or_default()
}
