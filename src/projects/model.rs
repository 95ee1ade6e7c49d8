//! What a project is, to the server and to clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use crate::{
    audit::model::Audited,
    base::{
        clock::Timestamp,
        etag::{EntityTag, Versioned},
        id::ProjectId,
        metadata::Metadata,
        page::ListQuery,
        patch::{Patch, Replace},
        schema::{input, patch},
        tenant::ProjectStatus,
        text::NO_CONTROL_CHARACTERS,
    },
};

/// What keys, tokens and members belong to.
// As the database has it and as clients see it: no secret is near.
#[derive(Clone, Debug, Serialize, JsonSchema, sqlx::FromRow)]
pub struct Project {
    /// The project's id.
    pub id: ProjectId,
    /// What people call it.
    pub name: String,
    /// Whether its credentials work.
    pub status: ProjectStatus,
    /// Your own notes on it.
    #[schemars(with = "Metadata")]
    pub metadata: Json<Metadata>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Counted up by each change. Clients see it as the entity tag.
    #[serde(skip)]
    pub version: i64,
}

impl Audited for Project {}

impl Versioned for Project {
    fn etag(&self) -> EntityTag {
        EntityTag::strong(self.version.to_string())
    }
}

/// The filter of the list of projects.
#[derive(Debug, Deserialize, JsonSchema)]
pub struct ProjectFilter {
    /// Only projects that stand so.
    pub status: Option<ProjectStatus>,
}

/// What deleting a project answers.
#[derive(Debug, Serialize, JsonSchema)]
pub struct DeletedProject {
    /// The project's id.
    pub id: ProjectId,
    /// Always true.
    #[schemars(extend("const" = true))]
    pub deleted: bool,
}

/// What a new project shall be.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// What people call it.
    #[schemars(length(min = 1, max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "Core Platform")]
    pub name: String,
    /// Your own notes on it; none when left out.
    pub metadata: Option<Metadata>,
}

/// What changes; what is left out stays as it is.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProjectPatch {
    /// What people call it.
    #[schemars(length(min = 1, max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "Core Platform")]
    pub name: Replace<String>,
    /// Your own notes on it; these take the place of all earlier ones, and null removes them.
    pub metadata: Patch<Metadata>,
}

patch!(ProjectPatch);
input!(NewProject, ListQuery<ProjectFilter>);
