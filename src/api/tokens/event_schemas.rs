//! Schemas and examples of `data.changes` in events about tokens.

use serde_json::{Value, json};

use super::model::TokenView;
use crate::{
    base::{action::Action, id},
    http::event_schema::{EventSchema, created, updated},
};

/// Changes in events of this type, or `None` if it is not an event about tokens.
pub fn schema_of(action: Action) -> Option<EventSchema> {
    let of = |schema, example| Some(EventSchema::new::<id::Token>(schema, example));
    match action {
        Action::TokenCreated => of(created::<TokenView>, token),
        Action::TokenRevoked => of(updated::<TokenView>, || json!({ "status": ["active", "revoked"] })),
        _ => None,
    }
}

fn token() -> Value {
    json!({
        "id": "tok_2c9",
        "scopes": ["users:read", "usage:read"],
        "name": "ci-token",
        "project_id": "proj_8f2c4",
        "issuer": { "id": "key_7d1", "type": "key" },
        "hint": "cap_7e0b91c2",
        "status": "active",
        "created_at": "2026-03-01T00:00:00.000Z",
        "expires_at": "2026-05-30T00:00:00.000Z",
        "last_used_at": null,
    })
}
