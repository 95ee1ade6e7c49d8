//! SQL for resources as the workers see them.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sqlx::{PgConnection, types::Json};
use uuid::Uuid;

use super::{
    kind::{Kind, Power},
    lifecycle::Phase,
    model::{Condition, StoredResource},
    repo::resource_columns,
    spec::Spec,
};
use crate::base::{
    clock::Timestamp,
    id::{ProjectId, ResourceId},
};

/// A resource as it is now.
pub async fn resource(db: &mut PgConnection, id: ResourceId) -> sqlx::Result<Option<StoredResource>> {
    sqlx::query_as(concat!("SELECT ", resource_columns!(""), " FROM resources WHERE id = $1"))
        .bind(id)
        .fetch_optional(db)
        .await
}

/// The same, which nobody else can change until the transaction ends.
pub async fn lock(db: &mut PgConnection, id: ResourceId) -> sqlx::Result<Option<StoredResource>> {
    sqlx::query_as(concat!("SELECT ", resource_columns!(""), " FROM resources WHERE id = $1 FOR NO KEY UPDATE"))
        .bind(id)
        .fetch_optional(db)
        .await
}

/// What is known of a thing that a spec refers to.
#[derive(Clone, Debug, sqlx::FromRow)]
pub struct Reference {
    /// The thing.
    pub id: ResourceId,
    /// Where it is in its life.
    pub phase: Phase,
    /// Its provider's name for it.
    pub provider_ref: Option<String>,
}

/// How the things stand that a spec refers to.
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

/// The resources of a project at a provider that have objects of these references.
pub async fn owners(
    db: &mut PgConnection,
    (project, provider): (ProjectId, &str),
    references: &[&str],
) -> sqlx::Result<BTreeMap<String, ResourceId>> {
    let found: Vec<(String, ResourceId)> = sqlx::query_as(
        "SELECT provider_ref, id FROM resources
         WHERE project_id = $1 AND provider = $2 AND provider_ref = ANY ($3) AND phase <> 'deleted'",
    )
    .bind(project)
    .bind(provider)
    .bind(references)
    .fetch_all(db)
    .await?;
    Ok(found.into_iter().collect())
}

/// Notes that a resource refers to nothing any more.
pub async fn refer_to_nothing(db: &mut PgConnection, from: ResourceId) -> sqlx::Result<()> {
    sqlx::query("DELETE FROM resource_references WHERE from_id = $1").bind(from).execute(db).await.map(drop)
}

/// What an operation, or a look, leaves a resource as.
#[derive(Debug)]
pub struct Settled {
    /// Where it is in its life.
    pub phase: Phase,
    /// What is asked for.
    pub spec: Value,
    /// Counted up where that was changed back.
    pub generation: i64,
    /// How far that has come.
    pub observed_generation: i64,
    /// Whether it runs.
    pub power: Option<Power>,
    /// Whether it should.
    pub desired_power: Option<Power>,
    /// Its object.
    pub provider_ref: Option<String>,
    /// What the provider says of it.
    pub outputs: Map<String, Value>,
    /// What is to be known of it.
    pub conditions: Vec<Condition>,
    /// Whether it was seen just now.
    pub seen_at: Option<Timestamp>,
    /// When it was gone.
    pub deleted_at: Option<Timestamp>,
}

/// Leaves a resource as it is now. It must be locked.
pub async fn settle(db: &mut PgConnection, id: ResourceId, settled: &Settled) -> sqlx::Result<StoredResource> {
    sqlx::query_as(concat!("UPDATE resources SET phase = $2, spec = $3, generation = $4, observed_generation = $5, power = $6, desired_power = $7,
                provider_ref = $8, outputs = $9, conditions = $10, last_synced_at = coalesce($11, last_synced_at), deleted_at = $12,
                settled_at = now(), version = version + 1
         WHERE id = $1 RETURNING ", resource_columns!("")))
    .bind(id)
    .bind(settled.phase)
    .bind(Json(&settled.spec))
    .bind(settled.generation)
    .bind(settled.observed_generation)
    .bind(settled.power)
    .bind(settled.desired_power)
    .bind(&settled.provider_ref)
    .bind(Json(&settled.outputs))
    .bind(Json(&settled.conditions))
    .bind(settled.seen_at)
    .bind(settled.deleted_at)
    .fetch_one(db)
    .await
}

/// Gives back the place that a thing had among those its project may have.
pub async fn give_back(db: &mut PgConnection, project: ProjectId, kind: Kind) -> sqlx::Result<()> {
    sqlx::query("UPDATE resource_counts SET count = count - 1 WHERE project_id = $1 AND kind = $2 AND count > 0")
        .bind(project)
        .bind(kind)
        .execute(db)
        .await
        .map(drop)
}

/// The id that tells this deployment's objects from others'.
pub async fn deployment(db: &mut PgConnection) -> sqlx::Result<Uuid> {
    sqlx::query_scalar("SELECT id FROM deployment").fetch_one(db).await
}

/// Resources whose time is up, those first that have waited longest.
pub async fn expiring(db: &mut PgConnection, now: Timestamp, limit: i64) -> sqlx::Result<Vec<ResourceId>> {
    sqlx::query_scalar(
        "SELECT id FROM resources
         WHERE expiry_due_at <= $1 AND phase <> 'deleted' AND NOT protection ORDER BY expiry_due_at LIMIT $2",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(db)
    .await
}

/// A resource that nobody else can change, or refer to, until the transaction ends; none if another is at it.
pub async fn lock_to_delete(db: &mut PgConnection, id: ResourceId) -> sqlx::Result<Option<StoredResource>> {
    sqlx::query_as(concat!("SELECT ", resource_columns!(""), " FROM resources WHERE id = $1 FOR UPDATE SKIP LOCKED"))
        .bind(id)
        .fetch_optional(db)
        .await
}

/// Has a resource that should be gone looked at later, with these conditions until then.
pub async fn expire_later(
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
