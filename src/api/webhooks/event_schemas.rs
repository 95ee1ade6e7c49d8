//! Schemas and examples of `data.changes` in events about webhooks.

use serde_json::{Value, json};

use super::model::WebhookView;
use crate::{
    base::{action::Action, id},
    http::event_schema::{EventSchema, created, deleted, deleted_values, no_changes, updated},
};

/// Changes in events of this type, or `None` if it is not an event about webhooks.
pub fn schema_of(action: Action) -> Option<EventSchema> {
    let of = |schema, example| Some(EventSchema::new::<id::Webhook>(schema, example));
    match action {
        Action::WebhookCreated => of(created::<WebhookView>, webhook),
        Action::WebhookUpdated => of(updated::<WebhookView>, || json!({ "event_types": [["key.created"], []] })),
        Action::WebhookSecretRotated => {
            of(updated::<WebhookView>, || json!({ "previous_expires_at": [null, "2026-03-02T00:00:00.000Z"] }))
        }
        Action::WebhookDisabled => {
            of(updated::<WebhookView>, || json!({ "enabled": [true, false], "disabled_reason": [null, "gone"] }))
        }
        Action::WebhookDeleted => of(deleted::<WebhookView>, || deleted_values(webhook())),
        Action::WebhookTested => of(no_changes, || json!({})),
        _ => None,
    }
}

fn webhook() -> Value {
    json!({
        "id": "wh_6a3",
        "project_id": "proj_8f2c4",
        "url": "https://receiver.example/hooks",
        "event_types": ["key.created"],
        "description": "Notifies the billing service",
        "enabled": true,
        "disabled_reason": null,
        "failing_since": null,
        "previous_expires_at": null,
        "created_at": "2026-03-01T00:00:00.000Z",
    })
}
