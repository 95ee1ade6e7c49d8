//! The page after a person was invited: it shows the link for them, once.

use askama::Template;
use axum::http::StatusCode;

use super::roles;
use crate::{
    api::users::{invitations::LIFETIME, model::InvitedUser},
    base::id::ProjectId,
    console::{
        browser::Visit,
        client::Reply,
        components::{
            secret::SecretOnce,
            time::{When, span},
        },
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/members/invited/invited.html")]
struct Invited {
    email: String,
    role: &'static str,
    path: String,
    lifetime: String,
    expires: When,
    /// Absent if the link was shown before.
    link: Option<SecretOnce>,
}

/// Shows the link of a new invitation.
pub fn page(visit: &Visit, project: ProjectId, invited: &Reply<InvitedUser>) -> PageResult {
    let member = &invited.body.member;
    let link = format!("{}/console/invitation?invitation={}", visit.site.base, invited.body.invitation.expose());
    let path = super::path(project, member.id);
    let page = Invited {
        email: member.email.to_string(),
        role: roles::name(member.role),
        path: path.clone(),
        lifetime: span(LIFETIME.as_secs()),
        expires: visit.when(member.created_at.plus(LIFETIME)),
        link: visit.may_show_secret(invited.replayed).then(|| SecretOnce {
            label: "Invitation link".into(),
            secret: link,
            command: None,
        }),
    };
    let builder = visit.page("Invitation created").project(project).crumb("Members", super::list_path(project));
    builder.status(StatusCode::OK).shown_at(path).show(&page)
}
