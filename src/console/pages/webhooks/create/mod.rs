//! `/console/projects/{project_id}/webhooks/new`: creates a webhook and shows its secret.

use askama::Template;
use axum::{extract::Path, routing::MethodRouter};

use super::{
    fields::{self, WebhookFields},
    issued,
};
use crate::{
    api::webhooks::model::IssuedWebhook,
    base::id::ProjectId,
    console::{
        Console,
        browser::Visit,
        client::Call,
        forms::{Form, Hidden, Summary},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/webhooks/create/create.html")]
struct Create {
    action: String,
    back: String,
    hidden: Hidden,
    summary: Summary,
    fields: WebhookFields,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>) -> PageResult {
    page(&visit, project, &visit.form(fields::of_new()))
}

async fn submit(visit: Visit, Path(project): Path<ProjectId>) -> PageResult {
    let form = match fields::checked(visit.submitted()) {
        Ok(form) => form,
        Err(form) => return page(&visit, project, &form),
    };
    match visit.api.send::<IssuedWebhook>(call(project, &form)).await {
        Ok(issued) => issued::page(&visit, &issued, "Webhook created"),
        Err(fault) => page(&visit, project, &fields::rejected(form, fault)?),
    }
}

fn call(project: ProjectId, form: &Form) -> Call {
    let mut body = fields::body(form);
    // What is the default is left out.
    body.retain(|_, value| *value != "" && *value != true && value.as_array().is_none_or(|types| !types.is_empty()));
    body.insert("project_id".into(), project.to_string().into());
    body.entry("url").or_insert_with(|| "".into());
    Call::post("/v1/webhooks").body(body.into()).once(form.once())
}

fn page(visit: &Visit, project: ProjectId, form: &Form) -> PageResult {
    let list = super::list_path(project);
    let page = Create {
        action: format!("{list}/new"),
        back: list.clone(),
        hidden: form.hidden(),
        summary: form.summary(),
        fields: WebhookFields::new(form),
    };
    let builder = visit.page("Create a webhook").project(project).crumb("Webhooks", list);
    builder.form(form).call(call(project, form)).show(&page)
}
