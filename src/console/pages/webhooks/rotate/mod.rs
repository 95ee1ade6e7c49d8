//! `/console/projects/{project_id}/webhooks/{webhook_id}/rotate`: a new secret for a webhook. For a while, deliveries are
//! signed with both.

use askama::Template;
use axum::{extract::Path, routing::MethodRouter};
use serde_json::{Value, json};

use super::issued;
use crate::{
    api::webhooks::model::IssuedWebhook,
    base::id::{ProjectId, WebhookId},
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        components::time::When,
        forms::{Choice, Field, Form, Hidden, Summary, body::number},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/webhooks/rotate/rotate.html")]
struct Rotate {
    path: String,
    name: String,
    hidden: Hidden,
    summary: Summary,
    overlap: Field,
    /// Until when two secrets sign already.
    previous: Option<When>,
}

/// Time that both secrets sign.
const OVERLAPS: [(&str, &str); 4] = [
    ("3600", "1 hour"),
    ("86400", "1 day"),
    ("604800", "7 days"),
    ("0", "Not at all: only the new secret signs from now on"),
];

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, WebhookId)>) -> PageResult {
    page(&visit, project, id, None).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, WebhookId)>) -> PageResult {
    let form = visit.submitted();
    super::get(&visit, project, id).await?;
    match visit.api.send::<IssuedWebhook>(call(id, &form)).await {
        Ok(issued) => issued::page(&visit, &issued, "Secret rotated"),
        Err(fault) => page(&visit, project, id, Some(form.rejected(fault, &[])?)).await,
    }
}

fn call(id: WebhookId, form: &Form) -> Call {
    let overlap = number(form.value("overlap_seconds")).unwrap_or(Value::Null);
    Call::post(format!("/v1/webhooks/{id}/rotate-secret")).body(json!({ "overlap_seconds": overlap })).once(form.once())
}

async fn page(visit: &Visit, project: ProjectId, id: WebhookId, rejected: Option<Form>) -> PageResult {
    let webhook = super::get(visit, project, id).await?.body;
    let previous = webhook.previous_expires_at.filter(|end| *end > visit.now);
    // Of two overlaps at the same time, the API allows none.
    let first = if previous.is_some() { "0" } else { "86400" };
    let form = rejected.unwrap_or_else(|| visit.form(Fields::default().with("overlap_seconds", first)));
    let overlaps = OVERLAPS.map(|(value, label)| Choice::new(value, label)).into();
    let page = Rotate {
        path: super::path(project, id),
        name: super::name(&webhook),
        hidden: form.hidden(),
        summary: form.summary(),
        overlap: form
            .select("overlap_seconds", "Deliveries are signed with the previous secret for another", overlaps)
            .hint("Long enough to give the new secret to the receiver."),
        previous: previous.map(|end| visit.when(end)),
    };
    let builder = visit.page("Rotate the secret").project(project).crumb("Webhooks", super::list_path(project));
    builder.crumb(page.name.clone(), page.path.clone()).form(&form).call(call(id, &form)).show(&page)
}
