//! `/console/projects/{project_id}/members/{user_id}`: one member, or one invited person.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use super::roles;
use crate::{
    api::users::model::{Member, MemberStatus},
    base::{
        id::{ProjectId, UserId},
        identity::{role::Role, scope::Scope},
    },
    console::{
        Console,
        browser::Visit,
        components::{list::Timeline, secret::Copy, status::Badge, time::When},
        pages::{
            tokens::issuer::{self, IssuedTokens},
            trail,
        },
        view::{Failure, PageResult},
    },
};

#[derive(Template)]
#[template(path = "pages/members/one/one.html")]
struct One {
    path: String,
    email: String,
    id: Copy,
    status: Badge,
    role: &'static str,
    may: String,
    is_invited: bool,
    is_owner: bool,
    is_self: bool,
    /// Whether the person may change the role and remove the member.
    may_write: bool,
    created: When,
    tokens: Option<IssuedTokens>,
    trail: Option<Timeline>,
    /// Path of all entries of the trail.
    entries: String,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, UserId)>) -> PageResult {
    let target = id.to_string();
    let (member, allowed, own, tokens, trail) = tokio::try_join!(
        super::get(&visit, project, id),
        async { visit.scopes(project).await.map_err(Failure::from) },
        async { roles::own(&visit, project).await.map_err(Failure::from) },
        async { issuer::tokens_of(&visit, project, &target).await.map_err(Failure::from) },
        async { trail::of(&visit, project, &target).await.map_err(Failure::from) },
    )?;
    let is_self = visit.profile().await?.id == id;
    let member: Member = member.body;
    let is_invited = member.status == MemberStatus::Invited;
    let page = One {
        path: super::path(project, id),
        entries: format!("/console/projects/{project}/audit?target={id}"),
        email: member.email.to_string(),
        id: Copy::new(target, "the user ID"),
        status: super::status(&member),
        role: roles::name(member.role),
        may: roles::may(member.role),
        is_invited,
        is_owner: member.role == Role::Owner,
        is_self,
        may_write: allowed.contains(Scope::UsersWrite) && own.is_none_or(|own| member.role <= own),
        created: visit.when(member.created_at),
        tokens: tokens.filter(|_| !is_invited),
        trail,
    };
    visit.page(page.email.clone()).project(project).crumb("Members", super::list_path(project)).show(&page)
}
