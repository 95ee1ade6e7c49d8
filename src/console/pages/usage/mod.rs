//! Usage of a project.

pub mod breakdown;
pub mod download;
pub mod of_credential;
pub mod overview;

use crate::base::id::ProjectId;

/// Path of the page.
fn path(project: ProjectId) -> String {
    format!("/console/projects/{project}/usage")
}
