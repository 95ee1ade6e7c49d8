//! `/console/projects/{project_id}/resources/{resource_id}/sync`: compares a resource with its object at the provider, or
//! restores the object.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::{Map, Value, json};

use super::list_path;
use crate::{
    base::id::{ProjectId, ResourceId},
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::Call,
        components::diff::Diff,
        forms::{Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
    resources::api::{
        input::AcceptedOperation,
        model::{ConditionType, ResourceView},
    },
};

#[derive(Template)]
#[template(path = "pages/resources/sync/sync.html")]
struct Sync {
    path: String,
    name: String,
    remediate: bool,
    is_missing: bool,
    hidden: Hidden,
    summary: Summary,
    diff: Diff,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(
    visit: Visit,
    Path((project, id)): Path<(ProjectId, ResourceId)>,
    PageQuery(query): PageQuery,
) -> PageResult {
    let form = visit.form(query);
    page(&visit, project, id, &form).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, ResourceId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    match visit.api.send::<AcceptedOperation>(call(id, &form)).await {
        Ok(_) => {
            let text = if remediates(&form) {
                "What you asked for is being restored."
            } else {
                "The provider is being asked."
            };
            Ok(Redirected::to(super::path(project, id)).message(&visit, text).into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, id, &form).await?.into_response())
        }
    }
}

fn remediates(form: &Form) -> bool {
    form.value("remediate") == "true"
}

fn call(id: ResourceId, form: &Form) -> Call {
    let body = if remediates(form) { json!({ "remediate": true }) } else { json!({}) };
    Call::post(format!("/v1/resources/{id}/sync")).body(body).once(form.once())
}

/// What remediation changes at the provider: from what was observed to what was requested.
fn changes(resource: &ResourceView) -> Map<String, Value> {
    let drifted = resource.status.conditions.iter().filter_map(|condition| condition.difference.as_ref());
    let value = |pair: &Value, index: usize| pair.get(index).cloned().unwrap_or_default();
    drifted.flatten().map(|(name, pair)| (name.clone(), json!([value(pair, 1), value(pair, 0)]))).collect()
}

async fn page(visit: &Visit, project: ProjectId, id: ResourceId, form: &Form) -> PageResult {
    let resource = super::get(visit, project, id).await?.body;
    let page = Sync {
        path: super::path(project, id),
        name: resource.name.clone(),
        remediate: remediates(form),
        is_missing: resource.status.conditions.iter().any(|condition| condition.kind == ConditionType::Missing),
        hidden: form.hidden(),
        summary: form.summary(),
        diff: Diff::of_changes(&changes(&resource)).named("Now", "After"),
    };
    let title = if page.remediate { "Restore the resource" } else { "Compare with the provider" };
    let builder = visit.page(title).project(project).crumb("Resources", list_path(project));
    builder.crumb(resource.name, page.path.clone()).form(form).call(call(id, form)).show(&page)
}
