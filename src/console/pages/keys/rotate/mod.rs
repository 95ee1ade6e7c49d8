//! `/console/projects/{project_id}/keys/{key_id}/rotate`: a new secret for a key. The previous one works for a while.

use askama::Template;
use axum::{extract::Path, routing::MethodRouter};
use serde_json::{Value, json};

use super::issued;
use crate::{
    api::keys::model::IssuedKey,
    base::id::{KeyId, ProjectId},
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::{Call, Reply},
        forms::{Choice, Field, Form, Hidden, Summary, body::number},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/keys/rotate/rotate.html")]
struct Rotate {
    path: String,
    name: String,
    hidden: Hidden,
    summary: Summary,
    overlap: Field,
}

/// Time that both secrets work.
const OVERLAPS: [(&str, &str); 5] = [
    ("3600", "1 hour"),
    ("86400", "1 day"),
    ("604800", "7 days"),
    ("300", "5 minutes"),
    ("0", "Not at all: the previous secret stops working now"),
];

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, KeyId)>) -> PageResult {
    let form = visit.form(Fields::default().with("overlap_seconds", "86400"));
    page(&visit, project, id, &form).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, KeyId)>) -> PageResult {
    let form = visit.submitted();
    match visit.api.send(call(id, &form)).await {
        Ok(issued) => {
            let issued: Reply<IssuedKey> = issued;
            issued::page(&visit, &issued, "Key rotated")
        }
        Err(fault) => page(&visit, project, id, &form.rejected(fault, &[])?).await,
    }
}

fn call(id: KeyId, form: &Form) -> Call {
    let overlap = number(form.value("overlap_seconds")).unwrap_or(Value::Null);
    Call::post(format!("/v1/keys/{id}/rotate")).body(json!({ "overlap_seconds": overlap })).once(form.once())
}

async fn page(visit: &Visit, project: ProjectId, id: KeyId, form: &Form) -> PageResult {
    let key = super::get(visit, project, id).await?.body;
    let overlaps = OVERLAPS.map(|(value, label)| Choice::new(value, label)).into();
    let page = Rotate {
        path: super::path(project, id),
        name: super::name(&key),
        hidden: form.hidden(),
        summary: form.summary(),
        overlap: form
            .select("overlap_seconds", "The previous secret works for another", overlaps)
            .hint("Long enough to deploy the new secret everywhere."),
    };
    let builder = visit.page("Rotate the key").project(project).crumb("Keys", super::list_path(project));
    builder.crumb(page.name.clone(), page.path.clone()).form(form).call(call(id, form)).show(&page)
}
