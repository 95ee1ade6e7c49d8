//! What a resource and an operation are, to the server and to clients.

use std::{borrow::Cow, collections::BTreeMap};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::types::Json;

use super::{
    kind::{Kind, Power},
    lifecycle::{OperationStatus, OperationType, Phase},
    spec::Spec,
};
use crate::{
    audit::model::Audited,
    base::{
        clock::Timestamp,
        etag::{EntityTag, Versioned},
        id::{OperationId, ProjectId, ResourceId},
    },
};

/// A client's own tags on a resource: by them lists are filtered, and providers show them.
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
            "description": "Your own tags on a resource. Lists can be filtered by them, and providers show them.",
            "maxProperties": 20,
            "propertyNames": {
                "minLength": 1,
                "maxLength": 63,
                "pattern": "^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?$",
                "x-form": "a label's key of lower-case letters, digits, dots, dashes, underscores and slashes",
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

/// What is done when a resource is found to be otherwise than it was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
#[schemars(inline)]
pub enum Reconcile {
    /// It is told: as a condition, and as an event.
    #[default]
    Observe,
    /// It is told, and mended.
    Enforce,
}

/// Something to be known of a resource, as long as it is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Condition {
    /// What.
    #[serde(rename = "type")]
    pub kind: ConditionType,
    /// Why, for programs: a word of ours, or of the provider's.
    pub reason: String,
    /// Why, for people.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// For `drifted`: each member that differs, with what was asked for and what was found.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Map<String, Value>>,
}

/// What may be known of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub enum ConditionType {
    /// Its last operation failed.
    Failed,
    /// It is not as it was asked for: something else has changed it.
    Drifted,
    /// Something else has deleted it.
    Missing,
    /// Its time is up, and something else still uses it.
    Expired,
}

/// A resource as the database has it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredResource {
    /// The resource.
    pub id: ResourceId,
    /// Its project.
    pub project_id: ProjectId,
    /// What it is.
    pub kind: Kind,
    /// Where it is.
    pub provider: String,
    /// What people call it.
    pub name: String,
    /// The client's own tags.
    pub labels: Json<Labels>,
    /// What is asked for.
    pub spec: Json<Value>,
    /// Counted up by each change of the spec.
    pub generation: i64,
    /// How far that has come.
    pub observed_generation: i64,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether it runs.
    pub power: Option<Power>,
    /// Whether it should.
    pub desired_power: Option<Power>,
    /// The object's name at its provider.
    pub provider_ref: Option<String>,
    /// What the provider says of it.
    pub outputs: Json<Map<String, Value>>,
    /// What is to be known of it.
    pub conditions: Json<Vec<Condition>>,
    /// When it was last seen.
    pub last_synced_at: Option<Timestamp>,
    /// Whether it must not be deleted.
    pub protection: bool,
    /// What is done about drift.
    pub reconcile: Reconcile,
    /// When it is deleted by itself.
    pub expires_at: Option<Timestamp>,
    /// Counted up by each change that clients can see.
    pub version: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was gone.
    pub deleted_at: Option<Timestamp>,
}

impl StoredResource {
    /// What is asked for. (What was stored by a newer version may be unreadable to this one.)
    pub fn spec(&self) -> serde_json::Result<Spec> {
        Spec::from_json(self.kind, self.spec.0.clone())
    }
}

impl Versioned for StoredResource {
    fn etag(&self) -> EntityTag {
        let version = self.version;
        EntityTag::strong(match self.last_synced_at {
            // It changes without a version, whenever the provider is read.
            Some(at) => format!("{version}.{:x}", at.unix_millis()),
            None => version.to_string(),
        })
    }
}

/// A resource as it is shown.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Resource")]
pub struct ResourceView {
    /// The resource's id.
    pub id: ResourceId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// What it is.
    pub kind: Kind,
    /// The provider that it is at.
    pub provider: String,
    /// What people call it.
    pub name: String,
    /// Your own tags on it.
    pub labels: Labels,
    /// Counted up by each change of `spec`.
    pub generation: i64,
    /// The generation that the provider has last been brought to.
    pub observed_generation: i64,
    /// What is asked for.
    #[schemars(with = "Spec")]
    pub spec: Value,
    /// What there is.
    pub status: ResourceStatus,
    /// Whether it must not be deleted.
    pub protection: bool,
    /// What is done when something else has changed it.
    pub reconcile: Reconcile,
    /// When it is deleted by itself; null for never.
    pub expires_at: Option<Timestamp>,
    /// Its state as an entity tag, for `If-Match`.
    pub etag: String,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it was gone; null as long as it is not.
    pub deleted_at: Option<Timestamp>,
}

/// What there is of a resource.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ResourceStatus {
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether it runs; null for what cannot, and as long as nobody has looked.
    pub power: Option<Power>,
    /// The provider's own name for it; null as long as there is none.
    pub provider_ref: Option<String>,
    /// What the provider says of it: addresses and the like.
    pub outputs: Map<String, Value>,
    /// What is to be known of it now.
    pub conditions: Vec<Condition>,
    /// When it was last seen at its provider.
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

/// Why an operation failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OperationError {
    /// What it was, for programs: `invalid`, `denied`, `not_found`, `conflict`, `exhausted`, `protected`, `timeout`,
    /// `reference_failed`, `provider_unavailable` or `failed`.
    pub code: Cow<'static, str>,
    /// What it was and what to do, for people.
    pub detail: String,
    /// The provider's own word for it; null if it was not the provider's.
    pub provider_code: Option<String>,
}

/// What an operation set out from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Before {
    /// How the resource stood.
    pub phase: Option<Phase>,
    /// What was asked for before, if the operation is about something else.
    pub spec: Option<Value>,
    /// Whether it should run, before.
    pub desired_power: Option<Power>,
}

/// An operation as the database has it.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct StoredOperation {
    /// The operation.
    pub id: OperationId,
    /// Its project.
    pub project_id: ProjectId,
    /// What it is done to.
    pub resource_id: ResourceId,
    /// What is done.
    #[sqlx(rename = "type")]
    pub kind: OperationType,
    /// How it stands.
    pub status: OperationStatus,
    /// What is done next.
    pub step: String,
    /// In percent.
    pub progress: i16,
    /// How often the present step was tried again.
    pub attempt: i32,
    /// Why it failed.
    pub error: Option<Json<OperationError>>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// An operation as it is shown.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Operation")]
pub struct OperationView {
    /// The operation's id.
    pub id: OperationId,
    /// The project it belongs to.
    pub project_id: ProjectId,
    /// The resource that it is done to.
    pub resource_id: ResourceId,
    /// What is done.
    #[serde(rename = "type")]
    pub kind: OperationType,
    /// How it stands.
    pub status: OperationStatus,
    /// What is being done, in a word.
    pub step: String,
    /// How far it has come, in percent.
    pub progress: i16,
    /// How often the present step was tried again.
    pub attempt: i32,
    /// Why it failed; null if it did not.
    pub error: Option<OperationError>,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When it ended; null as long as it has not.
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
