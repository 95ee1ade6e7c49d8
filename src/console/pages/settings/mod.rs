//! Settings of a project.

pub mod delete;
pub mod general;
pub mod status;

use crate::{
    api::projects::model::Project,
    base::{id::ProjectId, identity::role::Role},
    console::{
        browser::Visit,
        client::{Fault, Reply},
    },
};

/// Path of the page.
fn path(project: ProjectId) -> String {
    format!("/console/projects/{project}/settings")
}

async fn get(visit: &Visit, project: ProjectId) -> Result<Reply<Project>, Fault> {
    visit.api.get(format!("/v1/projects/{project}")).await
}

/// Whether the person owns the project. If the profile does not list it, the API decides.
async fn is_owner(visit: &Visit, project: ProjectId) -> Result<bool, Fault> {
    let memberships = &visit.profile().await?.memberships;
    let here = memberships.iter().find(|membership| membership.project_id == project);
    Ok(here.is_none_or(|membership| membership.role == Role::Owner))
}
