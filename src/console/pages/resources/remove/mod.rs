//! `/console/projects/{project_id}/resources/{resource_id}/delete`: deletes a resource, after its name was typed.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::Value;

use super::{list_path, one::dependents::Dependents};
use crate::{
    base::id::{ProjectId, ResourceId},
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        forms::{Field, Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
    resources::api::input::AcceptedOperation,
};

#[derive(Template)]
#[template(path = "pages/resources/remove/remove.html")]
struct Remove {
    path: String,
    name: String,
    kind: String,
    provider: String,
    reference: Option<String>,
    dependents: Dependents,
    /// Why the API would refuse.
    obstacle: Option<String>,
    is_protected: bool,
    hidden: Hidden,
    summary: Summary,
    confirmation: Field,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, ResourceId)>) -> PageResult {
    let form = visit.form(Fields::default());
    page(&visit, project, id, &form).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, ResourceId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    let resource = super::get(&visit, project, id).await?.body;
    if !form.is_confirmed(&resource.name) {
        let form = form.unconfirmed("name of the resource");
        return Ok(page(&visit, project, id, &form).await?.into_response());
    }
    match visit.api.send::<AcceptedOperation>(call(id)).await {
        Ok(_) => {
            let text = format!("“{}” is being deleted.", resource.name);
            Ok(Redirected::to(super::path(project, id)).message(&visit, &text).into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, id, &form).await?.into_response())
        }
    }
}

fn call(id: ResourceId) -> Call {
    Call::delete(format!("/v1/resources/{id}"))
}

async fn page(visit: &Visit, project: ProjectId, id: ResourceId, form: &Form) -> PageResult {
    let resource = super::get(visit, project, id).await?.body;
    let check = call(id).query("dry_run", true);
    let (dependents, check) =
        tokio::join!(Dependents::of(visit, project, id), visit.api.send_unrecorded::<Value>(&check));
    let obstacle = match check {
        Ok(planned) if planned.body.get("plan").is_some() => None,
        // A repeated deletion is answered with the operation.
        Ok(_) => Some("The resource is deleted, or being deleted, already".to_owned()),
        Err(fault) if fault.is_about_input() => Some(fault.error.detail().to_owned()),
        Err(fault) => return Err(fault.into()),
    };
    let page = Remove {
        path: super::path(project, id),
        kind: super::kind_name(resource.kind).to_lowercase(),
        provider: resource.provider.clone(),
        reference: resource.status.provider_ref.clone(),
        dependents: dependents?,
        obstacle: obstacle.filter(|_| !form.is_rejected()),
        is_protected: resource.protection,
        hidden: form.hidden(),
        summary: form.summary(),
        confirmation: form.confirmation("name of the resource"),
        name: resource.name,
    };
    let builder = visit.page("Delete the resource").project(project).crumb("Resources", list_path(project));
    builder.crumb(page.name.clone(), page.path.clone()).form(form).call(call(id)).show(&page)
}
