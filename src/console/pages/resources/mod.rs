//! Resources of a project.

pub mod act;
pub mod create;
pub mod edit;
pub mod import;
pub mod list;
pub mod one;
pub mod parts;
pub mod remove;
pub mod sync;

use crate::{
    base::id::{ProjectId, ResourceId},
    console::{
        browser::Visit,
        client::Reply,
        components::status::{Badge, Tone},
        components::text::words,
        view::Failure,
    },
    resources::{
        api::model::{ConditionType, ResourceView},
        kinds::Kind,
    },
};

/// Path of the list.
pub fn list_path(project: ProjectId) -> String {
    format!("/console/projects/{project}/resources")
}

/// Path of a resource.
pub fn path(project: ProjectId, resource: ResourceId) -> String {
    format!("/console/projects/{project}/resources/{resource}")
}

/// Gets a resource of this project.
pub async fn get(visit: &Visit, project: ProjectId, id: ResourceId) -> Result<Reply<ResourceView>, Failure> {
    visit.get_in(project, format!("/v1/resources/{id}"), |found: &ResourceView| found.project_id).await
}

/// Name of a kind for people: `storage.volume` is "Volume".
pub fn kind_name(kind: Kind) -> String {
    words(kind.as_str().rsplit('.').next().unwrap_or_default())
}

/// Name of the family of a kind: `storage.volume` is "Storage".
pub fn family(kind: Kind) -> String {
    match kind.as_str().split('.').next().unwrap_or_default() {
        "network" => "Networking".to_owned(),
        other => words(other),
    }
}

/// Badge of a resource's phase.
pub fn phase(resource: &ResourceView) -> Badge {
    let phase = resource.status.phase.as_str();
    let tone = match phase {
        "active" => Tone::Good,
        "failed" => Tone::Bad,
        _ => Tone::Neutral,
    };
    Badge::new(tone, words(phase))
}

/// Badges of a resource's conditions. The phase says already that it failed.
pub fn conditions(resource: &ResourceView) -> Vec<Badge> {
    let known = resource.status.conditions.iter().filter_map(|condition| {
        Some(match condition.kind {
            ConditionType::Failed => return None,
            ConditionType::Drifted => Badge::new(Tone::Warn, "Drifted"),
            ConditionType::Missing => Badge::new(Tone::Bad, "Missing"),
            ConditionType::Expired => Badge::new(Tone::Warn, "Expired"),
        })
    });
    known.collect()
}
