//! SQL for operations, as clients use them.

use std::time::Duration;

use sqlx::{PgConnection, types::Json};

use crate::{
    base::{
        id::{self, OperationId, ResourceId},
        identity::tenant::Tenant,
        input::page::{Order, PageRequest},
        runtime::clock::Timestamp,
    },
    db::ProjectItem,
    resources::{
        api::{
            input::OperationFilter,
            model::{Before, StoredOperation, StoredResource},
        },
        engine::lifecycle::OperationType,
        kinds::Kind,
        store::list,
    },
};

/// Columns of [`StoredOperation`] by name, of the table or alias `$of` (empty, or with a trailing dot). `*` would
/// change its shape when a migration runs next to an older server.
macro_rules! operation_columns {
    ($of:literal) => {
        concat!(
            $of,
            "id, ",
            $of,
            "project_id, ",
            $of,
            "resource_id, ",
            $of,
            "type, ",
            $of,
            "status, ",
            $of,
            "step, ",
            $of,
            "progress, ",
            $of,
            "attempt, ",
            $of,
            "error, ",
            $of,
            "created_at, ",
            $of,
            "finished_at"
        )
    };
}
pub(crate) use operation_columns;

impl ProjectItem for id::Operation {
    const PROJECT_OF: &'static str = "SELECT project_id FROM operations WHERE id = $1";
}

/// Row of a new operation.
#[derive(Debug)]
pub struct OperationRow {
    /// Operation id.
    pub id: OperationId,
    /// Type of the operation.
    pub kind: OperationType,
    /// State of the resource before the operation.
    pub before: Before,
    /// Whether the operation is already complete.
    pub is_done: bool,
    /// Time limit in seconds.
    pub operation_timeout: f64,
    /// Trace of the request.
    pub traceparent: String,
    /// Creation time.
    pub created_at: Timestamp,
}

/// Inserts an operation on a resource that the caller has locked or just created.
pub async fn insert(
    db: &mut PgConnection,
    resource: &StoredResource,
    row: OperationRow,
) -> sqlx::Result<StoredOperation> {
    sqlx::query_as(
        concat!("INSERT INTO operations (id, project_id, resource_id, resource_kind, provider, type, status, step, progress, before,
                                 traceparent, created_at, started_at, finished_at, deadline, due_at)
         SELECT $1, $2, $3, $10, $11, $4, CASE WHEN $5 THEN 'succeeded' ELSE 'queued' END, CASE WHEN $5 THEN 'done' ELSE 'queued' END,
                CASE WHEN $5 THEN 100 ELSE 0 END, $6, $7, $8, done_at, done_at, now() + make_interval(secs => $9),
                CASE WHEN NOT $5 THEN now() END
         FROM (SELECT CASE WHEN $5 THEN $8::timestamptz END AS done_at) done RETURNING ", operation_columns!("")),
    )
    .bind(row.id)
    .bind(resource.project_id)
    .bind(resource.id)
    .bind(row.kind)
    .bind(row.is_done)
    .bind(Json(row.before))
    .bind(row.traceparent)
    .bind(row.created_at)
    .bind(row.operation_timeout)
    .bind(resource.kind)
    .bind(&resource.provider)
    .fetch_one(db)
    .await
}

/// Finds the operation in progress on a resource.
pub async fn find_in_progress(db: &mut PgConnection, id: ResourceId) -> sqlx::Result<Option<StoredOperation>> {
    sqlx::query_as(concat!(
        "SELECT ",
        operation_columns!(""),
        " FROM operations WHERE resource_id = $1 AND finished_at IS NULL"
    ))
    .bind(id)
    .fetch_optional(db)
    .await
}

/// Finds the last deletion of one of the tenant's resources.
pub async fn deletion_of(
    db: &mut PgConnection,
    tenant: Tenant,
    id: ResourceId,
) -> sqlx::Result<Option<StoredOperation>> {
    let deletions =
        OperationFilter { project_id: None, resource_id: Some(id), status: None, kind: Some(OperationType::Delete) };
    let last = PageRequest { limit: 1, order: Order::Desc, after: OperationId::LAST };
    Ok(list::operations(db, tenant, Kind::ALL, &deletions, &last).await?.items.pop())
}

/// Operation, with the kind of its resource.
#[derive(Debug, sqlx::FromRow)]
pub struct OperationWithKind {
    /// Stored operation.
    #[sqlx(flatten)]
    pub operation: StoredOperation,
    /// Kind of the resource.
    pub resource_kind: Kind,
}

/// Reads one of the tenant's operations.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: OperationId) -> sqlx::Result<Option<OperationWithKind>> {
    sqlx::query_as(concat!(
        "SELECT ",
        operation_columns!(""),
        ", resource_kind FROM operations WHERE project_id = $1 AND id = $2"
    ))
    .bind(tenant.project_id())
    .bind(id)
    .fetch_optional(db)
    .await
}

/// Requests cancellation of an operation that is in progress and is not a deletion that has started. Returns whether
/// this is the first request. The worker that holds the operation notices the request at its next step and keeps its
/// `lease`. A longer pause is cut short.
pub async fn request_cancel(db: &mut PgConnection, id: OperationId, lease: Duration) -> sqlx::Result<Option<bool>> {
    sqlx::query_scalar(
        "UPDATE operations o SET cancel_requested = true, due_at = least(o.due_at, now() + make_interval(secs => $2))
         FROM (SELECT id, cancel_requested FROM operations WHERE id = $1 FOR NO KEY UPDATE) before
         WHERE o.id = before.id AND (o.status = 'queued' OR o.status = 'running' AND o.type <> 'delete')
         RETURNING NOT before.cancel_requested",
    )
    .bind(id)
    .bind(lease.as_secs_f64())
    .fetch_optional(db)
    .await
}
