//! SQL of sweeps: leases, known resources and results.

use std::time::Duration;

use sqlx::{FromRow, PgConnection, Row, postgres::PgRow, types::Json};

use super::resource_columns;
use crate::{
    base::{id::ResourceId, runtime::clock::Timestamp},
    resources::{
        api::model::{Condition, StoredResource},
        kinds::{Kind, Power},
    },
};

/// Claimed sweep of a provider's objects of one kind.
#[derive(Debug, FromRow)]
pub struct Sweep {
    /// Name of the provider.
    pub provider: String,
    /// Kind of the objects.
    pub kind: Kind,
    /// Fencing token of this claim.
    pub fence: i64,
    /// Start time.
    pub began_at: Timestamp,
}

/// Claims one due sweep out of `all`, with a lease.
pub async fn claim(db: &mut PgConnection, all: &[(&str, Kind)], lease: Duration) -> sqlx::Result<Option<Sweep>> {
    let (providers, kinds) = texts(all);
    sqlx::query_as(
        "WITH due AS MATERIALIZED (
             SELECT s.provider, s.kind FROM provider_sweeps s
             JOIN unnest($1::text[], $2::text[]) AS ours (provider, kind) USING (provider, kind)
             WHERE s.due_at <= now() ORDER BY s.due_at LIMIT 1 FOR UPDATE OF s SKIP LOCKED)
         UPDATE provider_sweeps s SET due_at = now() + make_interval(secs => $3), fence = s.fence + 1
         FROM due WHERE s.provider = due.provider AND s.kind = due.kind
         RETURNING s.provider, s.kind, s.fence, now() AS began_at",
    )
    .bind(providers)
    .bind(kinds)
    .bind(lease.as_secs_f64())
    .fetch_optional(db)
    .await
}

/// Registers these sweeps. The first run is due immediately.
pub async fn register(db: &mut PgConnection, all: &[(&str, Kind)]) -> sqlx::Result<()> {
    let (providers, kinds) = texts(all);
    sqlx::query(
        "INSERT INTO provider_sweeps (provider, kind) SELECT n.provider, n.kind FROM unnest($1::text[], $2::text[]) AS n (provider, kind) ON CONFLICT DO NOTHING",
    )
    .bind(providers)
    .bind(kinds)
    .execute(db)
    .await
    .map(drop)
}

fn texts<'a>(all: &[(&'a str, Kind)]) -> (Vec<&'a str>, Vec<&'a str>) {
    all.iter().map(|(name, kind)| (*name, kind.as_str())).unzip()
}

/// Renews the lease of a sweep. Returns whether it is still held.
pub async fn renew(db: &mut PgConnection, sweep: &Sweep, lease: Duration) -> sqlx::Result<bool> {
    sqlx::query(
        "UPDATE provider_sweeps SET due_at = now() + make_interval(secs => $4) WHERE provider = $1 AND kind = $2 AND fence = $3",
    )
    .bind(&sweep.provider)
    .bind(sweep.kind)
    .bind(sweep.fence)
    .bind(lease.as_secs_f64())
    .execute(db)
    .await
    .map(|done| done.rows_affected() == 1)
}

/// Ends a sweep. The next one is due after `pause`.
pub async fn end(db: &mut PgConnection, sweep: &Sweep, pause: Duration, is_complete: bool) -> sqlx::Result<()> {
    sqlx::query(
        "UPDATE provider_sweeps SET due_at = now() + make_interval(secs => $4), swept_at = CASE WHEN $5 THEN now() ELSE swept_at END
         WHERE provider = $1 AND kind = $2 AND fence = $3",
    )
    .bind(&sweep.provider)
    .bind(sweep.kind)
    .bind(sweep.fence)
    .bind(pause.as_secs_f64())
    .bind(is_complete)
    .execute(db)
    .await
    .map(drop)
}

/// State of a resource whose tag was found on an object.
#[derive(Debug)]
pub struct SweptResource {
    /// Stored resource.
    pub resource: StoredResource,
    /// Whether an operation is in progress.
    pub is_busy: bool,
    /// Time at which the last operation ended.
    pub settled_at: Timestamp,
}

impl<'r> FromRow<'r, PgRow> for SweptResource {
    fn from_row(row: &'r PgRow) -> sqlx::Result<Self> {
        let resource = StoredResource::from_row(row)?;
        Ok(Self { resource, is_busy: row.try_get("is_busy")?, settled_at: row.try_get("settled_at")? })
    }
}

/// Reads the state of these resources.
pub async fn find_resources(db: &mut PgConnection, ids: &[ResourceId]) -> sqlx::Result<Vec<SweptResource>> {
    sqlx::query_as(concat!(
        "SELECT ",
        resource_columns!("r."),
        ", (SELECT o.id FROM operations o WHERE o.resource_id = r.id AND o.finished_at IS NULL) IS NOT NULL AS is_busy,
                r.settled_at
         FROM resources r WHERE id = ANY ($1)"
    ))
    .bind(ids)
    .fetch_all(db)
    .await
}

/// Records that these resources were observed without drift.
pub async fn mark_synced(db: &mut PgConnection, ids: &[ResourceId]) -> sqlx::Result<()> {
    if ids.is_empty() {
        return Ok(());
    }
    sqlx::query("UPDATE resources SET last_synced_at = now() WHERE id = ANY ($1)").bind(ids).execute(db).await.map(drop)
}

/// Number of resources that [`list_unobserved`] looks at.
const BATCH: i64 = 1_000;

/// Lists resources with an object that the sweep has not observed, among those whose reference is after `after`.
/// Returns the reference to continue after, if there are more.
pub async fn list_unobserved(
    db: &mut PgConnection,
    sweep: &Sweep,
    after: &str,
) -> sqlx::Result<(Vec<StoredResource>, Option<String>)> {
    let looked: Vec<LookedAt> = sqlx::query_as(concat!(
        "SELECT ",
        resource_columns!(""),
        ", position, is_unobserved FROM (
             SELECT ",
        resource_columns!(""),
        ", row_number() OVER () AS position,
                    phase IN ('active', 'failed') AND settled_at < $3 AND coalesce(last_synced_at, '-infinity') < $3
                    AND (SELECT id FROM operations WHERE resource_id = next.id AND finished_at IS NULL) IS NULL AS is_unobserved
             FROM (SELECT ",
        resource_columns!(""),
        ", settled_at FROM resources
                   WHERE (provider, kind, provider_ref) > ($1, $2, $4) AND provider_ref IS NOT NULL AND phase <> 'deleted'
                   ORDER BY provider, kind, provider_ref LIMIT $5) next) looked
         WHERE provider = $1 AND kind = $2 AND (is_unobserved OR position = $5) ORDER BY position"
    ))
    .bind(&sweep.provider)
    .bind(sweep.kind)
    .bind(sweep.began_at)
    .bind(after)
    .bind(BATCH)
    .fetch_all(db)
    .await?;
    let next = looked.last().filter(|last| last.position == BATCH).and_then(|last| last.resource.provider_ref.clone());
    Ok((looked.into_iter().filter(|row| row.is_unobserved).map(|row| row.resource).collect(), next))
}

/// Resource that [`list_unobserved`] has looked at.
#[derive(FromRow)]
struct LookedAt {
    #[sqlx(flatten)]
    resource: StoredResource,
    /// Position in the batch, from 1.
    position: i64,
    is_unobserved: bool,
}

/// Result of observing a resource's object.
#[derive(Debug)]
pub struct ObservedState<'a> {
    /// Conditions that now hold.
    pub conditions: &'a [Condition],
    /// Observed power state.
    pub power: Option<Power>,
    /// Whether the object no longer exists.
    pub is_missing: bool,
    /// Whether the observation differs from what is recorded.
    pub has_changes: bool,
}

/// Stores an observation. The resource must be locked.
pub async fn store_observation(
    db: &mut PgConnection,
    before: &StoredResource,
    observed: &ObservedState<'_>,
) -> sqlx::Result<StoredResource> {
    sqlx::query_as(concat!(
        "UPDATE resources SET conditions = $2, power = coalesce($3, power), last_synced_at = now(),
                phase = CASE WHEN $4 THEN 'failed' ELSE phase END, version = version + CASE WHEN $5 THEN 1 ELSE 0 END
         WHERE id = $1 RETURNING ",
        resource_columns!("")
    ))
    .bind(before.id)
    .bind(Json(observed.conditions))
    .bind(observed.power)
    .bind(observed.is_missing)
    .bind(observed.has_changes)
    .fetch_one(db)
    .await
}
