//! `/console/projects/{project_id}/webhooks/{webhook_id}/delete`: deletes a webhook, after its host was typed.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::Value;

use crate::{
    api::webhooks::model::DeliveryView,
    base::id::{ProjectId, WebhookId},
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::{Call, List},
        forms::{Field, Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/webhooks/delete/delete.html")]
struct Delete {
    path: String,
    name: String,
    url: String,
    hidden: Hidden,
    summary: Summary,
    confirmation: Field,
    /// How many deliveries wait.
    waiting: String,
}

/// Number of deliveries that are counted.
const COUNTED: usize = 100;

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, WebhookId)>) -> PageResult {
    let form = visit.form(Fields::default());
    page(&visit, project, id, &form).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, WebhookId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    let name = super::name(&super::get(&visit, project, id).await?.body);
    if !form.is_confirmed(&name) {
        let form = form.unconfirmed("host of the webhook");
        return Ok(page(&visit, project, id, &form).await?.into_response());
    }
    match visit.api.send::<Value>(call(id)).await {
        Ok(_) => {
            let text = format!("The webhook to {name} is deleted.");
            Ok(Redirected::to(super::list_path(project)).message(&visit, &text).into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, id, &form).await?.into_response())
        }
    }
}

fn call(id: WebhookId) -> Call {
    Call::delete(format!("/v1/webhooks/{id}"))
}

async fn page(visit: &Visit, project: ProjectId, id: WebhookId, form: &Form) -> PageResult {
    let webhook = super::get(visit, project, id).await?.body;
    let waiting = Call::get(format!("/v1/webhooks/{id}/deliveries")).query("status", "pending").query("limit", COUNTED);
    let waiting = visit.api.send_unrecorded::<List<DeliveryView>>(&waiting).await?.body;
    let page = Delete {
        path: super::path(project, id),
        name: super::name(&webhook),
        url: webhook.url,
        hidden: form.hidden(),
        summary: form.summary(),
        confirmation: form.confirmation("host").focused(),
        waiting: match (waiting.data.len(), waiting.next_cursor) {
            (_, Some(_)) => format!("More than {COUNTED} deliveries wait. They are not sent."),
            (0, _) => "No delivery waits.".into(),
            (1, _) => "One delivery waits. It is not sent.".into(),
            (count, _) => format!("{count} deliveries wait. They are not sent."),
        },
    };
    let builder = visit.page("Delete the webhook").project(project).crumb("Webhooks", super::list_path(project));
    builder.crumb(page.name.clone(), page.path.clone()).form(form).call(call(id)).show(&page)
}
