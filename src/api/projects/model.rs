//! Types of projects, and the shapes of requests and responses.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use crate::{
    audit::model::Audited,
    base::{
        etag::{EntityTag, Versioned},
        id::ProjectId,
        identity::tenant::ProjectStatus,
        input::{
            metadata::Metadata,
            page::ListQuery,
            patch::{Patch, Replace},
            schema::{input, patch},
            text::NO_CONTROL_CHARACTERS,
        },
        runtime::clock::Timestamp,
    },
};

/// A project, which keys, tokens, members and resources belong to.
// The database row is also the API view, because it has no secret.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema, sqlx::FromRow)]
pub struct Project {
    /// Project ID.
    pub id: ProjectId,
    /// Human-readable name.
    pub name: String,
    /// Status of the project. Its keys and tokens work only while the project is active.
    pub status: ProjectStatus,
    /// Custom metadata.
    #[schemars(with = "Metadata")]
    pub metadata: Json<Metadata>,
    /// Creation time.
    pub created_at: Timestamp,
    /// Number of changes. Clients see it as the ETag.
    #[serde(skip)]
    pub version: i64,
}

impl Audited for Project {}

impl Versioned for Project {
    fn etag(&self) -> EntityTag {
        EntityTag::strong(self.version.to_string())
    }
}

/// Filter of the list of projects.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ProjectFilter {
    /// Only projects with this status.
    pub status: Option<ProjectStatus>,
}

/// Result of deleting a project, also if it was deleted before.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeletedProject {
    /// Project ID.
    pub id: ProjectId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub deleted: bool,
}

/// Request to create a project.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// Human-readable name.
    #[schemars(length(min = 1, max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "Core Platform")]
    pub name: String,
    /// Custom metadata. Empty if omitted.
    pub metadata: Option<Metadata>,
}

/// Fields of a project to change. Omitted fields keep their value.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectPatch {
    /// Human-readable name.
    #[schemars(length(min = 1, max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "Core Platform")]
    pub name: Replace<String>,
    /// Custom metadata. Replaces the existing metadata. null removes it.
    pub metadata: Patch<Metadata>,
}

patch!(ProjectPatch);
input!(NewProject, ListQuery<ProjectFilter>);
