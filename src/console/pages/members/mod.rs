//! Members of a project, and people who are invited to it.

pub mod invite;
mod invited;
pub mod list;
pub mod one;
pub mod remove;
pub mod role;
mod roles;

use crate::{
    api::users::model::{Member, MemberStatus},
    base::id::{ProjectId, UserId},
    console::{
        browser::Visit,
        client::{Call, Reply},
        components::status::{Badge, Tone},
        view::Failure,
    },
};

/// Path of the list.
fn list_path(project: ProjectId) -> String {
    format!("/console/projects/{project}/members")
}

/// Path of a member.
fn path(project: ProjectId, user: UserId) -> String {
    format!("/console/projects/{project}/members/{user}")
}

/// Path of the API for a member.
fn api(user: UserId) -> String {
    format!("/v1/users/{user}")
}

/// Gets a member of this project.
async fn get(visit: &Visit, project: ProjectId, user: UserId) -> Result<Reply<Member>, Failure> {
    Ok(visit.api.send(Call::get(api(user)).query("project_id", project)).await?)
}

fn status(member: &Member) -> Badge {
    match member.status {
        MemberStatus::Active => Badge::new(Tone::Good, "Active"),
        MemberStatus::Invited => Badge::new(Tone::Warn, "Invited"),
    }
}
