//! Types of resources and operations: stored rows and API responses.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::types::Json;

use crate::{
    audit::model::Audited,
    base::{
        etag::{EntityTag, Versioned},
        id::{OperationId, ProjectId, ResourceId},
        runtime::clock::Timestamp,
    },
    resources::{
        engine::lifecycle::{OperationStatus, OperationType, Phase},
        kinds::{Kind, Power, spec::Spec},
    },
};

/// Client-defined labels of a resource. Lists can be filtered by them; providers show them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<String, String>);

impl JsonSchema for Labels {
    fn schema_name() -> Cow<'static, str> {
        "Labels".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "description": "Client-defined labels of a resource. Lists can be filtered by them; providers show them.",
            "maxProperties": 20,
            "propertyNames": {
                "minLength": 1,
                "maxLength": 63,
                "pattern": "^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?$",
                "x-form": "a label's key of lowercase letters, digits, dots, dashes, underscores and slashes",
                "examples": ["env"],
            },
            "additionalProperties": {
                "type": "string",
                "maxLength": 63,
                "pattern": "^([A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?)?$",
                "x-form": "a label's value of letters, digits, dots, dashes and underscores",
                "examples": ["ci-4711"],
            },
            "examples": [{ "env": "ci-4711" }],
        })
    }
}

/// Reaction to drift: a difference between a resource and its object at the provider.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum Reconcile {
    /// Report drift as a condition and as an event.
    #[default]
    Observe,
    /// Report drift and remediate it.
    Enforce,
}

/// Fact about a resource that currently holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// Type of the condition.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Machine-readable reason: a code of this server or of the provider.
    pub reason: String,
    /// Human-readable explanation.
    pub message: String,
    /// Time since when the condition holds.
    pub since: Timestamp,
    /// For `drifted`: requested and observed value of each member that differs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Map<String, Value>>,
}

/// Type of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ConditionType {
    /// The last operation failed.
    Failed,
    /// The object was changed outside this server and differs from the spec.
    Drifted,
    /// The object was deleted outside this server.
    Missing,
    /// The time to live has ended, but another resource still uses this one.
    Expired,
}

/// Resource as stored in the database.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredResource {
    /// Resource id.
    pub id: ResourceId,
    /// Project that the resource belongs to.
    pub project_id: ProjectId,
    /// Kind of the resource.
    pub kind: Kind,
    /// Name of the provider.
    pub provider: String,
    /// Human-readable name.
    pub name: String,
    /// Client-defined labels.
    pub labels: Json<Labels>,
    /// Desired state.
    pub spec: Json<Value>,
    /// Generation of the spec, incremented by each change.
    pub generation: i64,
    /// Generation that the provider was last brought to.
    pub observed_generation: i64,
    /// Phase in the life cycle.
    pub phase: Phase,
    /// Observed power state.
    pub power: Option<Power>,
    /// Desired power state.
    pub desired_power: Option<Power>,
    /// Provider's identifier of the object.
    pub provider_ref: Option<String>,
    /// Properties that the provider reports.
    pub outputs: Json<Map<String, Value>>,
    /// Conditions that currently hold.
    pub conditions: Json<Vec<Condition>>,
    /// Time of the last read at the provider.
    pub last_synced_at: Option<Timestamp>,
    /// Whether the resource is protected from deletion.
    pub protection: bool,
    /// Reaction to drift.
    pub reconcile: Reconcile,
    /// Time of the automatic deletion.
    pub expires_at: Option<Timestamp>,
    /// Version, incremented by each change that clients can see.
    pub version: i64,
    /// Creation time.
    pub created_at: Timestamp,
    /// Deletion time.
    pub deleted_at: Option<Timestamp>,
}

impl StoredResource {
    /// Parses the stored spec. Fails if a newer version of the server stored a spec that this version cannot parse.
    pub fn spec(&self) -> serde_json::Result<Spec> {
        Spec::from_json(self.kind, self.spec.0.clone())
    }
}

impl Versioned for StoredResource {
    fn etag(&self) -> EntityTag {
        let version = self.version;
        EntityTag::strong(match self.last_synced_at {
            // `last_synced_at` changes without a new version, each time the provider is read.
            Some(at) => format!("{version}.{:x}", at.unix_millis()),
            None => version.to_string(),
        })
    }
}

/// Resource as clients see it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Resource")]
pub struct ResourceView {
    /// Resource id.
    pub id: ResourceId,
    /// Project that the resource belongs to.
    pub project_id: ProjectId,
    /// Kind of the resource.
    pub kind: Kind,
    /// Name of the provider.
    pub provider: String,
    /// Human-readable name.
    pub name: String,
    /// Client-defined labels.
    pub labels: Labels,
    /// Generation of `spec`, incremented by each change of `spec`.
    pub generation: i64,
    /// Generation that the provider was last brought to.
    pub observed_generation: i64,
    /// Desired state.
    #[schemars(with = "Spec")]
    pub spec: Value,
    /// Observed state.
    pub status: ResourceStatus,
    /// Whether the resource is protected from deletion.
    pub protection: bool,
    /// Reaction to changes made outside this server.
    pub reconcile: Reconcile,
    /// Time of the automatic deletion; null if the resource has no time to live.
    pub expires_at: Option<Timestamp>,
    /// Entity tag of the current state, for `If-Match`.
    pub etag: String,
    /// Creation time.
    pub created_at: Timestamp,
    /// Deletion time; null if the resource is not deleted.
    pub deleted_at: Option<Timestamp>,
}

/// Observed state of a resource.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct ResourceStatus {
    /// Phase in the life cycle.
    pub phase: Phase,
    /// Power state; null if the kind has none, or before the first read at the provider.
    pub power: Option<Power>,
    /// Provider's identifier of the object; null before the object is created.
    pub provider_ref: Option<String>,
    /// Properties that the provider reports, such as addresses.
    pub outputs: Map<String, Value>,
    /// Conditions that currently hold.
    pub conditions: Vec<Condition>,
    /// Time of the last read at the provider.
    pub last_synced_at: Option<Timestamp>,
}

impl Audited for ResourceView {}

impl Versioned for ResourceView {
    fn etag(&self) -> EntityTag {
        EntityTag::parse(self.etag.as_bytes()).unwrap_or_else(|| EntityTag::of(self, &[]))
    }
}

impl From<StoredResource> for ResourceView {
    fn from(resource: StoredResource) -> Self {
        Self {
            etag: resource.etag().to_string(),
            id: resource.id,
            project_id: resource.project_id,
            kind: resource.kind,
            provider: resource.provider,
            name: resource.name,
            labels: resource.labels.0,
            generation: resource.generation,
            observed_generation: resource.observed_generation,
            spec: resource.spec.0,
            status: ResourceStatus {
                phase: resource.phase,
                power: resource.power,
                provider_ref: resource.provider_ref,
                outputs: resource.outputs.0,
                conditions: resource.conditions.0,
                last_synced_at: resource.last_synced_at,
            },
            protection: resource.protection,
            reconcile: resource.reconcile,
            expires_at: resource.expires_at,
            created_at: resource.created_at,
            deleted_at: resource.deleted_at,
        }
    }
}

/// Reason why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationError {
    /// Machine-readable error code: `invalid`, `denied`, `not_found`, `conflict`, `exhausted`, `protected`, `timeout`,
    /// `reference_failed`, `provider_unavailable` or `failed`.
    pub code: Cow<'static, str>,
    /// Human-readable explanation, with the action to take.
    pub detail: String,
    /// Provider's error code; null if the error did not come from the provider.
    pub provider_code: Option<String>,
}

/// State of the resource before an operation.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Before {
    /// Phase before the operation.
    pub phase: Option<Phase>,
    /// Spec before the operation, if the operation changes it.
    pub spec: Option<Value>,
    /// Desired power state before the operation.
    pub desired_power: Option<Power>,
}

/// Operation as stored in the database.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredOperation {
    /// Operation id.
    pub id: OperationId,
    /// Project that the operation belongs to.
    pub project_id: ProjectId,
    /// Resource that the operation changes.
    pub resource_id: ResourceId,
    /// Type of the operation.
    #[sqlx(rename = "type")]
    pub kind: OperationType,
    /// Status of the operation.
    pub status: OperationStatus,
    /// Current step.
    pub step: String,
    /// Progress in percent.
    pub progress: i16,
    /// Number of failed attempts of the current step.
    pub attempt: i32,
    /// Reason of the failure.
    pub error: Option<Json<OperationError>>,
    /// Creation time.
    pub created_at: Timestamp,
    /// Completion time.
    pub finished_at: Option<Timestamp>,
}

/// Operation as clients see it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "Operation")]
pub struct OperationView {
    /// Operation id.
    pub id: OperationId,
    /// Project that the operation belongs to.
    pub project_id: ProjectId,
    /// Resource that the operation changes.
    pub resource_id: ResourceId,
    /// Type of the operation.
    #[serde(rename = "type")]
    pub kind: OperationType,
    /// Status of the operation.
    pub status: OperationStatus,
    /// Name of the current step.
    pub step: String,
    /// Progress in percent, from 0 to 100.
    pub progress: i16,
    /// Number of failed attempts of the current step.
    pub attempt: i32,
    /// Reason of the failure; null if the operation has not failed.
    pub error: Option<OperationError>,
    /// Creation time.
    pub created_at: Timestamp,
    /// Completion time; null if the operation has not ended.
    pub finished_at: Option<Timestamp>,
}

impl Audited for OperationView {}

impl Versioned for OperationView {
    fn etag(&self) -> EntityTag {
        EntityTag::of(self, &[])
    }
}

impl From<StoredOperation> for OperationView {
    fn from(operation: StoredOperation) -> Self {
        Self {
            id: operation.id,
            project_id: operation.project_id,
            resource_id: operation.resource_id,
            kind: operation.kind,
            status: operation.status,
            step: operation.step,
            progress: operation.progress,
            attempt: operation.attempt,
            error: operation.error.map(|error| error.0),
            created_at: operation.created_at,
            finished_at: operation.finished_at,
        }
    }
}
