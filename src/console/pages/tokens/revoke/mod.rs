//! `/console/projects/{project_id}/tokens/{token_id}/revoke`: revokes a token, after its name was typed.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::Value;

use super::issuer;
use crate::{
    base::id::{ProjectId, TokenId},
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        components::time::When,
        forms::{Field, Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/tokens/revoke/revoke.html")]
struct Revoke {
    path: String,
    name: String,
    hidden: Hidden,
    summary: Summary,
    confirmation: Field,
    last_used: Option<When>,
    /// How many tokens it has issued.
    issued: Option<String>,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, TokenId)>) -> PageResult {
    let form = visit.form(Fields::default());
    page(&visit, project, id, &form).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, TokenId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    let name = super::get(&visit, project, id).await?.body.name;
    if !form.is_confirmed(&name) {
        let form = form.unconfirmed("name of the token");
        return Ok(page(&visit, project, id, &form).await?.into_response());
    }
    match visit.api.send::<Value>(call(id)).await {
        Ok(_) => {
            let text = format!(
                "The token “{name}” is revoked. It and the tokens that it issued no longer work on any server."
            );
            Ok(Redirected::to(super::path(project, id)).message(&visit, &text).into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, id, &form).await?.into_response())
        }
    }
}

fn call(id: TokenId) -> Call {
    Call::delete(format!("/v1/tokens/{id}"))
}

async fn page(visit: &Visit, project: ProjectId, id: TokenId, form: &Form) -> PageResult {
    let token = super::get(visit, project, id).await?.body;
    let page = Revoke {
        path: super::path(project, id),
        name: token.name,
        hidden: form.hidden(),
        summary: form.summary(),
        confirmation: form.confirmation("name of the token").focused(),
        last_used: token.last_used_at.map(|time| visit.when(time)),
        issued: issuer::count(visit, project, &id.to_string()).await?,
    };
    let builder = visit.page("Revoke the token").project(project).crumb("Tokens", super::list_path(project));
    builder.crumb(page.name.clone(), page.path.clone()).form(form).call(call(id)).show(&page)
}
