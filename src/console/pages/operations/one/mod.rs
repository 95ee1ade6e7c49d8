//! `/console/projects/{project_id}/operations/{operation_id}`: one operation.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use super::{attempts, badge, title, tone};
use crate::{
    base::id::{OperationId, ProjectId},
    console::{
        Console,
        browser::Visit,
        client::Call,
        components::{
            live::Live,
            secret::Copy,
            status::{Badge, Tone},
            text::words,
            time::{When, span},
            timeline::{Step, Steps},
        },
        pages::resources::{self, kind_name},
        view::PageResult,
    },
    resources::api::model::{OperationView, ResourceView},
};

#[derive(Template)]
#[template(path = "pages/operations/one/one.html")]
struct One {
    path: String,
    title: String,
    badge: Badge,
    live: Live,
    id: Copy,
    resource: Option<(String, String, String)>,
    may_cancel: bool,
    is_open: bool,
    steps: Steps,
    created: When,
    finished: Option<When>,
    took: Option<String>,
    operation: OperationView,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, OperationId)>) -> PageResult {
    let operation = super::get(&visit, project, id).await?.body;
    let call = Call::get(format!("/v1/resources/{}", operation.resource_id));
    // Resources are forgotten 30 days after they were deleted.
    let (found, allowed) = tokio::join!(visit.api.send_unrecorded::<ResourceView>(&call), visit.scopes(project));
    let (resource, allowed) = (found.ok().map(|found| found.body), allowed?);
    let is_open = operation.finished_at.is_none();
    let may_write = resource.as_ref().is_some_and(|resource| allowed.contains(resource.kind.write_scope()));
    let page = One {
        path: super::path(project, id),
        title: title(&operation),
        badge: badge(&operation),
        live: Live::new(project)
            .types(["resource.*", "operation.*"])
            .subjects([id.to_string(), operation.resource_id.to_string()]),
        id: Copy::new(id.to_string(), "the operation ID"),
        resource: resource
            .map(|resource| (resources::path(project, resource.id), resource.name, kind_name(resource.kind))),
        may_cancel: is_open && may_write,
        is_open,
        steps: Steps { entries: steps(&visit, &operation) },
        created: visit.when(operation.created_at),
        finished: operation.finished_at.map(|time| visit.when(time)),
        took: operation.finished_at.map(|end| {
            let time = operation.created_at.until(end);
            if time.as_secs() < 10 { format!("{:.1} seconds", time.as_secs_f64()) } else { span(time.as_secs()) }
        }),
        operation,
    };
    let builder = visit.page(page.title.clone()).project(project).crumb("Resources", resources::list_path(project));
    let builder = match &page.resource {
        Some((path, name, _)) => builder.crumb(name.clone(), path.clone()),
        None => builder,
    };
    builder.show(&page)
}

/// What happened: accepted, the current step, and the end.
fn steps(visit: &Visit, operation: &OperationView) -> Vec<Step> {
    let step = |tone: Tone, title: &str| Step {
        tone,
        title: title.to_owned(),
        path: None,
        badge: None,
        progress: None,
        text: None,
        when: None,
    };
    let mut all = vec![Step { when: Some(visit.when(operation.created_at)), ..step(Tone::Good, "Accepted") }];
    match operation.finished_at {
        None => all.push(Step {
            progress: Some(operation.progress),
            text: (operation.attempt > 0).then(|| attempts(operation)),
            ..step(Tone::Neutral, &words(&operation.step))
        }),
        Some(end) => all.push(Step {
            text: operation.error.as_ref().map(|error| error.detail.clone()),
            when: Some(visit.when(end)),
            ..step(tone(operation), &words(operation.status.as_str()))
        }),
    }
    all
}
