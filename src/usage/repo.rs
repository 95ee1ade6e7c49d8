//! SQL for usage.

use sqlx::PgConnection;
use time::Date;

use super::counters::Counts;
use crate::base::{id::ProjectId, tenant::Tenant};

/// Adds what a node has counted, in one statement. Counts of a project that is gone are dropped.
pub async fn add(db: &mut PgConnection, counts: &Counts) -> sqlx::Result<()> {
    // In one order on every node, so that two of them cannot deadlock.
    let mut rows: Vec<(ProjectId, Date, i64)> =
        counts.iter().map(|(&(project, day), &requests)| (project, day, requests)).collect();
    rows.sort_unstable();
    let projects: Vec<ProjectId> = rows.iter().map(|row| row.0).collect();
    let days: Vec<Date> = rows.iter().map(|row| row.1).collect();
    let requests: Vec<i64> = rows.iter().map(|row| row.2).collect();
    sqlx::query(
        "INSERT INTO usage_daily (project_id, day, requests)
         SELECT c.project_id, c.day, c.requests FROM unnest($1::uuid[], $2::date[], $3::bigint[]) AS c (project_id, day, requests)
         WHERE EXISTS (SELECT FROM projects p WHERE p.id = c.project_id)
         ON CONFLICT (project_id, day) DO UPDATE SET requests = usage_daily.requests + excluded.requests",
    )
    .bind(projects)
    .bind(days)
    .bind(requests)
    .execute(db)
    .await
    .map(drop)
}

/// The tenant's requests from `first` to `last`, both included.
pub async fn requests_between(db: &mut PgConnection, tenant: Tenant, first: Date, last: Date) -> sqlx::Result<i64> {
    sqlx::query_scalar(
        "SELECT coalesce(sum(requests), 0)::bigint FROM usage_daily WHERE project_id = $1 AND day BETWEEN $2 AND $3",
    )
    .bind(tenant.project_id())
    .bind(first)
    .bind(last)
    .fetch_one(db)
    .await
}
