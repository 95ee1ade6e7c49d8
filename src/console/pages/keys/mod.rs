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
    console::{
        browser::Visit,
        client::{Call, Reply},
        view::Failure,
    },
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
    let found = visit.api.send::<KeyView>(Call::get(format!("/v1/keys/{key}"))).await?;
    // The address has the wrong project.
    if found.body.project_id == project { Ok(found) } else { Err(Failure::not_found()) }
}

/// Name of a key, or its ID if it has no name.
fn name(key: &KeyView) -> String {
    if key.name.is_empty() { key.id.to_string() } else { key.name.clone() }
}
