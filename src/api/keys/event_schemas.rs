//! Schemas and examples of `data.changes` in events about keys.

use serde_json::{Value, json};

use super::model::KeyView;
use crate::{
    base::{action::Action, id},
    http::event_schema::{EventSchema, created, updated},
};

/// Changes in events of this type, or `None` if it is not an event about keys.
pub fn schema_of(action: Action) -> Option<EventSchema> {
    let of = |schema, example| Some(EventSchema::new::<id::Key>(schema, example));
    match action {
        Action::KeyCreated => of(created::<KeyView>, key),
        Action::KeyUpdated => of(updated::<KeyView>, || json!({ "name": ["CI", "deployment"] })),
        Action::KeyRotated => of(updated::<KeyView>, || {
            json!({
                "hint": ["sk_live_2f7a", "sk_live_9c1e"],
                "previous_expires_at": [null, "2026-03-02T00:00:00.000Z"],
            })
        }),
        Action::KeyRevoked => of(updated::<KeyView>, || json!({ "status": ["active", "revoked"] })),
        _ => None,
    }
}

fn key() -> Value {
    json!({
        "id": "key_7d1",
        "project_id": "proj_8f2c4",
        "name": "CI",
        "scopes": ["users:read", "usage:read"],
        "hint": "sk_live_2f7a",
        "status": "active",
        "metadata": {},
        "created_by": "usr_8f2",
        "created_at": "2026-03-01T00:00:00.000Z",
        "expires_at": null,
        "previous_expires_at": null,
        "last_used_at": null,
        "allowed_ips": [],
        "rate_limit": null,
    })
}
