//! `/console/projects/{project_id}/events`: the events of a project, the newest first, as they happen.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use super::{Event, Row, list_path};
use crate::{
    base::{action::Action, id::ProjectId},
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::{Call, List},
        components::{
            list::Paging,
            live::{Live, LiveState},
            status::Empty,
        },
        forms::{Choice, Field, Form},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/events/list/list.html")]
struct Events {
    path: String,
    kind: Field,
    /// On the first page only: events are appended before it.
    live: Option<Live>,
    state: LiveState,
    rows: Vec<Row>,
    paging: Paging,
    is_filtered: bool,
    empty: Empty,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let kind = query.get("type");
    let cursor = query.get("cursor");
    let call = Call::get("/v1/events").query("project_id", project).query("type", kind);
    let call = call.query("order", "desc").query("limit", 50).query("cursor", cursor);
    let List { data, next_cursor } = visit.api.send::<List<Event>>(call).await?.body;
    let form = Form::new(query.clone());
    let kinds = Action::events().map(|action| Choice::new(action.as_str(), action.as_str()));
    let kinds = [Choice::new("", "Any type")].into_iter().chain(kinds).collect();
    // Events of other types can be newer, but those do not show up here.
    let newest = data.first().map(|event| event.id.to_string());
    let live = Live::new(project).types((!kind.is_empty()).then_some(kind)).after(newest.as_deref());
    let page = Events {
        path: list_path(project),
        kind: form.select("type", "Type", kinds),
        live: cursor.is_empty().then_some(live),
        state: LiveState,
        rows: data.into_iter().map(|event| Row::new(&visit, project, event)).collect(),
        paging: Paging::new(&visit, &query, &["type"], next_cursor.as_deref()),
        is_filtered: !kind.is_empty(),
        empty: if kind.is_empty() {
            Empty::new("No events yet", "What happens in this project shows up here at once, and is kept for 7 days.")
        } else {
            Empty::new("No event of this type", "Events are kept for 7 days. New ones show up here at once.")
        },
    };
    visit.page("Events").project(project).show(&page)
}
