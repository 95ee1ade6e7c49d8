//! The types of events, as OpenAPI's webhooks: what the list, the stream and webhooks tell, one for each type.

use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use crate::{
    base::action::Action,
    events::{
        changes::{self, Described},
        model::{Event, EventData},
    },
};

/// The event types' descriptions, by type.
pub(super) fn webhooks(schemas: &mut Schemas) -> Map<String, Value> {
    Action::events()
        .filter_map(|action| Some((action.to_string(), webhook(action, changes::of(action)?, schemas))))
        .collect()
}

fn webhook(action: Action, described: Described, schemas: &mut Schemas) -> Value {
    json!({
        "post": {
            "operationId": format!("event_{}", action.as_str().replace('.', "_")),
            "tags": ["events"],
            // Who sends shows it by a signature, which is none of OpenAPI's schemes.
            "security": [],
            "summary": action.meaning().trim_end_matches('.'),
            "description": format!("{} As it is listed, streamed and sent to webhooks.", action.meaning()),
            "requestBody": {
                "required": true,
                "content": {
                    "application/json": {
                        "schema": schema(action, &described, &mut schemas.written),
                        "example": example(action, described),
                    },
                },
            },
            "responses": { "default": { "description": "Any 2xx says that you have kept it; anything else, that it shall be sent again." } },
        },
    })
}

/// What every event has, and what is special of this type in its place: one object, because tools that close objects
/// close each part of a composed one.
fn schema(action: Action, described: &Described, written: &mut SchemaGenerator) -> Value {
    let changes = (described.schema)(written).to_value();
    let mut data = definition::<EventData>(written);
    set(&mut data, "action", json!({ "const": action }));
    set(&mut data, "changes", changes);
    let mut event = definition::<Event>(written);
    set(&mut event, "type", json!({ "const": action }));
    set(&mut event, "data", data);
    event
}

/// Describes a member of an object anew.
fn set(object: &mut Value, member: &str, schema: Value) {
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        properties.insert(member.to_owned(), schema);
    }
}

/// The schema that others refer to.
fn definition<T: JsonSchema>(written: &mut SchemaGenerator) -> Value {
    let _ = written.subschema_for::<T>();
    written.definitions().get(&*T::schema_name()).cloned().unwrap_or_default()
}

/// An event of this type.
fn example(action: Action, described: Described) -> Value {
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
