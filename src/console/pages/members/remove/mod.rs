//! `/console/projects/{project_id}/members/{user_id}/remove`: removes a member after the email address was typed, or
//! withdraws an invitation.

use askama::Template;
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
    routing::MethodRouter,
};
use serde_json::Value;

use crate::{
    api::users::model::MemberStatus,
    base::{
        id::{ProjectId, UserId},
        identity::role::Role,
    },
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        forms::{Field, Form, Hidden, Summary},
        pages::tokens::issuer,
        view::{Failure, PageResult, Redirected},
    },
};

#[derive(Template)]
#[template(path = "pages/members/remove/remove.html")]
struct Remove {
    path: String,
    email: String,
    is_invited: bool,
    is_owner: bool,
    is_self: bool,
    hidden: Hidden,
    summary: Summary,
    confirmation: Field,
    /// How many tokens the member has issued.
    tokens: Option<String>,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, UserId)>) -> PageResult {
    let form = visit.form(Fields::default());
    page(&visit, project, id, &form).await
}

async fn submit(visit: Visit, Path((project, id)): Path<(ProjectId, UserId)>) -> Result<Response, Failure> {
    let form = visit.submitted();
    let member = super::get(&visit, project, id).await?.body;
    let is_invited = member.status == MemberStatus::Invited;
    let email = member.email.to_string();
    if !is_invited && !form.typed_confirmation().eq_ignore_ascii_case(&email) {
        let form = form.unconfirmed("email address of the member");
        return Ok(page(&visit, project, id, &form).await?.into_response());
    }
    let is_self = visit.profile().await?.id == id;
    match visit.api.send::<Value>(call(project, id)).await {
        Ok(_) => {
            let (target, text) = match (is_invited, is_self) {
                (true, _) => (super::list_path(project), format!("The invitation of {email} is withdrawn.")),
                (_, true) => ("/console".into(), "You have left the project.".into()),
                _ => (super::list_path(project), format!("{email} has no access any more.")),
            };
            Ok(Redirected::to(target).message(&visit, &text).into_response())
        }
        Err(fault) => {
            let form = form.rejected(fault, &[])?;
            Ok(page(&visit, project, id, &form).await?.into_response())
        }
    }
}

fn call(project: ProjectId, id: UserId) -> Call {
    Call::delete(super::api(id)).query("project_id", project)
}

async fn page(visit: &Visit, project: ProjectId, id: UserId, form: &Form) -> PageResult {
    let member = super::get(visit, project, id).await?.body;
    let is_invited = member.status == MemberStatus::Invited;
    let is_self = visit.profile().await?.id == id;
    let page = Remove {
        path: super::path(project, id),
        email: member.email.to_string(),
        is_invited,
        is_owner: member.role == Role::Owner,
        is_self,
        hidden: form.hidden(),
        summary: form.summary(),
        confirmation: form.confirmation("email address").focused(),
        tokens: match is_invited {
            true => None,
            false => issuer::count(visit, project, &id.to_string()).await?,
        },
    };
    let title = match (is_invited, is_self) {
        (true, _) => "Withdraw the invitation",
        (_, true) => "Leave the project",
        _ => "Remove the member",
    };
    let builder = visit.page(title).project(project).crumb("Members", super::list_path(project));
    builder.crumb(page.email.clone(), page.path.clone()).form(form).call(call(project, id)).show(&page)
}
