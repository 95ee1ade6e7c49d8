//! Tokens of a project.

pub mod create;
pub mod issued;
pub mod issuer;
pub mod list;
pub mod one;
pub mod revoke;

use crate::{
    api::tokens::model::TokenView,
    base::id::{ProjectId, TokenId},
    console::{browser::Visit, client::Reply, view::Failure},
};

/// Path of the list.
fn list_path(project: ProjectId) -> String {
    format!("/console/projects/{project}/tokens")
}

/// Path of a token.
fn path(project: ProjectId, token: TokenId) -> String {
    format!("/console/projects/{project}/tokens/{token}")
}

/// Gets a token of this project.
async fn get(visit: &Visit, project: ProjectId, token: TokenId) -> Result<Reply<TokenView>, Failure> {
    visit.get_in(project, format!("/v1/tokens/{token}"), |found: &TokenView| found.project_id).await
}
