//! `/console/projects/{project_id}/audit/{entry_id}`: one entry, with what it changed.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};
use serde_json::{Map, Value};

use super::{Entry, Named};
use crate::{
    base::{
        action::Action,
        id::{AuditId, ProjectId},
    },
    console::{
        Console,
        browser::Visit,
        components::{
            diff::Diff,
            secret::Copy,
            status::{Badge, Tone},
            time::When,
        },
        view::{Failure, PageResult},
    },
};

#[derive(Template)]
#[template(path = "pages/audit/entry/entry.html")]
struct Page {
    title: String,
    /// Meaning of the action, if this version knows it.
    meaning: Option<&'static str>,
    outcome: Option<Badge>,
    id: Copy,
    when: Option<When>,
    actor: Named,
    actor_kind: String,
    credential: Option<Named>,
    target: Option<Named>,
    target_kind: String,
    /// Links to the other entries about these.
    of_actor: Option<String>,
    of_target: Option<String>,
    diff: Option<Diff>,
    entry: Entry,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, AuditId)>) -> PageResult {
    let entry = visit.api.get::<Entry>(format!("/v1/audit-logs/{id}")).await?.body;
    // The address has the wrong project.
    if entry.project_id != Some(project) {
        return Err(Failure::not_found());
    }
    let list = super::path(project);
    let credential = entry.actor.as_ref().and_then(|actor| {
        let credential = actor.credential_id.as_deref().filter(|id| actor.id.as_deref() != Some(id))?;
        Some(Named::new(project, credential, None))
    });
    let diff =
        entry.changes.as_ref().map(|changes| diff(&entry.action(), changes)).filter(|diff| !diff.rows.is_empty());
    let page = Page {
        title: entry.action(),
        meaning: entry.action().parse::<Action>().ok().map(Action::description),
        outcome: entry.refusal().or_else(|| entry.outcome.as_deref().map(|_| Badge::new(Tone::Good, "Success"))),
        id: Copy::new(entry.id.clone(), "the entry ID"),
        when: entry.occurred_at.map(|time| visit.when(time)),
        actor: entry.actor(project),
        actor_kind: (entry.actor.as_ref().filter(|actor| actor.id.is_some()))
            .map(|actor| actor.kind.clone())
            .unwrap_or_default(),
        credential,
        target: entry.target(project),
        target_kind: entry.target.as_ref().map(|target| target.kind.clone()).unwrap_or_default(),
        of_actor: (entry.actor.as_ref().and_then(|actor| actor.id.as_ref()))
            .map(|id| format!("{list}?actor={}", crate::console::client::call::encode(id))),
        of_target: entry
            .target
            .as_ref()
            .map(|target| format!("{list}?target={}", crate::console::client::call::encode(&target.id))),
        diff,
        entry,
    };
    visit.page(page.title.clone()).project(project).crumb("Audit log", list).show(&page)
}

/// What an entry changed: `[old, new]` of each changed member, or the members of a new object.
fn diff(action: &str, changes: &Map<String, Value>) -> Diff {
    let is_new = action.ends_with(".created");
    let (mut before, mut after) = (Map::new(), Map::new());
    for (name, value) in changes {
        match value.as_array().map(Vec::as_slice) {
            Some([old, new]) if !is_new => {
                flatten(name, old, &mut before);
                flatten(name, new, &mut after);
            }
            _ => flatten(name, value, &mut after),
        }
    }
    Diff::between(&before.into(), &after.into())
}

/// Members of objects as members of their own, so that a change of one of them is one line.
fn flatten(name: &str, value: &Value, into: &mut Map<String, Value>) {
    match value {
        Value::Object(members) => {
            for (member, value) in members {
                flatten(&format!("{name}.{member}"), value, into);
            }
        }
        Value::Null => {}
        value => {
            into.insert(name.to_owned(), value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rows(action: &str, changes: Value) -> Vec<(String, Option<String>, Option<String>)> {
        let rows = diff(action, changes.as_object().unwrap()).rows.into_iter();
        rows.map(|row| (row.member, row.before, row.after)).collect()
    }

    #[test]
    fn changed_members_have_both_values_and_new_objects_one() {
        let text = |text: &str| Some(text.to_owned());
        let changed = json!({ "name": ["a", "b"], "metadata": [{ "x": "1", "y": "2" }, { "x": "1", "z": "3" }] });
        let expected = vec![
            ("metadata.y".to_owned(), text("2"), None),
            ("name".to_owned(), text("a"), text("b")),
            ("metadata.z".to_owned(), None, text("3")),
        ];
        assert_eq!(rows("project.updated", changed), expected);
        let created = json!({ "name": "a", "scopes": ["keys:read", "keys:write"], "expires_at": null });
        let expected = vec![
            ("name".to_owned(), None, text("a")),
            ("scopes".to_owned(), None, text(r#"["keys:read","keys:write"]"#)),
        ];
        assert_eq!(rows("key.created", created), expected);
        assert_eq!(rows("key.revoked", json!({ "status": ["active", "revoked"] })).len(), 1);
    }
}
