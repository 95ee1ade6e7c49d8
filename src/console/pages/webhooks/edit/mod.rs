//! `/console/projects/{project_id}/webhooks/{webhook_id}/edit`: changes a webhook.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::Value;

use super::fields::{self, WebhookFields};
use crate::{
    base::id::{ProjectId, WebhookId},
    console::{
        Console,
        browser::Visit,
        client::Call,
        forms::{Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/webhooks/edit/edit.html")]
struct Edit {
    path: String,
    hidden: Hidden,
    summary: Summary,
    fields: WebhookFields,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, WebhookId)>) -> PageResult {
    page(&visit, project, id, None).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, WebhookId)>) -> Result<Response, Failure> {
    let form = match fields::checked(visit.submitted()) {
        Ok(form) => form,
        Err(form) => return Ok(page(&visit, project, id, Some(form)).await?.into_response()),
    };
    super::get(&visit, project, id).await?;
    match visit.api.send::<Value>(call(id, &form)).await {
        Ok(_) => {
            Ok(Redirected::to(super::path(project, id)).message(&visit, "The webhook is changed.").into_response())
        }
        Err(fault) => {
            let form = fields::rejected(form, fault)?;
            Ok(page(&visit, project, id, Some(form)).await?.into_response())
        }
    }
}

/// The change, unless somebody else changed the webhook since the form was opened.
fn call(id: WebhookId, form: &Form) -> Call {
    let body = fields::body(form);
    Call::patch(format!("/v1/webhooks/{id}")).body(body.into()).if_match(form.etag()).once(form.once())
}

async fn page(visit: &Visit, project: ProjectId, id: WebhookId, rejected: Option<Form>) -> PageResult {
    let found = super::get(visit, project, id).await?;
    let (webhook, etag) = (found.body, found.etag.unwrap_or_default());
    let form = rejected.unwrap_or_else(|| visit.form(fields::of_webhook(&webhook)));
    let page = Edit {
        path: super::path(project, id),
        hidden: form.hidden_for(&etag),
        summary: form.summary(),
        fields: WebhookFields::new(&form),
    };
    let builder = visit.page("Change the webhook").project(project).crumb("Webhooks", super::list_path(project));
    let call = call(id, &form).if_match(&etag);
    builder.crumb(super::name(&webhook), page.path.clone()).form(&form).call(call).show(&page)
}
