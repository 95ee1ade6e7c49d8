//! Schemas and examples of `data.changes` in events about projects.

use serde_json::{Value, json};

use super::model::Project;
use crate::{
    base::{action::Action, id},
    http::event_schema::{EventSchema, created, deleted, deleted_values, updated},
};

/// Changes in events of this type, or `None` if it is not an event about projects.
pub fn schema_of(action: Action) -> Option<EventSchema> {
    let of = |schema, example| Some(EventSchema::new::<id::Project>(schema, example));
    match action {
        Action::ProjectCreated => of(created::<Project>, project),
        Action::ProjectUpdated => of(updated::<Project>, || json!({ "name": ["Core", "Core Platform"] })),
        Action::ProjectSuspended => of(updated::<Project>, || json!({ "status": ["active", "suspended"] })),
        Action::ProjectResumed => of(updated::<Project>, || json!({ "status": ["suspended", "active"] })),
        Action::ProjectArchived => of(updated::<Project>, || json!({ "status": ["active", "archived"] })),
        Action::ProjectDeleted => of(deleted::<Project>, || deleted_values(project())),
        _ => None,
    }
}

fn project() -> Value {
    json!({
        "id": "proj_8f2c4",
        "name": "Core Platform",
        "status": "active",
        "metadata": {},
        "created_at": "2026-03-01T00:00:00.000Z",
    })
}
