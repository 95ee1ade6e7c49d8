//! `/console/projects/{project_id}/tokens/new`: creates a token and shows its secret.

use askama::Template;
use axum::{extract::Path, routing::MethodRouter};

use super::issued;
use crate::{
    api::tokens::model::IssuedToken,
    base::{id::ProjectId, identity::scope::ScopeSet},
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        components::scopes::{PRESET, ScopePicker, requested_scopes},
        forms::{Body, Choice, Field, Form, Hidden, Summary},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/tokens/create/create.html")]
struct Create {
    back: String,
    hidden: Hidden,
    summary: Summary,
    name: Field,
    scopes: ScopePicker,
    lifetime: Field,
}

/// Choices of the lifetime, in seconds.
const LIFETIMES: [(&str, &str); 6] = [
    ("3600", "1 hour"),
    ("86400", "1 day"),
    ("604800", "7 days"),
    ("2592000", "30 days"),
    ("7776000", "90 days"),
    ("31536000", "One year"),
];

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>) -> PageResult {
    let allowed = visit.scopes(project).await?;
    let form = visit.form(Fields::default().with(PRESET, "read").with("expires_in", "2592000"));
    page(&visit, project, allowed, &form)
}

async fn submit(visit: Visit, Path(project): Path<ProjectId>) -> PageResult {
    let form = visit.submitted();
    let allowed = visit.scopes(project).await?;
    match visit.api.send::<IssuedToken>(call(project, allowed, &form)).await {
        Ok(issued) => issued::page(&visit, &issued),
        Err(fault) => page(&visit, project, allowed, &form.rejected(fault, &[])?),
    }
}

fn call(project: ProjectId, allowed: ScopeSet, form: &Form) -> Call {
    let body = Body::of(form)
        .set("project_id", project.to_string())
        // An empty name is sent, so that the API says that one is needed.
        .set("name", form.value("name"))
        .set("scopes", requested_scopes(form, allowed))
        .number("expires_in");
    Call::post("/v1/tokens").body(body.build()).once(form.once())
}

fn page(visit: &Visit, project: ProjectId, allowed: ScopeSet, form: &Form) -> PageResult {
    let list = super::list_path(project);
    let lifetimes = LIFETIMES.map(|(value, label)| Choice::new(value, label)).into();
    let page = Create {
        hidden: form.hidden(),
        summary: form.summary(),
        name: form
            .text("name", "Name")
            .hint("The service that uses the token, such as “nightly report”.")
            .max(100)
            .required()
            .focused(),
        scopes: ScopePicker::new(form, allowed)
            .hint("Give the token only what its service needs. A token cannot be changed later."),
        lifetime: form.select("expires_in", "Works for", lifetimes),
        back: list.clone(),
    };
    let builder = visit.page("Create a token").project(project).crumb("Tokens", list).form(form);
    builder.call(call(project, allowed, form)).show(&page)
}
