//! Quotas: how many resources a project may have, and how many it has.

use std::collections::BTreeMap;

use sqlx::PgConnection;

use crate::{
    base::{id::ProjectId, identity::tenant::Tenant},
    resources::kinds::Kind,
};

/// Default quota of resources of one kind in a project.
pub const DEFAULT_QUOTA: i32 = 100;

/// Takes one place of the tenant's quota for a kind. If none is left, returns the quota. Concurrent callers wait until
/// the transaction ends.
pub async fn reserve_quota(db: &mut PgConnection, tenant: Tenant, kind: Kind) -> sqlx::Result<Result<(), i32>> {
    let maximum: Option<i32> =
        sqlx::query_scalar("SELECT maximum FROM resource_quotas WHERE project_id = $1 AND kind = $2")
            .bind(tenant.project_id())
            .bind(kind)
            .fetch_optional(&mut *db)
            .await?;
    let maximum = maximum.unwrap_or(DEFAULT_QUOTA);
    let taken = sqlx::query(
        "INSERT INTO resource_counts AS counted (project_id, kind, count) SELECT $1, $2, 1 WHERE $3 > 0
         ON CONFLICT (project_id, kind) DO UPDATE SET count = counted.count + 1 WHERE counted.count < $3",
    )
    .bind(tenant.project_id())
    .bind(kind)
    .bind(maximum)
    .execute(db)
    .await?;
    Ok(if taken.rows_affected() > 0 { Ok(()) } else { Err(maximum) })
}

/// Reads the quotas that the operator has set for a project.
pub async fn quotas(db: &mut PgConnection, project: ProjectId) -> sqlx::Result<BTreeMap<Kind, i32>> {
    let rows: Vec<(Kind, i32)> = sqlx::query_as("SELECT kind, maximum FROM resource_quotas WHERE project_id = $1")
        .bind(project)
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().collect())
}

/// Sets a project's quota for a kind, for the operator.
pub async fn set_quota(db: &mut PgConnection, project: ProjectId, kind: Kind, maximum: i32) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO resource_quotas (project_id, kind, maximum) VALUES ($1, $2, $3)
         ON CONFLICT (project_id, kind) DO UPDATE SET maximum = excluded.maximum",
    )
    .bind(project)
    .bind(kind)
    .bind(maximum)
    .execute(db)
    .await
    .map(drop)
}
