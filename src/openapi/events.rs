//! The types of events, as OpenAPI's webhooks: what the list, the stream and webhooks tell, one for each type.

use serde_json::{Map, Value, json};

use super::schemas::Schemas;
use crate::{
    base::action::Action,
    events::{
        changes::{self, Described},
        model::Event,
    },
};

/// The event types' descriptions, by type.
pub(super) fn webhooks(schemas: &mut Schemas) -> Map<String, Value> {
    let event = schemas.written.subschema_for::<Event>().to_value();
    Action::events()
        .filter_map(|action| Some((action.to_string(), webhook(action, changes::of(action)?, &event, schemas))))
        .collect()
}

fn webhook(action: Action, described: Described, event: &Value, schemas: &mut Schemas) -> Value {
    let changes = (described.schema)(&mut schemas.written).to_value();
    // What every event has, and what is special of this type. The latter names no type, so that whoever closes objects
    // does not close this part of one.
    let special = json!({
        "properties": {
            "type": { "const": action },
            "data": { "properties": { "action": { "const": action }, "changes": changes } },
        },
    });
    json!({
        "post": {
            "operationId": format!("event_{}", action.as_str().replace('.', "_")),
            "tags": ["events"],
            "summary": action.meaning().trim_end_matches('.'),
            "description": format!("{} As it is listed, streamed and sent to webhooks.", action.meaning()),
            "requestBody": {
                "required": true,
                "content": {
                    "application/json": {
                        "schema": { "allOf": [event, special] },
                        "example": example(action, described),
                    },
                },
            },
            "responses": { "2XX": { "description": "Received." } },
        },
    })
}

/// An event of this type.
fn example(action: Action, described: Described) -> Value {
    let (kind, id) = described.target;
    let actor = match action {
        Action::QuotaWarning | Action::QuotaReached | Action::AuditCheckpoint | Action::WebhookDisabled => {
            json!({ "credential_id": null, "id": null, "type": "system" })
        }
        Action::ProjectQuotaChanged => json!({ "credential_id": null, "id": "root", "type": "operator" }),
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
