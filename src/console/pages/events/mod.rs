//! Events of a project: the latest ones, which follow what happens, and one event.

pub mod list;
pub mod one;
pub mod stream;

use serde::Deserialize;
use serde_json::Value;

use super::{objects::page_of, trail::sentence};
use crate::{
    base::{
        id::{EventId, ProjectId},
        runtime::clock::Timestamp,
    },
    console::{browser::Visit, components::time::When},
};

/// Path of the list.
pub fn list_path(project: ProjectId) -> String {
    format!("/console/projects/{project}/events")
}

/// Event of the API.
#[derive(Debug, Deserialize)]
pub struct Event {
    /// ID.
    pub id: EventId,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    subject: Option<String>,
    time: Timestamp,
    #[serde(default)]
    data: Data,
}

#[derive(Debug, Default, Deserialize)]
struct Data {
    #[serde(default)]
    changes: Value,
    #[serde(default)]
    actor: Actor,
}

#[derive(Debug, Default, Deserialize)]
struct Actor {
    #[serde(default)]
    id: Option<String>,
}

/// Event as a row of a list.
#[derive(Clone, Debug)]
pub struct Row {
    /// Page of the event.
    pub path: String,
    /// Type.
    pub kind: String,
    /// What happened, in words.
    pub text: String,
    /// Name or ID of the object.
    pub subject: Option<String>,
    /// Page of the object, if it has one.
    pub subject_path: Option<String>,
    /// ID of who did it, and the page, if it has one.
    pub actor: Option<(String, Option<String>)>,
    /// When.
    pub when: When,
}

impl Row {
    /// The row of an event.
    pub fn new(visit: &Visit, project: ProjectId, event: Event) -> Self {
        let actor = event.data.actor.id.map(|id| {
            let page = page_of(project, &id);
            (id, page)
        });
        Self {
            path: format!("{}/{}", list_path(project), event.id),
            text: sentence(&event.kind),
            subject_path: event.subject.as_ref().and_then(|subject| page_of(project, subject)),
            subject: name_in(&event.data.changes).or(event.subject),
            kind: event.kind,
            actor,
            when: visit.when(event.time),
        }
    }
}

/// Name of the object that an event is about: the new one, if it was changed.
fn name_in(changes: &Value) -> Option<String> {
    let name = ["name", "email", "url"].into_iter().find_map(|member| changes.get(member))?;
    let name = name.as_array().and_then(|change| change.last()).unwrap_or(name);
    name.as_str().filter(|name| !name.is_empty()).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn event_has_the_name_of_its_object() {
        assert_eq!(name_in(&json!({ "name": "ci" })).as_deref(), Some("ci"));
        assert_eq!(name_in(&json!({ "name": ["old", "new"] })).as_deref(), Some("new"));
        assert_eq!(name_in(&json!({ "email": "ada@example.com" })).as_deref(), Some("ada@example.com"));
        for nameless in [json!({ "name": "" }), json!({ "status": "active" }), json!(null), json!({ "name": [] })] {
            assert_eq!(name_in(&nameless), None, "{nameless}");
        }
    }
}
