//! Keys of a project.

pub mod create;
pub mod edit;
mod fields;
mod issued;
pub mod list;
pub mod one;
pub mod revoke;
pub mod rotate;

use crate::{
    api::keys::model::KeyView,
    base::id::{KeyId, ProjectId},
    console::{browser::Visit, client::Reply, view::Failure},
};

/// Path of the list.
fn list_path(project: ProjectId) -> String {
    format!("/console/projects/{project}/keys")
}

/// Path of a key.
fn path(project: ProjectId, key: KeyId) -> String {
    format!("/console/projects/{project}/keys/{key}")
}

/// Gets a key of this project.
async fn get(visit: &Visit, project: ProjectId, key: KeyId) -> Result<Reply<KeyView>, Failure> {
    visit.get_in(project, format!("/v1/keys/{key}"), |found: &KeyView| found.project_id).await
}

/// Name of a key, or its ID if it has no name.
fn name(key: &KeyView) -> String {
    if key.name.is_empty() { key.id.to_string() } else { key.name.clone() }
}
