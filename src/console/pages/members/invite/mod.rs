//! `/console/projects/{project_id}/members/invite`: invites a person, and shows the link for them.

use askama::Template;
use axum::{extract::Path, routing::MethodRouter};

use super::{invited, roles};
use crate::{
    api::users::model::InvitedUser,
    base::id::ProjectId,
    console::{
        Console,
        browser::{Visit, fields::Fields},
        client::Call,
        forms::{Body, Field, Form, Hidden, Summary},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/members/invite/invite.html")]
struct Invite {
    back: String,
    hidden: Hidden,
    summary: Summary,
    email: Field,
    role: Field,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    crate::console::pages::form(show, submit)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>) -> PageResult {
    let form = visit.form(Fields::default().with("role", "member"));
    page(&visit, project, &form).await
}

async fn submit(visit: Visit, Path(project): Path<ProjectId>) -> PageResult {
    let form = visit.submitted();
    match visit.api.send::<InvitedUser>(call(project, &form)).await {
        Ok(user) => invited::page(&visit, project, &user),
        Err(fault) => page(&visit, project, &form.rejected(fault, &[])?).await,
    }
}

fn call(project: ProjectId, form: &Form) -> Call {
    let body = Body::of(form).set("project_id", project.to_string());
    // Empty fields are sent, so that the API says what is missing.
    let body = body.set("email", form.value("email")).set("role", form.value("role"));
    Call::post("/v1/users").body(body.build()).once(form.once())
}

async fn page(visit: &Visit, project: ProjectId, form: &Form) -> PageResult {
    let list = super::list_path(project);
    let page = Invite {
        back: list.clone(),
        hidden: form.hidden(),
        summary: form.summary(),
        email: form.text("email", "Email").kind("email").max(254).required().focused(),
        role: roles::field(form, roles::own(visit, project).await?),
    };
    let builder = visit.page("Invite a person").project(project).crumb("Members", list).form(form);
    builder.call(call(project, form)).show(&page)
}
