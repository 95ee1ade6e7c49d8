//! The events of a project in the sealed audit trail, to compare streams and webhooks with.

use cloudapi::base::id::EventId;
use serde_json::{Value, json};
use sqlx::PgPool;

/// An audit entry that is an event.
#[derive(Clone, Debug)]
pub struct Sealed {
    pub id: EventId,
    pub action: String,
    pub target: String,
    entry: Value,
}

impl Sealed {
    /// All events of a project, in order.
    pub async fn all_of(db: &PgPool, project: &str) -> Vec<Self> {
        let sql = "SELECT id, payload FROM audit_entries
                   WHERE is_event AND 'proj_' || ltrim(replace(project_id::text, '-', ''), '0') = $1 ORDER BY id";
        let rows: Vec<(EventId, Vec<u8>)> = sqlx::query_as(sql).bind(project).fetch_all(db).await.unwrap();
        let entries = rows.into_iter().map(|(id, payload)| (id, serde_json::from_slice::<Value>(&payload).unwrap()));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        entries
            .map(|(id, entry)| Self { id, action: text(&entry["action"]), target: text(&entry["target"]["id"]), entry })
            .collect()
    }

    /// Whether `event` has exactly the content of the entry.
    pub fn is_recorded_by(&self, event: &Value) -> bool {
        let entry = &self.entry;
        let mut expected = json!({
            "specversion": "1.0",
            "id": self.id.to_string(),
            "type": entry["action"],
            // Each server here has its own address.
            "source": event["source"],
            "subject": entry["target"]["id"],
            "time": entry["occurred_at"],
            "traceparent": entry["traceparent"],
            "datacontenttype": "application/json",
            "data": {
                "action": entry["action"],
                "actor": entry["actor"],
                "target": entry["target"],
                "changes": entry["changes"],
                "request_id": entry["request_id"],
            },
        });
        // Absent members are left out.
        expected.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        let place = format!("/v1/projects/{}", entry["project_id"].as_str().unwrap_or_default());
        *event == expected && event["source"].as_str().is_some_and(|source| source.ends_with(&place))
    }
}
