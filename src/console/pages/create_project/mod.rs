//! `/console/projects/new`: creates a project.

use askama::Template;
use axum::{
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::json;

use crate::{
    api::projects::model::Project,
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        forms::{
            Field, Form, Hidden, Summary,
            pairs::{self, Pairs},
        },
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/create_project/create_project.html")]
struct CreateProject {
    hidden: Hidden,
    summary: Summary,
    name: Field,
    metadata: Pairs,
    has_metadata: bool,
}

const METADATA: &str = "metadata";

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit) -> PageResult {
    page(&visit, &visit.form(Fields::default()))
}

async fn submit(visit: Visit) -> Result<Response, Failure> {
    let form = visit.submitted();
    let form = match call(&form) {
        Ok(call) => match visit.api.send::<Project>(call).await {
            Ok(created) => {
                let path = format!("/console/projects/{}", created.body.id);
                return Ok(Redirected::to(path).message(&visit, "The project is created. You own it.").into_response());
            }
            Err(fault) => form.rejected(fault, &[(METADATA, METADATA)])?,
        },
        Err(detail) => form.with_fault(METADATA, &detail),
    };
    Ok(page(&visit, &form)?.into_response())
}

fn call(form: &Form) -> Result<Call, String> {
    let body = json!({ "name": form.value("name"), METADATA: pairs::object(form, METADATA)? });
    Ok(Call::post("/v1/projects").body(body).once(form.once()))
}

fn page(visit: &Visit, form: &Form) -> PageResult {
    let metadata = "Your own data on the project, such as a cost center.";
    let page = CreateProject {
        hidden: form.hidden(),
        summary: form.summary(),
        name: form.text("name", "Name").hint("Such as the product or the team.").required().focused().max(100),
        metadata: Pairs::new(form, METADATA, "Metadata", metadata),
        has_metadata: !form.faults_of(METADATA).is_empty()
            || form.fields().all("metadata_name").any(|name| !name.is_empty()),
    };
    let builder = visit.page("Create a project").crumb("Projects", "/console").form(form);
    match call(form) {
        Ok(call) => builder.call(call).show(&page),
        Err(_) => builder.show(&page),
    }
}
