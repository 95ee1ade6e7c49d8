//! `/console/projects/{project_id}/settings/delete`: deletes an archived project, after its name was typed.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::Value;

use super::status::consequences;
use crate::{
    api::overview::model::Overview,
    base::{id::ProjectId, identity::tenant::ProjectStatus},
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        forms::{Field, Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/settings/delete/delete.html")]
struct Delete {
    path: String,
    name: String,
    is_archived: bool,
    consequences: Vec<String>,
    hidden: Hidden,
    summary: Summary,
    confirmation: Field,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>) -> PageResult {
    let form = visit.form(Fields::default());
    page(&visit, project, &form).await
}

async fn submit(visit: Visit, Path(project): Path<ProjectId>) -> Result<Response, Failure> {
    let form = visit.submitted();
    let name = super::get(&visit, project).await?.body.name;
    if !form.is_confirmed(&name) {
        let form = form.unconfirmed("name of the project");
        return Ok(page(&visit, project, &form).await?.into_response());
    }
    match visit.api.send::<Value>(call(project)).await {
        Ok(_) => {
            let text = format!("The project “{name}” is deleted.");
            Ok(Redirected::to("/console").message(&visit, &text).into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, &form).await?.into_response())
        }
    }
}

fn call(project: ProjectId) -> Call {
    Call::delete(format!("/v1/projects/{project}"))
}

async fn page(visit: &Visit, project: ProjectId, form: &Form) -> PageResult {
    let overview = visit.api.get::<Overview>(format!("/v1/projects/{project}/overview")).await?.body;
    let page = Delete {
        path: super::path(project),
        is_archived: overview.status == ProjectStatus::Archived,
        consequences: consequences(&overview, "are removed"),
        name: overview.name,
        hidden: form.hidden(),
        summary: form.summary(),
        confirmation: form.confirmation("name of the project").focused(),
    };
    let builder = visit.page("Delete the project").project(project).crumb("Settings", super::path(project));
    builder.form(form).call(call(project)).show(&page)
}
