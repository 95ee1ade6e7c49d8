//! SQL for resources as clients see them. What the engine does with them is its own.

pub mod operations;
pub mod quotas;

use serde_json::Value;
use sqlx::{PgConnection, types::Json};

use super::{
    input::ResourceFilter,
    kind::{Kind, Power},
    lifecycle::Phase,
    model::{Labels, Reconcile, StoredResource},
    spec::{Member, Spec},
};
use crate::{
    base::{
        clock::Timestamp,
        id::{self, ProjectId, ResourceId},
        page::{Page, PageRequest, keyset},
        tenant::Tenant,
    },
    db::ProjectItem,
};

/// The columns of [`StoredResource`], by name, of the table or alias `$of` (empty, or with a dot at its end): the shape of
/// `*` changes when a migration runs beside an older server.
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

/// One of the tenant's resources.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: ResourceId) -> sqlx::Result<Option<StoredResource>> {
    sqlx::query_as(concat!("SELECT ", resource_columns!(""), " FROM resources WHERE project_id = $1 AND id = $2"))
        .bind(tenant.project_id())
        .bind(id)
        .fetch_optional(db)
        .await
}

/// One of the tenant's resources, which nobody else changes until the transaction ends.
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

/// The same, to be deleted: nobody else begins to refer to it either, and whoever has begun is waited for.
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

/// Those of the tenant's resources that have these ids, none of which is deleted until the transaction ends.
pub async fn share(db: &mut PgConnection, tenant: Tenant, ids: &[ResourceId]) -> sqlx::Result<Vec<StoredResource>> {
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

/// As [`share`], for what only one can refer to: whoever else wants to waits.
pub async fn claim(db: &mut PgConnection, tenant: Tenant, ids: &[ResourceId]) -> sqlx::Result<Vec<StoredResource>> {
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

/// The tenant's resources of some kinds.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    kinds: &[Kind],
    filter: &ResourceFilter,
    page: &PageRequest<id::Resource>,
) -> sqlx::Result<Page<StoredResource, id::Resource>> {
    let (pairs, keys) = filter.labels();
    let sql = keyset!(
        page,
        "id",
        concat!(
            "SELECT ",
            resource_columns!(""),
            " FROM resources WHERE project_id = $3 AND kind = ANY ($4) AND ($5::text IS NULL OR provider = $5)
           AND CASE WHEN $6::text IS NULL THEN phase <> 'deleted' ELSE phase = $6 END
           AND labels @> $7 AND labels ?& $8"
        )
    );
    let rows: Vec<StoredResource> = sqlx::query_as(sql)
        .bind(page.after)
        .bind(page.rows())
        .bind(tenant.project_id())
        .bind(texts(kinds))
        .bind(filter.provider.as_deref())
        .bind(filter.phase.map(Phase::as_str))
        .bind(Json(pairs))
        .bind(keys)
        .fetch_all(db)
        .await?;
    Ok(page.page(rows, |resource| resource.id))
}

fn texts(kinds: &[Kind]) -> Vec<&'static str> {
    kinds.iter().map(|kind| kind.as_str()).collect()
}

/// What a new resource is made of.
#[derive(Debug)]
pub struct ResourceRow {
    /// The resource.
    pub id: ResourceId,
    /// What it is.
    pub kind: Kind,
    /// Where.
    pub provider: String,
    /// What people call it.
    pub name: String,
    /// The client's own tags.
    pub labels: Labels,
    /// What is asked for; nothing of what is imported.
    pub spec: Value,
    /// Whether it shall run.
    pub desired_power: Option<Power>,
    /// The object that there is, of what is imported.
    pub provider_ref: Option<String>,
    /// Whether it must not be deleted.
    pub protection: bool,
    /// What is done about drift.
    pub reconcile: Reconcile,
    /// When it is deleted by itself.
    pub expires_at: Option<Timestamp>,
    /// When it is asked for.
    pub created_at: Timestamp,
}

/// Adds a resource to the tenant's project.
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

/// What is changed of a resource; what is none stays as it is.
#[derive(Debug, Default)]
pub struct ResourceChange {
    /// What people call it.
    pub name: Option<String>,
    /// The client's own tags.
    pub labels: Option<Labels>,
    /// What is asked for: another generation.
    pub spec: Option<Value>,
    /// Whether it shall run.
    pub desired_power: Option<Power>,
    /// Whether it must not be deleted.
    pub protection: Option<bool>,
    /// What is done about drift.
    pub reconcile: Option<Reconcile>,
    /// When it is deleted by itself, if that changes; none for never.
    pub expires_at: Option<Option<Timestamp>>,
    /// How it stands from now on.
    pub phase: Option<Phase>,
}

/// Changes a resource that the caller has locked.
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

/// Notes what a resource refers to, in place of what it referred to before.
pub async fn refer(db: &mut PgConnection, from: ResourceId, spec: &Spec) -> sqlx::Result<()> {
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

/// A few of those that refer to a resource.
pub async fn dependents(db: &mut PgConnection, id: ResourceId) -> sqlx::Result<Vec<ResourceId>> {
    sqlx::query_scalar("SELECT from_id FROM resource_references WHERE to_id = $1 ORDER BY from_id LIMIT 10")
        .bind(id)
        .fetch_all(db)
        .await
}

/// Who has these volumes, of which each has one owner at most: the volume and the instance, unless that is `besides`.
pub async fn holders(
    db: &mut PgConnection,
    volumes: &[ResourceId],
    besides: Option<ResourceId>,
) -> sqlx::Result<Vec<(ResourceId, ResourceId)>> {
    sqlx::query_as(
        "SELECT to_id, from_id FROM resource_references
         WHERE to_id = ANY ($1) AND member = $2 AND from_id IS DISTINCT FROM $3 ORDER BY to_id",
    )
    .bind(volumes)
    .bind(Member::Volumes)
    .bind(besides)
    .fetch_all(db)
    .await
}

/// Whose an object is already: the resource, and its project.
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

/// A few of a project's resources that are not gone.
pub async fn alive(db: &mut PgConnection, project: ProjectId) -> sqlx::Result<Vec<ResourceId>> {
    sqlx::query_scalar("SELECT id FROM resources WHERE project_id = $1 AND phase <> 'deleted' ORDER BY id LIMIT 10")
        .bind(project)
        .fetch_all(db)
        .await
}
