//! `/console/projects/{project_id}/keys/{key_id}/edit`: changes a key.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::Value;

use super::fields::{self, KeyFields};
use crate::{
    base::{
        id::{KeyId, ProjectId},
        identity::scope::ScopeSet,
    },
    console::{
        Console,
        browser::Visit,
        client::Call,
        forms::{Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/keys/edit/edit.html")]
struct Edit {
    path: String,
    hidden: Hidden,
    summary: Summary,
    fields: KeyFields,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, KeyId)>) -> PageResult {
    page(&visit, project, id, None).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, KeyId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    let allowed = visit.scopes(project).await?;
    match visit.api.send::<Value>(call(&visit, id, allowed, &form)).await {
        Ok(_) => Ok(Redirected::to(super::path(project, id)).message(&visit, "The key is changed.").into_response()),
        Err(fault) => {
            let form = form.rejected(fault, &fields::NAMES)?;
            Ok(page(&visit, project, id, Some(form)).await?.into_response())
        }
    }
}

/// The change, unless somebody else changed the key since the form was opened.
fn call(visit: &Visit, id: KeyId, allowed: ScopeSet, form: &Form) -> Call {
    let body = fields::body(visit.now, allowed, form);
    Call::patch(format!("/v1/keys/{id}")).body(body.into()).if_match(form.etag()).once(form.once())
}

async fn page(visit: &Visit, project: ProjectId, id: KeyId, rejected: Option<Form>) -> PageResult {
    let allowed = async { visit.scopes(project).await.map_err(Failure::from) };
    let (found, allowed) = tokio::try_join!(super::get(visit, project, id), allowed)?;
    let (key, etag) = (found.body, found.etag.unwrap_or_default());
    let form = rejected.unwrap_or_else(|| visit.form(fields::of_key(&key)));
    let keep = match key.expires_at {
        Some(end) => format!("Unchanged ({})", visit.when(end).text()),
        None => "Unchanged (never)".to_owned(),
    };
    let page = Edit {
        path: super::path(project, id),
        hidden: form.hidden_for(&etag),
        summary: form.summary(),
        fields: KeyFields::new(&form, allowed, Some(keep)),
    };
    let builder = visit.page("Change the key").project(project).crumb("Keys", super::list_path(project));
    let call = call(visit, id, allowed, &form).if_match(&etag);
    builder.crumb(super::name(&key), page.path.clone()).form(&form).call(call).show(&page)
}
