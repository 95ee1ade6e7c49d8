//! SQL of the operation queue. Leases use the database's clock, which all servers share. Lock order: the resource
//! before its operation.
//!
//! Statements about one operation ask for its status, and statements about the operation of a resource whether
//! `finished_at` is NULL, not whether `due_at` is set, which is the same: the indexes of the queue are empty when no operation
//! is in progress, and the planner would then prefer to read all of one of them.

use std::time::Duration;

use sqlx::{PgConnection, types::Json};

use super::{operations::operation_columns, resource_columns};
use crate::{
    base::{
        id::{OperationId, ProjectId, ResourceId},
        runtime::clock::Timestamp,
    },
    db::delete_batch,
    metrics::queue_depth::Depth,
    resources::{
        api::model::{Before, OperationError, StoredOperation, StoredResource},
        engine::{
            lifecycle::{OperationStatus, OperationType},
            machine::{OperationState, Step},
        },
        kinds::{Power, spec::Spec},
        store,
    },
};

/// Claimed operation, with everything that is needed to continue it.
#[derive(Debug, sqlx::FromRow)]
pub struct ClaimedOperation {
    /// Operation id.
    pub id: OperationId,
    /// Resource that the operation changes.
    pub resource_id: ResourceId,
    /// Project that the operation belongs to.
    pub project_id: ProjectId,
    /// Type of the operation.
    #[sqlx(rename = "type")]
    pub kind: OperationType,
    /// Current step.
    pub step: String,
    /// Number of failed attempts of the current step.
    pub attempt: i32,
    /// Error that the operation will end with.
    pub error: Option<Json<OperationError>>,
    /// State of the resource before the operation.
    pub before: Json<Before>,
    /// Whether a client has requested cancellation.
    pub cancel_requested: bool,
    /// Trace that the operation belongs to.
    pub traceparent: Option<String>,
    /// Whether the deadline has passed.
    pub overdue: bool,
    /// Fencing token of this claim.
    pub fence: i64,
}

/// Claims up to `limit` due operations, with a lease. They are due again when the lease expires. Operations of
/// providers that this server does not have are left to other servers until they are overdue.
pub async fn claim(
    db: &mut PgConnection,
    providers: &[&str],
    limit: usize,
    lease: Duration,
) -> sqlx::Result<Vec<ClaimedOperation>> {
    sqlx::query_as(
        "WITH ours AS MATERIALIZED (
             SELECT o.id, o.due_at FROM unnest($1::text[]) AS p (provider) CROSS JOIN LATERAL (
                 SELECT id, due_at FROM operations WHERE provider = p.provider AND due_at <= now()
                 ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED) o),
         overdue AS MATERIALIZED (
             SELECT id, due_at FROM operations WHERE deadline <= now() AND due_at <= now()
             ORDER BY deadline LIMIT $2 FOR UPDATE SKIP LOCKED)
         UPDATE operations o SET status = 'running', started_at = coalesce(o.started_at, now()), fence = o.fence + 1,
                due_at = now() + make_interval(secs => $3)
         WHERE o.id = ANY (ARRAY(
             SELECT id FROM (SELECT id, due_at FROM ours UNION SELECT id, due_at FROM overdue) due ORDER BY due_at LIMIT $2))
         RETURNING o.id, o.resource_id, o.project_id, o.type, o.step, o.attempt, o.error, o.before, o.cancel_requested,
                   o.traceparent, o.deadline <= now() AS overdue, o.fence",
    )
    .bind(providers)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .bind(lease.as_secs_f64())
    .fetch_all(db)
    .await
}

/// Sets the phase of pending resources to `provisioning`.
pub async fn mark_provisioning(db: &mut PgConnection, resources: &[ResourceId]) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE resources SET phase = 'provisioning', version = version + 1 WHERE id = ANY ($1) AND phase = 'pending'",
    )
    .bind(resources)
    .execute(db)
    .await
    .map(drop)
}

/// Renews the lease of an operation. Returns whether it is still held.
pub async fn renew(db: &mut PgConnection, claimed: &ClaimedOperation, lease: Duration) -> sqlx::Result<bool> {
    sqlx::query("UPDATE operations SET due_at = now() + make_interval(secs => $3) WHERE id = $1 AND fence = $2 AND status IN ('queued', 'running')")
        .bind(claimed.id)
        .bind(claimed.fence)
        .bind(lease.as_secs_f64())
        .execute(db)
        .await
        .map(|done| done.rows_affected() == 1)
}

/// Holder of an operation after a save.
#[derive(Clone, Copy, Debug)]
pub enum Holder {
    /// This server, with a lease of this duration.
    ThisServer(Duration),
    /// Any server, after this pause.
    AnyServer(Duration),
}

/// Stores the progress of an operation and the reference of its object. Returns whether the operation is still held. A
/// revert gets `revert_timeout` more time. A released operation gets a new fencing token, so that a late renewal of the
/// old lease does not delay it.
pub async fn save(
    db: &mut PgConnection,
    claimed: &ClaimedOperation,
    state: &OperationState,
    holder: Holder,
    revert_timeout: Option<Duration>,
) -> sqlx::Result<bool> {
    let due = match holder {
        Holder::ThisServer(lease) => lease,
        Holder::AnyServer(pause) => pause,
    };
    sqlx::query(
        "WITH locked AS MATERIALIZED (SELECT id FROM resources WHERE id = $3 FOR NO KEY UPDATE),
         saved AS (
             UPDATE operations o SET fence = o.fence + $11, step = $4, progress = greatest(o.progress, $5), attempt = $6, error = $7,
                    due_at = now() + make_interval(secs => $8),
                    deadline = CASE WHEN $9::float8 IS NULL THEN o.deadline ELSE now() + make_interval(secs => $9) END
             FROM locked WHERE o.id = $1 AND o.fence = $2 AND o.status IN ('queued', 'running') RETURNING o.resource_id),
         referred AS (
             UPDATE resources r SET provider_ref = $10, version = r.version + 1 FROM saved
             WHERE r.id = saved.resource_id AND r.provider_ref IS DISTINCT FROM $10)
         SELECT FROM saved",
    )
    .bind(claimed.id)
    .bind(claimed.fence)
    .bind(claimed.resource_id)
    .bind(state.step.as_str())
    .bind(state.step.progress())
    .bind(i32::try_from(state.attempt).unwrap_or(i32::MAX))
    .bind(state.failure.as_ref().map(Json))
    .bind(due.as_secs_f64())
    .bind(revert_timeout.map(|revert_timeout| revert_timeout.as_secs_f64()))
    .bind(&state.reference)
    .bind(i64::from(matches!(holder, Holder::AnyServer(_))))
    .execute(db)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Stores the state of an imported object as the desired state.
pub async fn adopt_spec(
    db: &mut PgConnection,
    claimed: &ClaimedOperation,
    spec: &Spec,
    power: Option<Power>,
) -> sqlx::Result<bool> {
    let done = sqlx::query(
        "UPDATE resources SET spec = $3, desired_power = $4, version = version + 1
         WHERE id = $2
           AND EXISTS (SELECT FROM operations WHERE id = $1 AND fence = $5 AND status IN ('queued', 'running'))",
    )
    .bind(claimed.id)
    .bind(claimed.resource_id)
    .bind(Json(spec.to_json()))
    .bind(power)
    .bind(claimed.fence)
    .execute(&mut *db)
    .await?;
    store::replace_references(db, claimed.resource_id, spec).await?;
    Ok(done.rows_affected() == 1)
}

/// Outcome of an operation.
#[derive(Debug)]
pub struct Completion {
    /// Final status.
    pub status: OperationStatus,
    /// Reason of a failure.
    pub error: Option<OperationError>,
    /// Completion time.
    pub at: Timestamp,
}

/// Ends an operation; `None` if it is no longer held. The resource must be locked.
pub async fn end(
    db: &mut PgConnection,
    claimed: &ClaimedOperation,
    completion: &Completion,
) -> sqlx::Result<Option<StoredOperation>> {
    sqlx::query_as(concat!("UPDATE operations SET status = $3, step = CASE WHEN $3 = 'succeeded' THEN $6 ELSE step END,
                progress = CASE WHEN $3 = 'succeeded' THEN 100 ELSE progress END, error = $4, finished_at = $5, due_at = NULL
         WHERE id = $1 AND fence = $2 AND status IN ('queued', 'running')
         RETURNING ", operation_columns!(""))
    )
    .bind(claimed.id)
    .bind(claimed.fence)
    .bind(completion.status)
    .bind(completion.error.as_ref().map(Json))
    .bind(completion.at)
    .bind(Step::Done.as_str())
    .fetch_optional(db)
    .await
}

/// Operation that the server itself starts.
#[derive(Debug)]
pub struct NewOperation {
    /// Type of the operation.
    pub kind: OperationType,
    /// Creation time.
    pub at: Timestamp,
    /// Time limit.
    pub operation_timeout: Duration,
}

/// Starts an operation on a locked resource without an operation in progress, and updates its phase.
pub async fn start_operation(
    db: &mut PgConnection,
    resource: &StoredResource,
    new_operation: &NewOperation,
) -> sqlx::Result<StoredResource> {
    let before = Before { phase: Some(resource.phase), spec: None, desired_power: resource.desired_power };
    sqlx::query(
        "INSERT INTO operations (id, project_id, resource_id, type, before, created_at, deadline, resource_kind, provider)
         VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(secs => $7), $8, $9)",
    )
    .bind(OperationId::new())
    .bind(resource.project_id)
    .bind(resource.id)
    .bind(new_operation.kind)
    .bind(Json(before))
    .bind(new_operation.at)
    .bind(new_operation.operation_timeout.as_secs_f64())
    .bind(resource.kind)
    .bind(&resource.provider)
    .execute(&mut *db)
    .await?;
    sqlx::query_as(concat!(
        "UPDATE resources SET phase = $2, version = version + 1 WHERE id = $1 RETURNING ",
        resource_columns!("")
    ))
    .bind(resource.id)
    .bind(resource.phase.during(new_operation.kind))
    .fetch_one(db)
    .await
}

/// Deletes operations that ended before `until`, in batches, and then resources that were deleted before. Returns the
/// number of rows; call it until that is 0. Operations come first, because deleting a resource deletes all of its
/// operations.
pub async fn prune(db: &mut PgConnection, until: Timestamp) -> sqlx::Result<u64> {
    let operations = sqlx::query(delete_batch!("operations", "finished_at")).bind(until).execute(&mut *db).await?;
    if operations.rows_affected() > 0 {
        return Ok(operations.rows_affected());
    }
    let resources = sqlx::query(delete_batch!("resources", "deleted_at")).bind(until).execute(db).await?;
    Ok(resources.rows_affected())
}

/// Maximum number of operations that [`depth`] counts.
const MAX_COUNTED: i64 = 10_000;

/// Returns the depth of the queue, counted up to ten thousand operations.
pub async fn depth(db: &mut PgConnection) -> sqlx::Result<Depth> {
    let (open, due, oldest): (i64, i64, f64) = sqlx::query_as(
        "SELECT count(due_at), count(due_at) FILTER (WHERE due_at <= now()),
                coalesce(extract(epoch FROM now() - least(first_operation_due(), now())), 0)::float8
         FROM (SELECT due_at FROM operations WHERE due_at IS NOT NULL ORDER BY provider, due_at LIMIT $1) open",
    )
    .bind(MAX_COUNTED)
    .fetch_one(db)
    .await?;
    let number = |count: i64| u64::try_from(count).unwrap_or(0);
    let oldest_due = Duration::try_from_secs_f64(oldest).unwrap_or_default();
    Ok(Depth { open: number(open), due: number(due), oldest_due })
}
