//! `/console/projects/{project_id}/members/{user_id}/role`: changes the role of a member.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::{Value, json};

use super::roles;
use crate::{
    base::{
        id::{ProjectId, UserId},
        identity::role::Role,
    },
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        forms::{Field, Form, Hidden, Summary},
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/members/role/role.html")]
struct ChangeRole {
    path: String,
    email: String,
    is_owner: bool,
    is_self: bool,
    hidden: Hidden,
    summary: Summary,
    role: Field,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, UserId)>) -> PageResult {
    page(&visit, project, id, None).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, UserId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    match visit.api.send::<Value>(call(project, id, &form)).await {
        Ok(_) => {
            let redirect = Redirected::to(super::path(project, id));
            Ok(redirect.message(&visit, "The role is changed, and applies to the next request.").into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, id, Some(form)).await?.into_response())
        }
    }
}

/// The change, unless somebody else changed the member since the form was opened.
fn call(project: ProjectId, id: UserId, form: &Form) -> Call {
    let call = Call::patch(super::api(id)).query("project_id", project).body(json!({ "role": form.value("role") }));
    call.if_match(form.etag()).once(form.once())
}

async fn page(visit: &Visit, project: ProjectId, id: UserId, rejected: Option<Form>) -> PageResult {
    let own = async { roles::own(visit, project).await.map_err(Failure::from) };
    let (found, own) = tokio::try_join!(super::get(visit, project, id), own)?;
    let (member, etag) = (found.body, found.etag.unwrap_or_default());
    let first = Fields::default().with("role", member.role.to_string());
    let form = rejected.unwrap_or_else(|| visit.form(first));
    let page = ChangeRole {
        path: super::path(project, id),
        email: member.email.to_string(),
        is_owner: member.role == Role::Owner,
        is_self: visit.profile().await?.id == id,
        hidden: form.hidden_for(&etag),
        summary: form.summary(),
        role: roles::field(&form, own),
    };
    let builder = visit.page("Change the role").project(project).crumb("Members", super::list_path(project));
    let call = call(project, id, &form).if_match(&etag);
    builder.crumb(page.email.clone(), page.path.clone()).form(&form).call(call).show(&page)
}
