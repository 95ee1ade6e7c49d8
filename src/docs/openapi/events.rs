//! Event types as OpenAPI webhooks, one for each type. The event list, the stream and webhooks send these events.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{
    components::{pascal_case, reference},
    portable::{Direction, publish},
    schemas::Schemas,
};
use crate::{
    api::events::model::{Event, EventData},
    base::action::Action,
    docs::openapi::changes::{self, EventSchema},
};

/// Tag of the webhooks. It differs from the tag of the operations on events, because generators write one file for each
/// tag and would lose one of the two.
pub(super) const TAG: &str = "event_types";

/// Describes the event types. Returns the webhooks by type, and the schemas that they refer to.
pub(super) fn webhooks(schemas: &mut Schemas) -> (Map<String, Value>, Map<String, Value>) {
    let mut named = Map::new();
    let webhooks = Action::events()
        .filter_map(|action| {
            Some((action.to_string(), webhook(action, changes::schema_of(action)?, schemas, &mut named)))
        })
        .collect();
    (webhooks, named)
}

fn webhook(action: Action, described: EventSchema, schemas: &mut Schemas, named: &mut Map<String, Value>) -> Value {
    let name = format!("{}Event", pascal_case(action.as_str()));
    let schema = schema(action, &described, &mut schemas.response_generator, named);
    named.insert(name.clone(), schema);
    json!({
        "post": {
            "operationId": format!("event_{}", action.as_str().replace('.', "_")),
            "tags": [TAG],
            // The sender signs the request. OpenAPI has no security scheme for that.
            "security": [],
            "summary": action.description().trim_end_matches('.'),
            "description": action.description(),
            "requestBody": {
                "required": true,
                "content": {
                    "application/json": {
                        "schema": reference("schemas", &name),
                        "example": example(action, described),
                    },
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

/// Schema of an event type: the members of every event, with the narrower schemas of this type. It is one object,
/// because tools that close objects would close each part of an `allOf`. Common members are described once, in `Event`.
fn schema(
    action: Action,
    described: &EventSchema,
    generator: &mut SchemaGenerator,
    named: &mut Map<String, Value>,
) -> Value {
    let changes = changes_of(action, described, generator, named);
    let mut data = definition::<EventData>(generator);
    undescribe(&mut data);
    set(&mut data, "action", json!({ "type": "string", "const": action }));
    set(&mut data, "changes", changes);
    let mut event = definition::<Event>(generator);
    undescribe(&mut event);
    set(&mut event, "type", json!({ "type": "string", "const": action }));
    set(&mut event, "data", data);
    if let Value::Object(event) = &mut event {
        event.insert("description".into(), action.description().into());
    }
    event
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
    let (of_thing, of_type) = (described.target.0, action.as_str().trim_end_matches("_changed"));
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

/// Removes the descriptions and examples of an object and its members.
fn undescribe(object: &mut Value) {
    let Value::Object(object) = object else { return };
    object.remove("description");
    if let Some(Value::Object(members)) = object.get_mut("properties") {
        for member in members.values_mut().filter_map(Value::as_object_mut) {
            member.retain(|name, _| name != "description" && name != "examples");
        }
    }
}

/// Replaces the schema of a member of an object.
fn set(object: &mut Value, member: &str, schema: Value) {
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.insert(member.to_owned(), schema);
    }
}

/// Returns the definition of `T` that references point to.
fn definition<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
    let _ = generator.subschema_for::<T>();
    generator.definitions().get(&*T::schema_name()).cloned().unwrap_or_default()
}

/// Example of an event of this type.
fn example(action: Action, described: EventSchema) -> Value {
    let (kind, id) = described.target;
    let actor = match action {
        Action::QuotaWarning
        | Action::QuotaReached
        | Action::AuditCheckpoint
        | Action::WebhookDisabled
        | Action::ResourceProvisioned
        | Action::ResourceUpdated
        | Action::ResourceFailed
        | Action::ResourceExpired
        | Action::ResourceDeleted
        | Action::ResourceImported
        | Action::ResourceDrifted
        | Action::ResourceRemediated
        | Action::OperationCanceled => {
            json!({ "credential_id": null, "id": null, "type": "system" })
        }
        Action::ProjectQuotaChanged | Action::ResourceQuotaChanged => {
            json!({ "credential_id": null, "id": "root", "type": "operator" })
        }
        _ => json!({ "credential_id": "sess_5b1", "id": "usr_8f2", "type": "user" }),
    };
    let by_request = actor.get("type").is_some_and(|kind| kind == "user");
    json!({
        "specversion": "1.0",
        "id": "evt_4d2",
        "type": action,
        "source": "https://api.cloudapi.dev/v1/projects/proj_8f2c4",
        "subject": id,
        "time": "2026-03-01T00:00:00.000Z",
        "datacontenttype": "application/json",
        "data": {
            "action": action,
            "actor": actor,
            "target": { "id": id, "type": kind },
            "changes": (described.example)(),
            "request_id": by_request.then_some("req_9c0e1"),
        },
    })
}
