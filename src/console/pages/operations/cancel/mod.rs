//! `/console/projects/{project_id}/operations/{operation_id}/cancel`: cancels an operation.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::json;

use super::title;
use crate::{
    base::id::{OperationId, ProjectId},
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        forms::{Form, Hidden, Summary},
        pages::resources,
        view::{Failure, PageResult, Redirected},
    },
    resources::api::input::AcceptedOperation,
};

#[derive(Template)]
#[template(path = "pages/operations/cancel/cancel.html")]
struct Cancel {
    path: String,
    title: String,
    /// Whether the operation has ended.
    is_over: bool,
    hidden: Hidden,
    summary: Summary,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, OperationId)>) -> PageResult {
    let form = visit.form(Fields::default());
    page(&visit, project, id, &form).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, OperationId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    match visit.api.send::<AcceptedOperation>(call(id, &form)).await {
        Ok(_) => {
            let path = super::path(project, id);
            Ok(Redirected::to(path).message(&visit, "The operation is being canceled.").into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, id, &form).await?.into_response())
        }
    }
}

fn call(id: OperationId, form: &Form) -> Call {
    Call::post(format!("/v1/operations/{id}/cancel")).body(json!({})).once(form.once())
}

async fn page(visit: &Visit, project: ProjectId, id: OperationId, form: &Form) -> PageResult {
    let operation = super::get(visit, project, id).await?.body;
    let page = Cancel {
        path: super::path(project, id),
        title: title(&operation),
        is_over: operation.finished_at.is_some() && !form.is_rejected(),
        hidden: form.hidden(),
        summary: form.summary(),
    };
    let builder = visit.page("Cancel the operation").project(project).crumb("Resources", resources::list_path(project));
    builder.crumb(page.title.clone(), page.path.clone()).form(form).call(call(id, form)).show(&page)
}
