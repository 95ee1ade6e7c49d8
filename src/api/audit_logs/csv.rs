//! The trail as a CSV table, for people and spreadsheets.

use serde_json::Value;

use crate::audit::view::Entry;

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
    for (index, cell) in cells.iter().enumerate() {
        out.extend_from_slice(if index == 0 { b"" } else { b"," });
        out.extend_from_slice(escape(cell).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
}

/// Quotes a cell. A cell that a spreadsheet would evaluate as a formula gets a leading single quote, which makes it
/// text (OWASP, CSV injection): clients choose names and user agents.
fn escape(cell: &str) -> String {
    let is_formula = cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let is_plain = cell.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-'));
    match (is_formula, is_plain) {
        (false, true) => cell.to_owned(),
        (false, false) => format!("\"{}\"", cell.replace('"', "\"\"")),
        (true, _) => format!("\"'{}\"", cell.replace('"', "\"\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_are_neutralized_and_delimiters_are_quoted() {
        for (cell, written) in [
            ("key.created", "key.created"),
            ("", ""),
            ("a,b", "\"a,b\""),
            ("say \"hi\"", "\"say \"\"hi\"\"\""),
            ("two\r\nlines", "\"two\r\nlines\""),
            ("=1+1", "\"'=1+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("\t=1", "\"'\t=1\""),
            ("＝1", "\"'＝1\""),
            ("::1", "::1"),
        ] {
            assert_eq!(escape(cell), written, "{cell:?}");
        }
    }
}
