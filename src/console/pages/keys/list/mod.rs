//! `/console/projects/{project_id}/keys`: the keys of a project.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use crate::{
    api::keys::model::KeyView,
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
#[template(path = "pages/keys/list/list.html")]
struct Keys {
    path: String,
    search: Field,
    status: Field,
    rows: Vec<Row>,
    paging: Paging,
    is_filtered: bool,
    may_create: bool,
    empty: Empty,
}

struct Row {
    path: String,
    name: String,
    hint: String,
    status: Badge,
    scopes: usize,
    last_used: Option<When>,
    expires: Option<When>,
    created: When,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let (search, status) = (query.get("name"), query.get("status"));
    let call = Call::get("/v1/keys").query("project_id", project).query("status", status).query("name", search);
    let call = call.query("order", "desc").query("cursor", query.get("cursor"));
    let (keys, allowed) = tokio::try_join!(visit.api.send::<List<KeyView>>(call), visit.scopes(project))?;
    let List { data, next_cursor } = keys.body;
    let may_create = allowed.contains(Scope::KeysWrite);
    let form = Form::new(query.clone());
    let statuses = [("", "Any status"), ("active", "Active"), ("expired", "Expired"), ("revoked", "Revoked")];
    let statuses = statuses.map(|(value, label)| Choice::new(value, label)).into();
    let new = format!("{}/new", super::list_path(project));
    let is_filtered = !search.is_empty() || !status.is_empty();
    let page = Keys {
        search: form.text("name", "Name").kind("search"),
        status: form.select("status", "Status", statuses),
        rows: data.iter().map(|key| row(&visit, key)).collect(),
        paging: Paging::new(&visit, &query, &["name", "status"], next_cursor.as_deref()),
        is_filtered,
        empty: if is_filtered {
            Empty::new("No key matches", "Change the name or the status.")
        } else {
            let empty = Empty::new("No keys yet", "A key lets a program call the API. Its secret is shown once.");
            if may_create { empty.action("Create a key", new) } else { empty }
        },
        may_create,
        path: super::list_path(project),
    };
    visit.page("Keys").project(project).show(&page)
}

fn row(visit: &Visit, key: &KeyView) -> Row {
    Row {
        path: super::path(key.project_id, key.id),
        name: super::name(key),
        hint: key.hint.clone(),
        status: key.status.into(),
        scopes: key.scopes.iter().count(),
        last_used: key.last_used_at.map(|time| visit.when(time)),
        expires: key.expires_at.map(|time| visit.when(time)),
        created: visit.when(key.created_at),
    }
}
