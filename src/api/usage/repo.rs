//! SQL that reads usage by period, and finalizes periods.

use serde::Serialize;
use sqlx::{FromRow, PgConnection, types::Json};
use time::Date;

use super::model::{Adjustment, Usage};
use crate::base::{
    id::ProjectId,
    identity::tenant::Tenant,
    runtime::{clock::Timestamp, period::Period},
};

/// Number of projects whose month becomes final in one transaction, which blocks flushes meanwhile.
const BATCH_SIZE: i64 = 100;
/// Number of daily counts that are deleted in one transaction.
const DELETE_BATCH_SIZE: i64 = 10_000;

#[derive(FromRow)]
struct PeriodRow {
    period: Period,
    requests: i64,
    included: Option<i64>,
    final_at: Option<Timestamp>,
    adjustments: Json<Vec<Adjustment>>,
}

impl From<PeriodRow> for Usage {
    fn from(row: PeriodRow) -> Self {
        Self::new(row.period, row.requests, row.included, row.final_at, row.adjustments.0)
    }
}

/// Returns the time up to which usage is complete: the last flush of the slowest open journal.
pub async fn as_of(db: &mut PgConnection, now: Timestamp) -> sqlx::Result<Timestamp> {
    sqlx::query_scalar(
        "SELECT least($1, min(flushed_at)) FROM (
             SELECT flushed_at FROM usage_journals WHERE closed_at IS NULL ORDER BY opened_at, id LIMIT 10000) open",
    )
    .bind(now)
    .fetch_one(db)
    .await
}

/// Returns the tenant's first period: that of its creation, or an earlier one in which a node with a slow clock
/// counted.
pub async fn first_period(db: &mut PgConnection, tenant: Tenant) -> sqlx::Result<Option<Period>> {
    sqlx::query_scalar(
        "SELECT least(date_trunc('month', p.created_at)::date,
                      (SELECT min(period) FROM usage_totals WHERE project_id = p.id),
                      (SELECT min(period) FROM usage_periods WHERE project_id = p.id))
         FROM projects p WHERE p.id = $1",
    )
    .bind(tenant.project_id())
    .fetch_optional(db)
    .await
}

/// Usage of the months in `$1` for each project in `$projects`, including deleted projects.
macro_rules! select_usage {
    ($projects:literal, $tail:literal) => {
        concat!(
            "SELECT i.project_id, p.name, m.period, coalesce(f.requests, t.requests, 0) AS requests, f.final_at,
                    CASE WHEN f.period IS NULL THEN p.included ELSE f.included END AS included,
                    coalesce(a.adjustments, '[]') AS adjustments
             FROM (",
            $projects,
            ") i
             CROSS JOIN unnest($1::date[]) WITH ORDINALITY AS m (period, number)
             LEFT JOIN projects p ON p.id = i.project_id
             LEFT JOIN LATERAL (
                 SELECT period, requests, included, final_at FROM usage_periods
                 WHERE project_id = i.project_id AND period = m.period OFFSET 0
             ) f ON true
             LEFT JOIN LATERAL (
                 SELECT sum(requests)::bigint AS requests FROM usage_totals t
                 WHERE t.project_id = i.project_id AND t.period = m.period
             ) t ON true
             LEFT JOIN LATERAL (
                 SELECT jsonb_agg(jsonb_build_object('recorded_on', recorded_on, 'requests', requests)
                                  ORDER BY recorded_on) AS adjustments
                 FROM usage_adjustments a WHERE a.project_id = i.project_id AND a.period = m.period
             ) a ON true ",
            $tail
        )
    };
}

/// Returns the tenant's usage in each of the periods, in their order.
pub async fn periods(
    db: &mut PgConnection,
    tenant: Tenant,
    periods: impl IntoIterator<Item = Period>,
) -> sqlx::Result<Vec<Usage>> {
    let rows: Vec<PeriodRow> = sqlx::query_as(select_usage!("SELECT $2::uuid AS project_id", "ORDER BY m.number"))
        .bind(periods.into_iter().map(Period::first).collect::<Vec<_>>())
        .bind(tenant.project_id())
        .fetch_all(db)
        .await?;
    Ok(rows.into_iter().map(Usage::from).collect())
}

/// Usage of a project in a month, also of a deleted project.
#[derive(Clone, Debug, Serialize)]
pub struct ProjectUsage {
    /// Project.
    pub project_id: ProjectId,
    /// Name of the project; null if it was deleted.
    pub name: Option<String>,
    /// Usage.
    #[serde(flatten)]
    pub usage: Usage,
}

/// Returns the usage in `period` of every project that existed or was used.
pub async fn list_project_usage(db: &mut PgConnection, period: Period) -> sqlx::Result<Vec<ProjectUsage>> {
    #[derive(FromRow)]
    struct Row {
        project_id: ProjectId,
        name: Option<String>,
        #[sqlx(flatten)]
        row: PeriodRow,
    }
    let rows: Vec<Row> = sqlx::query_as(select_usage!(
        "SELECT id AS project_id FROM projects WHERE created_at < $2::date + interval '1 month'
         UNION SELECT project_id FROM usage_periods WHERE period = $2
         UNION SELECT project_id FROM usage_totals WHERE period = $2",
        "ORDER BY i.project_id"
    ))
    .bind(vec![period.first()])
    .bind(period.first())
    .fetch_all(db)
    .await?;
    let project_usage = |row: Row| ProjectUsage { project_id: row.project_id, name: row.name, usage: row.row.into() };
    Ok(rows.into_iter().map(project_usage).collect())
}

/// Returns the first month that is not final for all projects that existed. None if there are no projects.
pub async fn first_open_month(db: &mut PgConnection) -> sqlx::Result<Option<Period>> {
    sqlx::query_scalar(
        "SELECT coalesce((usage_final_through + interval '1 month')::date,
                         (SELECT date_trunc('month', created_at)::date FROM projects ORDER BY id LIMIT 1))
         FROM deployment",
    )
    .fetch_one(db)
    .await
}

/// Records that `period` is final for all projects that existed.
pub async fn set_final_through(db: &mut PgConnection, period: Period) -> sqlx::Result<()> {
    sqlx::query("UPDATE deployment SET usage_final_through = greatest(usage_final_through, $1)")
        .bind(period.first())
        .execute(db)
        .await
        .map(drop)
}

/// Returns the next projects after `after`, and of each whether it existed in `period` and that month is not final.
pub async fn next_projects(
    db: &mut PgConnection,
    after: ProjectId,
    period: Period,
) -> sqlx::Result<Vec<(ProjectId, bool)>> {
    sqlx::query_as(
        "SELECT p.id, p.created_at < $3 AND u.period IS NULL
         FROM (SELECT id, created_at FROM projects WHERE id > $1 ORDER BY id LIMIT $4) p
         LEFT JOIN LATERAL (
             SELECT period FROM usage_periods WHERE project_id = p.id AND period = $2 OFFSET 0
         ) u ON true
         ORDER BY p.id",
    )
    .bind(after)
    .bind(period.first())
    .bind(period.end())
    .bind(BATCH_SIZE)
    .fetch_all(db)
    .await
}

/// Returns months up to `due` with usage that is not final, the oldest first: of projects that were deleted, or in which
/// a node with a slow clock counted.
pub async fn used_months(db: &mut PgConnection, due: Period) -> sqlx::Result<Vec<(ProjectId, Period)>> {
    sqlx::query_as(
        "SELECT DISTINCT project_id, period FROM usage_totals WHERE period <= $1 ORDER BY period, project_id LIMIT $2",
    )
    .bind(due.first())
    .bind(BATCH_SIZE)
    .fetch_all(db)
    .await
}

/// Finalizes `period` for `projects`.
pub async fn finalize(
    db: &mut PgConnection,
    projects: &[ProjectId],
    period: Period,
    now: Timestamp,
) -> sqlx::Result<()> {
    sqlx::query("SELECT finalize_usage($1, $2, $3)")
        .bind(projects)
        .bind(period.first())
        .bind(now)
        .execute(db)
        .await
        .map(drop)
}

/// Deletes the daily counts before `day`, which belong to final months, in batches to keep transactions short.
/// Afterwards no requests before `day` can be counted.
pub async fn delete_days_before(db: &mut PgConnection, day: Date) -> sqlx::Result<()> {
    sqlx::query("SELECT raise_usage_from($1)").bind(day).execute(&mut *db).await?;
    // A day's sums are deleted with the last of its counts, because the counts are found by the sums.
    let delete = "WITH due AS (
             SELECT ctid, project_id, kind, day FROM usage_days WHERE day < $1 ORDER BY day LIMIT 1000
         ), counts AS (
             SELECT u.ctid FROM (SELECT DISTINCT project_id, kind, day FROM due) d CROSS JOIN LATERAL (
                 SELECT ctid FROM usage_node
                 WHERE project_id = d.project_id AND kind = d.kind AND day = d.day LIMIT $2
             ) u LIMIT $2
         ), deleted_counts AS (
             DELETE FROM usage_node WHERE ctid = ANY (ARRAY(SELECT ctid FROM counts))
         ), deleted_sums AS (
             DELETE FROM usage_days
             WHERE ctid = ANY (ARRAY(SELECT ctid FROM due)) AND (SELECT count(ctid) FROM counts) < $2
         )
         SELECT EXISTS (SELECT FROM due)";
    while sqlx::query_scalar(delete).bind(day).bind(DELETE_BATCH_SIZE).fetch_one(&mut *db).await? {}
    Ok(())
}

/// Returns the first day with daily counts.
pub async fn daily_counts_from(db: &mut PgConnection) -> sqlx::Result<Date> {
    sqlx::query_scalar("SELECT usage_from FROM deployment").fetch_one(db).await
}
