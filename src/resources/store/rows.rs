//! SQL for resources, as the workers use them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::resource_columns;
use crate::{
    base::{
        id::{ProjectId, ResourceId},
        runtime::clock::Timestamp,
    },
    resources::{
        api::model::{Condition, StoredResource},
        engine::lifecycle::Phase,
        kinds::{Kind, Power, spec::Spec},
    },
};

/// Reads a resource.
pub async fn resource(db: &mut PgConnection, id: ResourceId) -> sqlx::Result<Option<StoredResource>> {
    sqlx::query_as(concat!("SELECT ", resource_columns!(""), " FROM resources WHERE id = $1"))
        .bind(id)
        .fetch_optional(db)
        .await
}

/// Reads a resource and locks it against changes until the transaction ends.
pub async fn lock(db: &mut PgConnection, id: ResourceId) -> sqlx::Result<Option<StoredResource>> {
    sqlx::query_as(concat!("SELECT ", resource_columns!(""), " FROM resources WHERE id = $1 FOR NO KEY UPDATE"))
        .bind(id)
        .fetch_optional(db)
        .await
}

/// State of a resource that a spec refers to.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Reference {
    /// Resource id.
    pub id: ResourceId,
    /// Phase in the life cycle.
    pub phase: Phase,
    /// Provider's identifier of the object.
    pub provider_ref: Option<String>,
}

/// Reads the state of the resources that a spec refers to.
pub async fn references(db: &mut PgConnection, spec: &Spec) -> sqlx::Result<BTreeMap<ResourceId, Reference>> {
    let ids: Vec<ResourceId> = spec.references().map(|(_, id)| *id).collect();
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let found: Vec<Reference> = sqlx::query_as("SELECT id, phase, provider_ref FROM resources WHERE id = ANY ($1)")
        .bind(ids)
        .fetch_all(db)
        .await?;
    Ok(found.into_iter().map(|reference| (reference.id, reference)).collect())
}

/// Finds the resources of a project at a provider that own objects with these references.
pub async fn owners(
    db: &mut PgConnection,
    (project, provider): (ProjectId, &str),
    references: &[&str],
) -> sqlx::Result<BTreeMap<String, ResourceId>> {
    let found: Vec<(String, ResourceId)> = sqlx::query_as(
        "SELECT provider_ref, id FROM (
             SELECT provider_ref, id, project_id FROM resources
             WHERE provider = $2 AND kind = ANY ($4) AND provider_ref = ANY ($3) AND phase <> 'deleted' OFFSET 0) owners
         WHERE project_id = $1",
    )
    .bind(project)
    .bind(provider)
    .bind(references)
    .bind(Kind::ALL.iter().map(|kind| kind.as_str()).collect::<Vec<_>>())
    .fetch_all(db)
    .await?;
    Ok(found.into_iter().collect())
}

/// Deletes all references of a resource.
pub async fn delete_references(db: &mut PgConnection, from: ResourceId) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM resource_references WHERE from_id = $1").bind(from).execute(db).await.map(drop)
}

/// State of a resource after an operation.
#[derive(Debug)]
pub struct ResourceOutcome {
    /// Phase in the life cycle.
    pub phase: Phase,
    /// Desired state.
    pub spec: Value,
    /// Generation of the spec, incremented if the spec was reverted.
    pub generation: i64,
    /// Generation that the provider was last brought to.
    pub observed_generation: i64,
    /// Observed power state.
    pub power: Option<Power>,
    /// Desired power state.
    pub desired_power: Option<Power>,
    /// Provider's identifier of the object.
    pub provider_ref: Option<String>,
    /// Properties that the provider reports.
    pub outputs: Map<String, Value>,
    /// Conditions that now hold.
    pub conditions: Vec<Condition>,
    /// Time of the last read at the provider; `None` if it was not read.
    pub observed_at: Option<Timestamp>,
    /// Deletion time.
    pub deleted_at: Option<Timestamp>,
}

/// Stores the state of a resource after an operation. The resource must be locked.
pub async fn store_outcome(
    db: &mut PgConnection,
    id: ResourceId,
    outcome: &ResourceOutcome,
) -> sqlx::Result<StoredResource> {
    sqlx::query_as(concat!("UPDATE resources SET phase = $2, spec = $3, generation = $4, observed_generation = $5, power = $6, desired_power = $7,
                provider_ref = $8, outputs = $9, conditions = $10, last_synced_at = coalesce($11, last_synced_at), deleted_at = $12,
                settled_at = now(), version = version + 1
         WHERE id = $1 RETURNING ", resource_columns!("")))
    .bind(id)
    .bind(outcome.phase)
    .bind(Json(&outcome.spec))
    .bind(outcome.generation)
    .bind(outcome.observed_generation)
    .bind(outcome.power)
    .bind(outcome.desired_power)
    .bind(&outcome.provider_ref)
    .bind(Json(&outcome.outputs))
    .bind(Json(&outcome.conditions))
    .bind(outcome.observed_at)
    .bind(outcome.deleted_at)
    .fetch_one(db)
    .await
}

/// Returns a resource's place to the project's quota.
pub async fn release_quota(db: &mut PgConnection, project: ProjectId, kind: Kind) -> sqlx::Result<()> {
    sqlx::query("UPDATE resource_counts SET count = count - 1 WHERE project_id = $1 AND kind = $2 AND count > 0")
        .bind(project)
        .bind(kind)
        .execute(db)
        .await
        .map(drop)
}

/// Id of the deployment, which distinguishes its objects from those of others.
pub async fn deployment(db: &mut PgConnection) -> sqlx::Result<Uuid> {
    sqlx::query_scalar("SELECT id FROM deployment").fetch_one(db).await
}

/// Lists expired resources, the longest overdue first.
pub async fn list_expired(db: &mut PgConnection, now: Timestamp, limit: i64) -> sqlx::Result<Vec<ResourceId>> {
    sqlx::query_scalar(
        "SELECT id FROM resources
         WHERE expiry_due_at <= $1 AND phase <> 'deleted' AND NOT protection ORDER BY expiry_due_at LIMIT $2",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// Locks a resource against changes and new references until the transaction ends; `None` if it is locked already.
pub async fn try_lock_for_deletion(db: &mut PgConnection, id: ResourceId) -> sqlx::Result<Option<StoredResource>> {
    sqlx::query_as(concat!("SELECT ", resource_columns!(""), " FROM resources WHERE id = $1 FOR UPDATE SKIP LOCKED"))
        .bind(id)
        .fetch_optional(db)
        .await
}

/// Postpones the deletion of an expired resource, and stores its conditions.
pub async fn postpone_expiry(
    db: &mut PgConnection,
    id: ResourceId,
    at: Timestamp,
    conditions: Option<&[Condition]>,
) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE resources SET expiry_due_at = $2, conditions = coalesce($3, conditions),
                version = version + CASE WHEN conditions IS DISTINCT FROM coalesce($3, conditions) THEN 1 ELSE 0 END
         WHERE id = $1",
    )
    .bind(id)
    .bind(at)
    .bind(conditions.map(Json))
    .execute(db)
    .await
    .map(drop)
}
