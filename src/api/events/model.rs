//! Format of an event: CloudEvents 1.0 in structured JSON, the same in lists, in streams and for webhooks.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::{
    audit::model::{Actor, Changes, Target},
    base::{
        action::{Action, Recorded},
        error::{Code, Error, ItemCode, Result},
        id::{AuditId, EventId, ProjectId, RequestId},
        input::{page::ListQuery, schema::input},
        runtime::clock::Timestamp,
    },
};

/// Retention period of events, by the time in their IDs.
pub const RETENTION: Duration = Duration::from_secs(7 * 24 * 3600);

/// Event in a project, as a CloudEvent.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Event {
    /// Version of CloudEvents.
    #[schemars(extend("const" = "1.0"))]
    pub specversion: &'static str,
    /// ID of the event. IDs increase in the order of events. An event that is delivered again has the same ID.
    pub id: EventId,
    /// Event type, in the form `thing.verb`. New types may be added.
    #[serde(rename = "type")]
    #[schemars(with = "EventType")]
    pub kind: String,
    /// URL of the project.
    #[schemars(extend("format" = "uri", "examples" = ["https://api.cloudapi.dev/v1/projects/proj_8f2c4"]))]
    pub source: String,
    /// ID of the object.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String", extend("examples" = ["key_7d1"]))]
    pub subject: Option<String>,
    /// Time of the action.
    pub time: Timestamp,
    /// Trace and span of the request that caused the event (CloudEvents extension for distributed tracing).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "String")]
    pub traceparent: Option<String>,
    /// Media type of `data`.
    #[schemars(extend("const" = "application/json"))]
    pub datacontenttype: &'static str,
    /// Details of the event.
    pub data: EventData,
}

/// Details of an event.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EventData {
    /// Action, equal to the event type.
    #[schemars(with = "EventType")]
    pub action: String,
    /// Actor.
    pub actor: Actor,
    /// Object of the action.
    pub target: Option<Target>,
    /// Members of a new object, or `[old, new]` for each changed member.
    #[schemars(with = "std::collections::BTreeMap<String, serde_json::Value>")]
    pub changes: Changes,
    /// ID of the request; null if no request caused the event.
    pub request_id: Option<RequestId>,
}

/// Members of a sealed entry that an event contains.
#[derive(Deserialize)]
struct Entry {
    action: String,
    actor: Actor,
    changes: Changes,
    id: AuditId,
    occurred_at: Timestamp,
    project_id: Option<ProjectId>,
    request_id: Option<RequestId>,
    target: Option<Target>,
    traceparent: Option<String>,
}

impl Event {
    /// Converts a sealed entry to an event of the server at `public_url`. The client's address and user agent are
    /// omitted; they are only in the trail.
    pub fn from_payload(payload: &[u8], public_url: &str) -> serde_json::Result<Self> {
        let entry: Entry = serde_json::from_slice(payload)?;
        let source = match entry.project_id {
            Some(project) => format!("{public_url}/v1/projects/{project}"),
            None => public_url.to_owned(),
        };
        Ok(Self {
            specversion: "1.0",
            id: EventId::from_u128(entry.id.as_u128()),
            kind: entry.action.clone(),
            source,
            subject: entry.target.as_ref().map(|target| target.id.clone()),
            time: entry.occurred_at,
            traceparent: entry.traceparent,
            datacontenttype: "application/json",
            data: EventData {
                action: entry.action,
                actor: entry.actor,
                target: entry.target,
                changes: entry.changes,
                request_id: entry.request_id,
            },
        })
    }

    /// JSON in one line.
    pub fn to_json(&self) -> String {
        // Cannot fail: all map keys are strings.
        serde_json::to_string(self).unwrap_or_default()
    }
}

/// Action that is published as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct EventType(pub Action);

impl<'de> Deserialize<'de> for EventType {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let action = text.parse().ok().filter(|action: &Action| action.recorded() == Recorded::Event);
        action.map(Self).ok_or_else(|| de::Error::custom("not an event type"))
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl JsonSchema for EventType {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "EventType".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let all = Action::names(Action::events());
        json_schema!({ "type": "string", "description": "Event type.", "enum": all })
    }
}

/// Filter for the list and the stream of events.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct EventFilter {
    /// Project ID. Required with a session, which can see several projects.
    pub project_id: Option<String>,
    /// Event type.
    #[serde(rename = "type")]
    pub kind: Option<EventType>,
}

input!(ListQuery<EventFilter>, EventFilter);

/// ID before all events that are kept at `now`.
pub fn oldest_retained(now: Timestamp) -> EventId {
    EventId::min_at(u64::try_from(now.minus(RETENTION).unix_millis()).unwrap_or(0))
}

/// Rejects a position that is older than the retention period, because events after it may have been removed.
pub fn require_retained(from: EventId, now: Timestamp, name: &'static str) -> Result<()> {
    if from >= oldest_retained(now) {
        return Ok(());
    }
    let detail = format!(
        "Events are kept for {} days, and '{name}' is older; reload the current state, then start over without it",
        RETENTION.as_secs() / 86_400
    );
    let error = Error::new(Code::CursorExpired, detail);
    Err(if name == "cursor" { error.at_parameter(name, ItemCode::OutOfRange) } else { error })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const PAYLOAD: &[u8] = br#"{"action":"key.created","actor":{"credential_id":"sess_5b1","id":"usr_8f2","type":"user"},"changes":{"name":"CI"},"id":"aud_4d2","occurred_at":"2026-03-01T00:00:00.000Z","outcome":"success","project_id":"proj_8f2c4","request_id":"req_9c0e1","seq":7,"source_ip":"192.0.2.1","target":{"id":"key_7d1","type":"key"},"traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","user_agent":"curl/8"}"#;

    #[test]
    fn event_contains_its_entry_without_the_client_address_and_user_agent() {
        let event = Event::from_payload(PAYLOAD, "https://api.example.com").unwrap();
        let expected = json!({
            "specversion": "1.0",
            "id": "evt_4d2",
            "type": "key.created",
            "source": "https://api.example.com/v1/projects/proj_8f2c4",
            "subject": "key_7d1",
            "time": "2026-03-01T00:00:00.000Z",
            "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "datacontenttype": "application/json",
            "data": {
                "action": "key.created",
                "actor": { "credential_id": "sess_5b1", "id": "usr_8f2", "type": "user" },
                "target": { "id": "key_7d1", "type": "key" },
                "changes": { "name": "CI" },
                "request_id": "req_9c0e1",
            },
        });
        assert_eq!(serde_json::from_str::<Value>(&event.to_json()).unwrap(), expected);
        assert!(!event.to_json().contains('\n'));
    }

    #[test]
    fn position_older_than_seven_days_is_rejected() {
        let now = Timestamp::parse("2026-03-08T00:00:00Z").unwrap();
        let at = |text: &str| EventId::min_at(Timestamp::parse(text).unwrap().unix_millis().try_into().unwrap());
        assert!(require_retained(at("2026-03-01T00:00:00Z"), now, "cursor").is_ok());
        let error = require_retained(at("2026-02-28T23:59:59.999Z"), now, "cursor").unwrap_err();
        assert_eq!(error.code(), Code::CursorExpired);
    }
}
