//! What a project is, to the server and to clients.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sqlx::types::Json;

use crate::base::{clock::Timestamp, id::ProjectId, metadata::Metadata, schema::input, text::NO_CONTROL_CHARACTERS};

/// Whether a project's credentials work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum ProjectStatus {
    /// They do.
    Active,
    /// They do not, until it is resumed.
    Suspended,
    /// They do not, until it is resumed; it may be deleted.
    Archived,
}

/// A project, as the database has it and as clients see it: no secret is near.
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
}

/// `POST /v1/projects`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NewProject {
    /// What people call it.
    #[schemars(length(min = 1, max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "Core Platform")]
    pub name: String,
    /// Your own notes on it; none when left out.
    pub metadata: Option<Metadata>,
}

/// `PATCH /v1/projects/{project_id}`: what is left out stays as it is.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectPatch {
    /// What people call it.
    #[schemars(length(min = 1, max = 100), regex(pattern = NO_CONTROL_CHARACTERS), example = "Core Platform")]
    pub name: Option<String>,
    /// Your own notes on it; these take the place of all earlier ones.
    pub metadata: Option<Metadata>,
}

input!(NewProject, ProjectPatch);
