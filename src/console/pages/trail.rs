//! What happened to an object, from the audit trail.

use serde::Deserialize;

use crate::{
    base::{action::Action, id::ProjectId, identity::scope::Scope, runtime::clock::Timestamp},
    console::{
        browser::Visit,
        client::{Call, Fault, List},
        components::{
            list::{Timeline, TimelineEntry},
            status::Tone,
        },
    },
};

/// Number of entries.
const ENTRIES: usize = 10;

/// Entry of the audit trail. Parts of a redacted entry are null.
#[derive(Deserialize)]
struct Entry {
    occurred_at: Option<Timestamp>,
    action: Option<String>,
    outcome: Option<String>,
    actor: Option<Actor>,
    actor_name: Option<String>,
}

#[derive(Deserialize)]
struct Actor {
    id: Option<String>,
    #[serde(rename = "type")]
    kind: String,
}

/// The latest entries about an object. `None` if the person may not read the trail.
pub async fn of(visit: &Visit, project: ProjectId, target: &str) -> Result<Option<Timeline>, Fault> {
    if !visit.scopes(project).await?.contains(Scope::AuditRead) {
        return Ok(None);
    }
    let call = Call::get("/v1/audit-logs").query("project_id", project).query("target", target);
    let call = call.query("order", "desc").query("limit", ENTRIES);
    let found = visit.api.send::<List<Entry>>(call).await?.body;
    Ok(Some(Timeline { entries: found.data.into_iter().filter_map(|entry| line(visit, entry)).collect() }))
}

/// What happened, in words: "A key was created". An action of a newer server stays as it is.
pub fn sentence(action: &str) -> String {
    let known: Result<Action, _> = action.parse();
    // Descriptions of some actions also say what comes next.
    let first = |text: &str| text.split(';').next().unwrap_or_default().trim_end_matches('.').to_owned();
    known.map_or_else(|_| action.to_owned(), |action| first(action.description()))
}

fn line(visit: &Visit, entry: Entry) -> Option<TimelineEntry> {
    let was_refused = entry.outcome.as_deref().is_some_and(|outcome| outcome != "success");
    let actor = entry.actor.map(|actor| actor.id.unwrap_or(actor.kind));
    Some(TimelineEntry {
        tone: if was_refused { Tone::Bad } else { Tone::Neutral },
        title: entry.action.as_deref().map_or_else(|| "Redacted".into(), sentence),
        text: entry.actor_name.or(actor).map(|actor| format!("by {actor}")),
        when: visit.when(entry.occurred_at?),
    })
}
