//! Schemas and examples of `data.changes` in events about users.

use serde_json::{Value, json};

use super::model::Member;
use crate::{
    base::{action::Action, id},
    http::event_schema::{EventSchema, created, deleted, deleted_values, updated},
};

/// Changes in events of this type, or `None` if it is not an event about users.
pub fn schema_of(action: Action) -> Option<EventSchema> {
    let of = |schema, example| Some(EventSchema::new::<id::User>(schema, example));
    match action {
        Action::UserInvited => of(created::<Member>, || user("invited")),
        Action::UserJoined => {
            of(updated::<Member>, || json!({ "id": ["usr_3e7", "usr_8f2"], "status": ["invited", "active"] }))
        }
        Action::UserUpdated => of(updated::<Member>, || json!({ "role": ["member", "admin"] })),
        Action::UserRemoved => of(deleted::<Member>, || deleted_values(user("active"))),
        _ => None,
    }
}

fn user(status: &str) -> Value {
    json!({
        "id": "usr_8f2",
        "email": "ada@example.com",
        "role": "admin",
        "status": status,
        "created_at": "2026-03-01T00:00:00.000Z",
    })
}
