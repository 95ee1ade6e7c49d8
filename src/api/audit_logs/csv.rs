//! The trail as a CSV table, for people and spreadsheets.

use serde_json::Value;

use crate::{audit::view::Entry, http::response::csv};

/// Header row.
pub const HEADER: &str = "id,seq,occurred_at,action,outcome,actor_type,actor_id,credential_id,target_type,target_id,request_id,source_ip,user_agent,changes,redacted\r\n";

/// Appends a row (RFC 4180).
pub fn write(entry: &Entry, out: &mut Vec<u8>) {
    let text = |value: &Value| match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let nested = |value: &Value, name: &str| value.get(name).map(text).unwrap_or_default();
    let cells = [
        entry.id.to_string(),
        entry.seq.to_string(),
        text(&entry.occurred_at),
        text(&entry.action),
        text(&entry.outcome),
        nested(&entry.actor, "type"),
        nested(&entry.actor, "id"),
        nested(&entry.actor, "credential_id"),
        nested(&entry.target, "type"),
        nested(&entry.target, "id"),
        text(&entry.request_id),
        text(&entry.source_ip),
        text(&entry.user_agent),
        text(&entry.changes),
        entry.redacted.to_string(),
    ];
    csv::write_row(&cells, out);
}
