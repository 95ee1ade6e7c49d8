//! `/console/projects/{project_id}/keys/new`: creates a key and shows its secret.

use askama::Template;
use axum::{extract::Path, routing::MethodRouter};

use super::{
    fields::{self, KeyFields},
    issued,
};
use crate::{
    api::keys::model::IssuedKey,
    base::{id::ProjectId, identity::scope::ScopeSet},
    console::{
        Console,
        browser::Visit,
        client::Call,
        forms::{Form, Hidden, Summary},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/keys/create/create.html")]
struct Create {
    action: String,
    back: String,
    hidden: Hidden,
    summary: Summary,
    fields: KeyFields,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>) -> PageResult {
    let allowed = visit.scopes(project).await?;
    page(&visit, project, allowed, &visit.form(fields::of_new()))
}

async fn submit(visit: Visit, Path(project): Path<ProjectId>) -> PageResult {
    let form = visit.submitted();
    let allowed = visit.scopes(project).await?;
    match visit.api.send::<IssuedKey>(call(&visit, project, allowed, &form)).await {
        Ok(issued) => issued::page(&visit, &issued, "Key created"),
        Err(fault) => page(&visit, project, allowed, &form.rejected(fault, &fields::NAMES)?),
    }
}

fn call(visit: &Visit, project: ProjectId, allowed: ScopeSet, form: &Form) -> Call {
    let mut body = fields::body(visit.now, allowed, form);
    body.insert("project_id".into(), project.to_string().into());
    // A new key has no value to clear.
    body.retain(|_, value| !value.is_null() && value.as_array().is_none_or(|list| !list.is_empty()));
    if !body.contains_key("scopes") {
        // Without scopes, the API would choose some. It has to say that one is needed.
        body.insert("scopes".into(), serde_json::json!([]));
    }
    Call::post("/v1/keys").body(body.into()).once(form.once())
}

fn page(visit: &Visit, project: ProjectId, allowed: ScopeSet, form: &Form) -> PageResult {
    let list = super::list_path(project);
    let page = Create {
        action: format!("{list}/new"),
        back: list.clone(),
        hidden: form.hidden(),
        summary: form.summary(),
        fields: KeyFields::new(form, allowed, None),
    };
    let call = call(visit, project, allowed, form);
    visit.page("Create a key").project(project).crumb("Keys", list).form(form).call(call).show(&page)
}
