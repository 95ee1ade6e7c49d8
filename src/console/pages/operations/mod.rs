//! Operations on resources.

pub mod cancel;
pub mod one;

use crate::{
    base::id::{OperationId, ProjectId},
    console::{
        browser::Visit,
        client::Reply,
        components::{
            status::{Badge, Tone},
            text::words,
            timeline::Step,
        },
        view::Failure,
    },
    resources::api::model::OperationView,
};

/// Path of an operation.
fn path(project: ProjectId, operation: OperationId) -> String {
    format!("/console/projects/{project}/operations/{operation}")
}

/// Gets an operation of this project.
async fn get(visit: &Visit, project: ProjectId, id: OperationId) -> Result<Reply<OperationView>, Failure> {
    visit.get_in(project, format!("/v1/operations/{id}"), |found: &OperationView| found.project_id).await
}

/// Title of an operation: "Create".
fn title(operation: &OperationView) -> String {
    words(operation.kind.as_str())
}

fn tone(operation: &OperationView) -> Tone {
    match operation.status.as_str() {
        "succeeded" => Tone::Good,
        "failed" => Tone::Bad,
        "canceled" => Tone::Warn,
        _ => Tone::Neutral,
    }
}

fn badge(operation: &OperationView) -> Badge {
    Badge::new(tone(operation), words(operation.status.as_str()))
}

/// The operation as a step of a resource's timeline.
pub fn step(visit: &Visit, operation: &OperationView) -> Step {
    let is_open = operation.finished_at.is_none();
    let attempts = (is_open && operation.attempt > 0).then(|| attempts(operation));
    let current = is_open.then(|| words(&operation.step));
    let text = match (&operation.error, attempts) {
        (Some(error), _) => Some(error.detail.clone()),
        (None, Some(attempts)) => Some(format!("{} {attempts}", current.unwrap_or_default())),
        (None, None) => current,
    };
    Step {
        tone: tone(operation),
        title: title(operation),
        path: Some(path(operation.project_id, operation.id)),
        badge: Some(badge(operation)),
        progress: is_open.then_some(operation.progress),
        text,
        when: Some(visit.when(operation.finished_at.unwrap_or(operation.created_at))),
    }
}

/// Failed attempts of the current step in words.
fn attempts(operation: &OperationView) -> String {
    match operation.attempt {
        1 => "(one attempt failed, the server tries again)".to_owned(),
        count => format!("({count} attempts failed, the server tries again)"),
    }
}
