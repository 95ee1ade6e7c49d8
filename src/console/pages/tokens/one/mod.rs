//! `/console/projects/{project_id}/tokens/{token_id}`: one token, with the chain of its issuers.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use super::issuer::{self, IssuedTokens, IssuerLink};
use crate::{
    api::tokens::model::{IssuerType, MAX_DEPTH, TokenIssuer, TokenView},
    base::{
        id::{ProjectId, TokenId},
        identity::{
            credential::{CredentialId, CredentialStatus},
            scope::Scope,
        },
    },
    console::{
        Console,
        browser::Visit,
        client::Call,
        components::{list::Timeline, secret::Copy, status::Badge, time::When},
        pages::{
            trail,
            usage::{breakdown::Breakdown, of_credential},
        },
        view::{Failure, PageResult},
    },
};

#[derive(Template)]
#[template(path = "pages/tokens/one/one.html")]
struct One {
    path: String,
    id: Copy,
    status: Badge,
    /// Issuers, the first one of the chain first.
    chain: Vec<IssuerLink>,
    /// Whether the person may revoke the token.
    may_write: bool,
    created: When,
    expires: When,
    last_used: Option<When>,
    issued: Option<IssuedTokens>,
    /// This month's requests by route, if the person may read usage.
    usage: Option<Breakdown>,
    trail: Option<Timeline>,
    token: TokenView,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, TokenId)>) -> PageResult {
    let token = super::get(&visit, project, id).await?.body;
    let target = id.to_string();
    let (chain, issued, usage, trail, allowed) = tokio::try_join!(
        async { Ok::<_, Failure>(chain(&visit, project, &token.issuer).await) },
        async { issuer::tokens_of(&visit, project, &target).await.map_err(Failure::from) },
        async { of_credential::of(&visit, project, CredentialId::Token(id)).await.map_err(Failure::from) },
        async { trail::of(&visit, project, &target).await.map_err(Failure::from) },
        async { visit.scopes(project).await.map_err(Failure::from) },
    )?;
    let page = One {
        path: super::path(project, id),
        id: Copy::new(target, "the token ID"),
        status: token.status.into(),
        chain,
        may_write: token.status == CredentialStatus::Active && allowed.contains(Scope::TokensWrite),
        created: visit.when(token.created_at),
        expires: visit.when(token.expires_at),
        last_used: token.last_used_at.map(|time| visit.when(time)),
        issued,
        usage,
        trail,
        token,
    };
    visit.page(page.token.name.clone()).project(project).crumb("Tokens", super::list_path(project)).show(&page)
}

/// The issuers of a token, the first one of the chain first.
async fn chain(visit: &Visit, project: ProjectId, issuer: &TokenIssuer) -> Vec<IssuerLink> {
    let mut chain = Vec::new();
    let mut next = Some(issuer.clone());
    while let Some(issuer) = next.take().filter(|_| chain.len() < MAX_DEPTH.unsigned_abs().into()) {
        chain.push(issuer::link(visit, project, &issuer).await);
        if issuer.kind == IssuerType::Token {
            let call = Call::get(format!("/v1/tokens/{}", issuer.id));
            next = visit.api.send_unrecorded::<TokenView>(&call).await.ok().map(|parent| parent.body.issuer);
        }
    }
    chain.reverse();
    chain
}
