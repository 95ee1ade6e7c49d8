//! Issuers of tokens, and the tokens of an issuer.

use askama::Template;
use futures_util::future::join_all;
use serde::Deserialize;

use super::list_path;
use crate::{
    api::tokens::model::{IssuerType, TokenIssuer, TokenView},
    base::{
        id::ProjectId,
        identity::{credential::CredentialStatus, scope::Scope},
    },
    console::{
        browser::Visit,
        client::{Call, Fault, List},
        components::{html_safe, status::Badge, time::When},
        pages::objects::page_of,
    },
};

/// Number of tokens that a panel shows.
const SHOWN: usize = 5;
/// Number of tokens that are counted.
const COUNTED: usize = 100;

/// Link to an issuer, with its name.
#[derive(Clone, Debug, Template)]
#[template(
    source = r#"<span class="muted">{{ kind }}</span> {% if let Some(path) = path %}<a href="{{ path }}">{{ name }}</a>{% else %}{{ name }}{% endif %}"#,
    ext = "html"
)]
pub struct IssuerLink {
    /// Type of the issuer.
    pub kind: &'static str,
    /// Its name, or its ID.
    pub name: String,
    /// Its page.
    pub path: Option<String>,
}

/// The newest tokens of an issuer.
#[derive(Clone, Debug, Template)]
#[template(path = "pages/tokens/issuer.html")]
pub struct IssuedTokens {
    rows: Vec<Row>,
    /// Path of the list of all of them.
    all: String,
    has_more: bool,
}

#[derive(Clone, Debug)]
struct Row {
    path: String,
    name: String,
    status: Badge,
    last_used: Option<When>,
}

html_safe!(IssuerLink, IssuedTokens);

/// Name of a key or a token, or email address of a user.
#[derive(Deserialize)]
struct Named {
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
}

/// Links to issuers, each with its name. Names are looked up once for each issuer.
pub async fn links(visit: &Visit, project: ProjectId, issuers: &[&TokenIssuer]) -> Vec<IssuerLink> {
    let mut different: Vec<&TokenIssuer> = Vec::new();
    for issuer in issuers {
        if !different.contains(issuer) {
            different.push(issuer);
        }
    }
    let found = join_all(different.iter().map(|issuer| link(visit, project, issuer))).await;
    let of = |issuer: &TokenIssuer| {
        let place = different.iter().position(|other| *other == issuer);
        place.and_then(|place| found.get(place)).cloned()
    };
    issuers.iter().filter_map(|issuer| of(issuer)).collect()
}

/// Link to one issuer.
pub async fn link(visit: &Visit, project: ProjectId, issuer: &TokenIssuer) -> IssuerLink {
    let id = &issuer.id;
    let (kind, call) = match issuer.kind {
        IssuerType::Key => ("Key", Call::get(format!("/v1/keys/{id}"))),
        IssuerType::Token => ("Token", Call::get(format!("/v1/tokens/{id}"))),
        IssuerType::User => ("User", Call::get(format!("/v1/users/{id}")).query("project_id", project)),
    };
    // A name is not worth an error: a member may have been removed.
    let named = visit.api.send_unrecorded::<Named>(&call).await.ok().map(|found| found.body);
    let exists = named.is_some();
    let name = named.map(|named| if named.name.is_empty() { named.email } else { named.name });
    IssuerLink {
        kind,
        name: name.filter(|name| !name.is_empty()).unwrap_or_else(|| id.clone()),
        path: page_of(project, id).filter(|_| exists),
    }
}

/// The newest tokens of an issuer. `None` if the person may not read tokens.
pub async fn tokens_of(visit: &Visit, project: ProjectId, issuer: &str) -> Result<Option<IssuedTokens>, Fault> {
    if !visit.scopes(project).await?.contains(Scope::TokensRead) {
        return Ok(None);
    }
    let call = Call::get("/v1/tokens").query("project_id", project).query("issuer", issuer);
    let call = call.query("order", "desc").query("limit", SHOWN);
    let List { data, next_cursor } = visit.api.send::<List<TokenView>>(call).await?.body;
    let row = |token: &TokenView| Row {
        path: super::path(project, token.id),
        name: token.name.clone(),
        status: token.status.into(),
        last_used: token.last_used_at.map(|time| visit.when(time)),
    };
    Ok(Some(IssuedTokens {
        rows: data.iter().map(row).collect(),
        all: format!("{}?issuer={issuer}", list_path(project)),
        has_more: next_cursor.is_some(),
    }))
}

/// How many active tokens an issuer has, in words: "2 active tokens". `None` if the person may not read tokens.
pub async fn count(visit: &Visit, project: ProjectId, issuer: &str) -> Result<Option<String>, Fault> {
    if !visit.scopes(project).await?.contains(Scope::TokensRead) {
        return Ok(None);
    }
    let call = Call::get("/v1/tokens").query("project_id", project).query("issuer", issuer);
    let call = call.query("status", CredentialStatus::Active.as_str()).query("limit", COUNTED);
    let found = visit.api.send::<List<TokenView>>(call).await?.body;
    let noun = if found.data.len() == 1 { "active token" } else { "active tokens" };
    Ok(Some(match (found.data.len(), found.next_cursor) {
        (0, None) => "no active token".into(),
        (count, None) => format!("{count} {noun}"),
        (count, Some(_)) => format!("at least {count} {noun}"),
    }))
}
