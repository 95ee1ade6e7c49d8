//! SQL for resources, as clients use them. The other modules have the SQL for operations, for lists ([`list`]), for the
//! engine's queue ([`queue`]), for workers ([`rows`]), and for reconciliation ([`sweeps`]).

pub mod list;
pub mod operations;
pub mod queue;
pub mod quotas;
pub mod rows;
pub mod sweeps;

use serde_json::Value;
use sqlx::{PgConnection, types::Json};

use super::{
    api::model::{Labels, Reconcile, StoredResource},
    engine::lifecycle::Phase,
    kinds::{
        Kind, Power,
        spec::{Member, Spec},
    },
};
use crate::{
    base::{
        id::{self, ProjectId, ResourceId},
        identity::tenant::Tenant,
        runtime::clock::Timestamp,
    },
    db::ProjectItem,
};

/// Columns of [`StoredResource`] by name, of the table or alias `$of` (empty, or with a trailing dot). `*` would change
/// its shape when a migration runs next to an older server.
macro_rules! resource_columns {
    ($of:literal) => {
        concat!(
            $of,
            "id, ",
            $of,
            "project_id, ",
            $of,
            "kind, ",
            $of,
            "provider, ",
            $of,
            "name, ",
            $of,
            "labels, ",
            $of,
            "spec, ",
            $of,
            "generation, ",
            $of,
            "observed_generation, ",
            $of,
            "phase, ",
            $of,
            "power, ",
            $of,
            "desired_power, ",
            $of,
            "provider_ref, ",
            $of,
            "outputs, ",
            $of,
            "conditions, ",
            $of,
            "last_synced_at, ",
            $of,
            "protection, ",
            $of,
            "reconcile, ",
            $of,
            "expires_at, ",
            $of,
            "version, ",
            $of,
            "created_at, ",
            $of,
            "deleted_at"
        )
    };
}
pub(crate) use resource_columns;

impl ProjectItem for id::Resource {
    const PROJECT_OF: &'static str = "SELECT project_id FROM resources WHERE id = $1";
}

/// Reads one of the tenant's resources.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: ResourceId) -> sqlx::Result<Option<StoredResource>> {
    sqlx::query_as(concat!("SELECT ", resource_columns!(""), " FROM resources WHERE project_id = $1 AND id = $2"))
        .bind(tenant.project_id())
        .bind(id)
        .fetch_optional(db)
        .await
}

/// Reads one of the tenant's resources and locks it against changes until the transaction ends.
pub async fn lock(db: &mut PgConnection, tenant: Tenant, id: ResourceId) -> sqlx::Result<Option<StoredResource>> {
    sqlx::query_as(concat!(
        "SELECT ",
        resource_columns!(""),
        " FROM resources WHERE project_id = $1 AND id = $2 FOR NO KEY UPDATE"
    ))
    .bind(tenant.project_id())
    .bind(id)
    .fetch_optional(db)
    .await
}

/// Reads a resource and locks it for deletion: against changes and new references. Waits for concurrent transactions
/// that add a reference.
pub async fn lock_for_deletion(
    db: &mut PgConnection,
    tenant: Tenant,
    id: ResourceId,
) -> sqlx::Result<Option<StoredResource>> {
    sqlx::query_as(concat!(
        "SELECT ",
        resource_columns!(""),
        " FROM resources WHERE project_id = $1 AND id = $2 FOR UPDATE"
    ))
    .bind(tenant.project_id())
    .bind(id)
    .fetch_optional(db)
    .await
}

/// Reads the tenant's resources with these ids and locks them against deletion until the transaction ends.
pub async fn lock_key_share(
    db: &mut PgConnection,
    tenant: Tenant,
    ids: &[ResourceId],
) -> sqlx::Result<Vec<StoredResource>> {
    sqlx::query_as(concat!(
        "SELECT ",
        resource_columns!(""),
        " FROM resources WHERE project_id = $1 AND id = ANY ($2) ORDER BY id FOR KEY SHARE"
    ))
    .bind(tenant.project_id())
    .bind(ids)
    .fetch_all(db)
    .await
}

/// Like [`lock_key_share`], for resources that only one other can refer to: concurrent callers wait.
pub async fn lock_no_key_update(
    db: &mut PgConnection,
    tenant: Tenant,
    ids: &[ResourceId],
) -> sqlx::Result<Vec<StoredResource>> {
    sqlx::query_as(concat!(
        "SELECT ",
        resource_columns!(""),
        " FROM resources WHERE project_id = $1 AND id = ANY ($2) ORDER BY id FOR NO KEY UPDATE"
    ))
    .bind(tenant.project_id())
    .bind(ids)
    .fetch_all(db)
    .await
}

/// Row of a new resource.
#[derive(Debug)]
pub struct ResourceRow {
    /// Resource id.
    pub id: ResourceId,
    /// Kind of the resource.
    pub kind: Kind,
    /// Name of the provider.
    pub provider: String,
    /// Human-readable name.
    pub name: String,
    /// Client-defined labels.
    pub labels: Labels,
    /// Desired state; empty for an import.
    pub spec: Value,
    /// Desired power state.
    pub desired_power: Option<Power>,
    /// Provider's identifier of the object, for an import.
    pub provider_ref: Option<String>,
    /// Whether the resource is protected from deletion.
    pub protection: bool,
    /// Reaction to drift.
    pub reconcile: Reconcile,
    /// Time of the automatic deletion.
    pub expires_at: Option<Timestamp>,
    /// Creation time.
    pub created_at: Timestamp,
}

/// Inserts a resource into the tenant's project.
pub async fn insert(db: &mut PgConnection, tenant: Tenant, row: ResourceRow) -> sqlx::Result<StoredResource> {
    sqlx::query_as(
        concat!("INSERT INTO resources (id, project_id, kind, provider, name, labels, spec, desired_power, provider_ref, protection,
                                reconcile, expires_at, expiry_due_at, created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $12, $13) RETURNING ", resource_columns!("")),
    )
    .bind(row.id)
    .bind(tenant.project_id())
    .bind(row.kind)
    .bind(row.provider)
    .bind(row.name)
    .bind(Json(row.labels))
    .bind(row.spec)
    .bind(row.desired_power)
    .bind(row.provider_ref)
    .bind(row.protection)
    .bind(row.reconcile)
    .bind(row.expires_at)
    .bind(row.created_at)
    .fetch_one(db)
    .await
}

/// Changes of a resource; `None` leaves a column unchanged.
#[derive(Debug, Default)]
pub struct ResourceChange {
    /// Human-readable name.
    pub name: Option<String>,
    /// Client-defined labels.
    pub labels: Option<Labels>,
    /// Desired state; increments the generation.
    pub spec: Option<Value>,
    /// Desired power state.
    pub desired_power: Option<Power>,
    /// Whether the resource is protected from deletion.
    pub protection: Option<bool>,
    /// Reaction to drift.
    pub reconcile: Option<Reconcile>,
    /// Time of the automatic deletion; the inner `None` removes it.
    pub expires_at: Option<Option<Timestamp>>,
    /// Phase in the life cycle.
    pub phase: Option<Phase>,
}

/// Updates a resource that the caller has locked.
pub async fn update(db: &mut PgConnection, id: ResourceId, change: ResourceChange) -> sqlx::Result<StoredResource> {
    sqlx::query_as(
        concat!("UPDATE resources SET name = coalesce($2, name), labels = coalesce($3, labels), spec = coalesce($4, spec),
                generation = generation + ($4 IS NOT NULL)::int, desired_power = coalesce($5, desired_power),
                protection = coalesce($6, protection), reconcile = coalesce($7, reconcile),
                expires_at = CASE WHEN $8 THEN $9 ELSE expires_at END,
                expiry_due_at = CASE WHEN $8 THEN $9 ELSE expiry_due_at END,
                conditions = CASE WHEN $8 THEN jsonb_path_query_array(conditions, '$[*] ? (@.type != \"expired\")') ELSE conditions END,
                phase = coalesce($10, phase), version = version + 1
         WHERE id = $1 RETURNING ", resource_columns!("")),
    )
    .bind(id)
    .bind(change.name)
    .bind(change.labels.map(Json))
    .bind(change.spec)
    .bind(change.desired_power)
    .bind(change.protection)
    .bind(change.reconcile)
    .bind(change.expires_at.is_some())
    .bind(change.expires_at.flatten())
    .bind(change.phase)
    .fetch_one(db)
    .await
}

/// Replaces the references of a resource.
pub async fn replace_references(db: &mut PgConnection, from: ResourceId, spec: &Spec) -> sqlx::Result<()> {
    let (members, to): (Vec<&str>, Vec<ResourceId>) =
        spec.references().map(|(member, to)| (member.as_str(), *to)).unzip();
    sqlx::query("DELETE FROM resource_references WHERE from_id = $1 AND to_id <> ALL ($2)")
        .bind(from)
        .bind(&to)
        .execute(&mut *db)
        .await?;
    sqlx::query(
        "INSERT INTO resource_references (from_id, to_id, member) SELECT $1, n.to_id, n.member FROM unnest($2::uuid[], $3::text[]) AS n (to_id, member)
         ON CONFLICT (from_id, to_id) DO NOTHING",
    )
    .bind(from)
    .bind(to)
    .bind(members)
    .execute(db)
    .await
    .map(drop)
}

/// Lists up to 10 resources that refer to a resource.
pub async fn dependents(db: &mut PgConnection, id: ResourceId) -> sqlx::Result<Vec<ResourceId>> {
    // A comparison of rows, which only one index supports (src/db/lists/scan.rs).
    sqlx::query_scalar(
        "SELECT from_id FROM (
             SELECT to_id, from_id FROM resource_references WHERE (to_id, from_id) > ($1, $2) ORDER BY to_id, from_id LIMIT 10
         ) r WHERE to_id = $1 ORDER BY from_id",
    )
    .bind(id)
    .bind(ResourceId::FIRST)
    .fetch_all(db)
    .await
}

/// Finds the instances, other than `except`, that have these volumes attached. A volume is attached to at most one
/// instance.
pub async fn attached_instances(
    db: &mut PgConnection,
    volumes: &[ResourceId],
    except: Option<ResourceId>,
) -> sqlx::Result<Vec<(ResourceId, ResourceId)>> {
    sqlx::query_as(
        "SELECT to_id, from_id FROM resource_references
         WHERE to_id = ANY ($1) AND member = $2 AND from_id IS DISTINCT FROM $3 ORDER BY to_id",
    )
    .bind(volumes)
    .bind(Member::Volumes)
    .bind(except)
    .fetch_all(db)
    .await
}

/// Finds the resource that owns an object, and its project.
pub async fn owner_of_object(
    db: &mut PgConnection,
    provider: &str,
    kind: Kind,
    reference: &str,
) -> sqlx::Result<Option<(ResourceId, ProjectId)>> {
    sqlx::query_as(
        "SELECT id, project_id FROM resources
         WHERE provider = $1 AND kind = $2 AND provider_ref = $3 AND phase <> 'deleted'",
    )
    .bind(provider)
    .bind(kind)
    .bind(reference)
    .fetch_optional(db)
    .await
}

/// Lists up to 10 resources of a project that are not deleted.
pub async fn list_undeleted(db: &mut PgConnection, project: ProjectId) -> sqlx::Result<Vec<ResourceId>> {
    sqlx::query_scalar(
        "SELECT id FROM (SELECT project_id, id FROM resources WHERE (project_id, id) > ($1, $2) AND phase <> 'deleted'
                         ORDER BY project_id, id LIMIT 10) first
         WHERE project_id = $1 ORDER BY id",
    )
    .bind(project)
    .bind(ResourceId::FIRST)
    .fetch_all(db)
    .await
}
