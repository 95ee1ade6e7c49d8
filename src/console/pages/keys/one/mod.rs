//! `/console/projects/{project_id}/keys/{key_id}`: one key.

use askama::Template;
use axum::{
    extract::Path,
    routing::{MethodRouter, get},
};

use crate::{
    api::keys::model::KeyView,
    base::{
        id::{KeyId, ProjectId},
        identity::{
            credential::{CredentialId, CredentialStatus},
            scope::Scope,
        },
    },
    console::{
        Console,
        browser::Visit,
        components::{list::Timeline, secret::Copy, status::Badge, time::When},
        pages::{
            tokens::issuer::{self, IssuedTokens},
            trail,
            usage::{breakdown::Breakdown, of_credential},
        },
        view::{Failure, PageResult},
    },
};

#[derive(Template)]
#[template(path = "pages/keys/one/one.html")]
struct One {
    path: String,
    name: String,
    id: Copy,
    status: Badge,
    /// Whether the person may rotate and revoke the key.
    may_write: bool,
    /// Until when the previous secret works, while it does.
    overlap: Option<When>,
    created: When,
    expires: Option<When>,
    last_used: Option<When>,
    tokens: Option<IssuedTokens>,
    /// This month's requests by route, if the person may read usage.
    usage: Option<Breakdown>,
    trail: Option<Timeline>,
    key: KeyView,
}

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path((project, id)): Path<(ProjectId, KeyId)>) -> PageResult {
    let allowed = async { visit.scopes(project).await.map_err(Failure::from) };
    let target = id.to_string();
    let tokens = async { issuer::tokens_of(&visit, project, &target).await.map_err(Failure::from) };
    let usage = async { of_credential::of(&visit, project, CredentialId::Key(id)).await.map_err(Failure::from) };
    let trail = async { trail::of(&visit, project, &target).await.map_err(Failure::from) };
    let (key, allowed, tokens, usage, trail) =
        tokio::try_join!(super::get(&visit, project, id), allowed, tokens, usage, trail)?;
    let key = key.body;
    let page = One {
        path: super::path(project, id),
        name: super::name(&key),
        id: Copy::new(id.to_string(), "the key ID"),
        status: key.status.into(),
        may_write: key.status == CredentialStatus::Active && allowed.contains(Scope::KeysWrite),
        overlap: key
            .previous_expires_at
            .filter(|end| *end > visit.now && key.status == CredentialStatus::Active)
            .map(|end| visit.when(end)),
        created: visit.when(key.created_at),
        expires: key.expires_at.map(|end| visit.when(end)),
        last_used: key.last_used_at.map(|time| visit.when(time)),
        tokens,
        usage,
        trail,
        key,
    };
    visit.page(page.name.clone()).project(project).crumb("Keys", super::list_path(project)).show(&page)
}
