//! `/console/projects/{project_id}/keys/{key_id}/revoke`: revokes a key, after its name was typed.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::Value;

use crate::{
    base::id::{KeyId, ProjectId},
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        components::time::When,
        forms::{Field, Form, Hidden, Summary},
        pages::tokens::issuer,
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/keys/revoke/revoke.html")]
struct Revoke {
    path: String,
    name: String,
    hidden: Hidden,
    summary: Summary,
    confirmation: Field,
    last_used: Option<When>,
    /// How many tokens it has issued.
    tokens: Option<String>,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, KeyId)>) -> PageResult {
    let form = visit.form(Fields::default());
    page(&visit, project, id, &form).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, KeyId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    let name = super::name(&super::get(&visit, project, id).await?.body);
    if !form.is_confirmed(&name) {
        let form = form.unconfirmed("name of the key");
        return Ok(page(&visit, project, id, &form).await?.into_response());
    }
    match visit.api.send::<Value>(call(id)).await {
        Ok(_) => {
            let text = format!("The key “{name}” is revoked. It and its tokens no longer work on any server.");
            Ok(Redirected::to(super::path(project, id)).message(&visit, &text).into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, id, &form).await?.into_response())
        }
    }
}

fn call(id: KeyId) -> Call {
    Call::delete(format!("/v1/keys/{id}"))
}

async fn page(visit: &Visit, project: ProjectId, id: KeyId, form: &Form) -> PageResult {
    let key = super::get(visit, project, id).await?.body;
    let page = Revoke {
        path: super::path(project, id),
        name: super::name(&key),
        hidden: form.hidden(),
        summary: form.summary(),
        confirmation: form.confirmation("name of the key").focused(),
        last_used: key.last_used_at.map(|time| visit.when(time)),
        tokens: issuer::count(visit, project, &id.to_string()).await?,
    };
    let builder = visit.page("Revoke the key").project(project).crumb("Keys", super::list_path(project));
    builder.crumb(page.name.clone(), page.path.clone()).form(form).call(call(id)).show(&page)
}
