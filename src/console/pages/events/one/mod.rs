//! `/console/projects/{project_id}/events/{event_id}`: one event, as the API sends it.

use askama::Template;
use axum::{
    extract::Path,
    http::StatusCode,
    routing::{MethodRouter, get},
};
use serde::Deserialize;
use serde_json::Value;

use super::{Event, Row, list_path};
use crate::{
    base::id::{EventId, ProjectId},
    console::{
        Console,
        browser::Visit,
        client::{Call, List},
        components::secret::Copy,
        pages::objects::page_of,
        view::{Failure, PageResult},
    },
};

#[derive(Template)]
#[template(path = "pages/events/one/one.html")]
struct One {
    row: Row,
    id: Copy,
    /// Entry of the audit log, with the client's address.
    entry: Option<String>,
    json: String,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, EventId)>) -> PageResult {
    // The list has no page of one event: it is the newest one before the next ID.
    let next = EventId::from_u128(id.as_u128().saturating_add(1));
    let call = Call::get("/v1/events").query("project_id", project).query("order", "desc").query("limit", 1);
    let found = visit.api.send::<List<Value>>(call.query("cursor", next)).await;
    let found = match found {
        Ok(reply) => reply.body.data.into_iter().next(),
        // Events are kept for 7 days.
        Err(fault) if fault.status == StatusCode::GONE => None,
        Err(fault) => return Err(fault.into()),
    };
    let json = found.ok_or_else(Failure::not_found)?;
    let event = Event::deserialize(&json).map_err(Failure::internal)?;
    if event.id != id {
        return Err(Failure::not_found());
    }
    let page = One {
        row: Row::new(&visit, project, event),
        id: Copy::new(id.to_string(), "the event ID"),
        entry: page_of(project, &id.to_string().replacen("evt_", "aud_", 1)),
        json: serde_json::to_string_pretty(&json).map_err(Failure::internal)?,
    };
    visit.page(page.row.text.clone()).project(project).crumb("Events", list_path(project)).show(&page)
}
