//! `/console/projects/{project_id}/tokens`: the tokens of a project.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use super::issuer::{self, IssuerLink};
use crate::{
    api::tokens::model::{TokenIssuer, TokenView},
    base::{id::ProjectId, identity::scope::Scope},
    console::{
        Console,
        browser::{Visit, fields::Fields, visit::PageQuery},
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
#[template(path = "pages/tokens/list/list.html")]
struct Tokens<'a> {
    path: String,
    search: Field,
    status: Field,
    /// Issuer whose tokens are listed.
    issuer: &'a str,
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
    issuer: IssuerLink,
    scopes: usize,
    last_used: Option<When>,
    expires: When,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let (search, status, issuer) = (query.get("name"), query.get("status"), query.get("issuer"));
    let call = Call::get("/v1/tokens").query("project_id", project).query("status", status).query("name", search);
    let call = call.query("issuer", issuer).query("order", "desc").query("cursor", query.get("cursor"));
    let (tokens, allowed) = tokio::try_join!(visit.api.send::<List<TokenView>>(call), visit.scopes(project))?;
    let List { data, next_cursor } = tokens.body;
    let issuers: Vec<&TokenIssuer> = data.iter().map(|token| &token.issuer).collect();
    let links = issuer::links(&visit, project, &issuers).await;
    let may_create = allowed.contains(Scope::TokensWrite);
    let form = Form::new(query.clone());
    let statuses = [("", "Any status"), ("active", "Active"), ("expired", "Expired"), ("revoked", "Revoked")];
    let statuses = statuses.map(|(value, label)| Choice::new(value, label)).into();
    let is_filtered = [search, status, issuer].iter().any(|text| !text.is_empty());
    let page = Tokens {
        search: form.text("name", "Name").kind("search"),
        status: form.select("status", "Status", statuses),
        issuer,
        rows: data.iter().zip(links).map(|(token, issuer)| row(&visit, token, issuer)).collect(),
        paging: Paging::new(&visit, &query, &["name", "status", "issuer"], next_cursor.as_deref()),
        is_filtered,
        empty: empty(&query, is_filtered, next_cursor.is_some(), may_create.then(|| super::list_path(project))),
        may_create,
        path: super::list_path(project),
    };
    visit.page("Tokens").project(project).show(&page)
}

fn row(visit: &Visit, token: &TokenView, issuer: IssuerLink) -> Row {
    Row {
        path: super::path(token.project_id, token.id),
        name: token.name.clone(),
        hint: token.hint.clone(),
        status: token.status.into(),
        issuer,
        scopes: token.scopes.iter().count(),
        last_used: token.last_used_at.map(|time| visit.when(time)),
        expires: visit.when(token.expires_at),
    }
}

/// What an empty page of the list says.
fn empty(query: &Fields, is_filtered: bool, has_more: bool, list: Option<String>) -> Empty {
    if has_more {
        return Empty::new("No match on this page", "Tokens on the next pages may match.");
    }
    if !query.get("issuer").is_empty() && query.get("name").is_empty() && query.get("status").is_empty() {
        return Empty::new("No tokens of this issuer", "Tokens that it issues show up here, and end with it.");
    }
    if is_filtered {
        return Empty::new("No token matches", "Change the name or the status.");
    }
    let empty = Empty::new(
        "No tokens yet",
        "A token is for one service, for a limited time. Keys and people issue tokens, which end with their issuer.",
    );
    match list {
        Some(list) => empty.action("Create a token", format!("{list}/new")),
        None => empty,
    }
}
