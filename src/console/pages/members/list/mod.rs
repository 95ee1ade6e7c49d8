//! `/console/projects/{project_id}/members`: the members of a project.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use super::roles;
use crate::{
    api::users::model::Member,
    base::{id::ProjectId, identity::scope::Scope},
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::{Call, List},
        components::{
            icon::Icon,
            list::Paging,
            status::{Badge, Empty},
            time::When,
        },
        forms::{Choice, Field, Form},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/members/list/list.html")]
struct Members {
    path: String,
    search: Field,
    role: Field,
    rows: Vec<Row>,
    paging: Paging,
    may_invite: bool,
    empty: Empty,
}

struct Row {
    path: String,
    email: String,
    is_self: bool,
    role: &'static str,
    status: Badge,
    created: When,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let call = Call::get("/v1/users").query("project_id", project).query("email", query.get("email"));
    let call = call.query("role", query.get("role")).query("cursor", query.get("cursor"));
    let (members, allowed, profile) =
        tokio::try_join!(visit.api.send::<List<Member>>(call), visit.scopes(project), visit.profile())?;
    let List { data, next_cursor } = members.body;
    let form = Form::new(query.clone());
    let choices =
        [("", "Any role"), ("owner", "Owner"), ("admin", "Admin"), ("member", "Member"), ("viewer", "Viewer")];
    let row = |member: &Member| Row {
        path: super::path(project, member.id),
        email: member.email.to_string(),
        is_self: member.id == profile.id,
        role: roles::name(member.role),
        status: super::status(member),
        created: visit.when(member.created_at),
    };
    let page = Members {
        path: super::list_path(project),
        search: form.text("email", "Email").kind("search"),
        role: form.select("role", "Role", choices.map(|(value, label)| Choice::new(value, label)).into()),
        rows: data.iter().map(row).collect(),
        paging: Paging::new(&visit, &query, &["email", "role"], next_cursor.as_deref()),
        may_invite: allowed.contains(Scope::UsersWrite),
        empty: match next_cursor {
            Some(_) => Empty::new("No match on this page", "Members on the next pages may match."),
            None => Empty::new("No member matches", "Change the email address or the role."),
        },
    };
    visit.page("Members").project(project).show(&page)
}
