//! Schemas and examples of `data.changes` in events about the audit trail.

use schemars::{Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use crate::{
    base::{action::Action, id, runtime::clock::Timestamp},
    http::event_schema::EventSchema,
};

/// Changes in events of this type, or `None` if it is not an event about the audit trail.
pub fn schema_of(action: Action) -> Option<EventSchema> {
    match action {
        Action::AuditCheckpoint => Some(EventSchema::new::<id::Project>(checkpoint, checkpoint_example)),
        _ => None,
    }
}

fn checkpoint(generator: &mut SchemaGenerator) -> Schema {
    let hex = |digits: u32| json!({ "type": "string", "pattern": format!("^[0-9a-f]{{{digits}}}$") });
    json_schema!({
        "type": "object",
        "description": "Signed end of the project's audit trail.",
        "required": ["hash", "made_at", "public_key", "seq", "signature"],
        "properties": {
            "hash": hex(64),
            "made_at": generator.subschema_for::<Timestamp>(),
            "public_key": hex(64),
            "seq": { "type": "integer", "minimum": 0 },
            "signature": hex(128),
        },
        "additionalProperties": false,
    })
}

fn checkpoint_example() -> Value {
    // Repeated digits, because the document is compressed.
    let hex = |digits: usize| "0123456789abcdef".repeat(digits / 16);
    json!({
        "hash": hex(64),
        "made_at": "2026-03-01T00:00:00.000Z",
        "public_key": hex(64),
        "seq": 41,
        "signature": hex(128),
    })
}
