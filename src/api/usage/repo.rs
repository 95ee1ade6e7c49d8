//! SQL that reads usage by period, and finalizes periods.

use serde::Serialize;
use sqlx::{FromRow, PgConnection, types::Json};
use time::Date;

use super::model::{Adjustment, Usage};
use crate::base::{
    id::ProjectId,
    identity::tenant::Tenant,
    input::page::Order,
    runtime::{clock::Timestamp, period::Period},
};

/// Number of projects whose month becomes final in one transaction, which blocks flushes meanwhile.
const BATCH_SIZE: i64 = 100;

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
    sqlx::query_scalar("SELECT least($1, min(flushed_at)) FROM usage_journals WHERE closed_at IS NULL")
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

/// Usage of the months from `$1` to `$2` for each project in `$projects`, including deleted projects.
macro_rules! select_usage {
    ($projects:literal, $tail:literal) => {
        concat!(
            "SELECT i.project_id, p.name, m.period, coalesce(f.requests, t.requests, 0) AS requests, f.final_at,
                    CASE WHEN f.period IS NULL THEN p.included ELSE f.included END AS included,
                    coalesce(a.adjustments, '[]') AS adjustments
             FROM (",
            $projects,
            ") i
             CROSS JOIN (SELECT generate_series($1::date::timestamp, $2::date::timestamp, '1 month')::date AS period) m
             LEFT JOIN projects p ON p.id = i.project_id
             LEFT JOIN usage_periods f ON f.project_id = i.project_id AND f.period = m.period
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

/// Returns the tenant's usage in the periods from `first` to `last`, at most `rows` of them in this order.
pub async fn periods(
    db: &mut PgConnection,
    tenant: Tenant,
    (first, last): (Period, Period),
    order: Order,
    rows: i64,
) -> sqlx::Result<Vec<Usage>> {
    let sql = match order {
        Order::Asc => select_usage!("SELECT $3::uuid AS project_id", "ORDER BY m.period ASC LIMIT $4"),
        Order::Desc => select_usage!("SELECT $3::uuid AS project_id", "ORDER BY m.period DESC LIMIT $4"),
    };
    let rows: Vec<PeriodRow> = sqlx::query_as(sql)
        .bind(first.first())
        .bind(last.first())
        .bind(tenant.project_id())
        .bind(rows)
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
        "SELECT id AS project_id FROM projects WHERE created_at < $1::date + interval '1 month'
         UNION SELECT project_id FROM usage_periods WHERE period = $1
         UNION SELECT project_id FROM usage_totals WHERE period = $1",
        "ORDER BY i.project_id"
    ))
    .bind(period.first())
    .bind(period.first())
    .fetch_all(db)
    .await?;
    let project_usage = |row: Row| ProjectUsage { project_id: row.project_id, name: row.name, usage: row.row.into() };
    Ok(rows.into_iter().map(project_usage).collect())
}

/// Returns months up to `due` that are not final, the oldest first: of existing projects, and of deleted projects with
/// usage. If `is_finalized`, all months of existing projects are final, and only deleted projects are searched.
pub async fn open_months(
    db: &mut PgConnection,
    due: Period,
    is_finalized: bool,
) -> sqlx::Result<Vec<(ProjectId, Period)>> {
    sqlx::query_as(
        "SELECT project_id, period FROM usage_totals WHERE period <= $1
         UNION
         SELECT p.id, m::date FROM projects p
         CROSS JOIN LATERAL generate_series(date_trunc('month', p.created_at), $1::date::timestamptz, '1 month') m
         WHERE NOT $3 AND NOT EXISTS (SELECT FROM usage_periods u WHERE u.project_id = p.id AND u.period = m::date)
         ORDER BY 2, 1 LIMIT $2",
    )
    .bind(due.first())
    .bind(BATCH_SIZE)
    .bind(is_finalized)
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
    let delete =
        "DELETE FROM usage_node WHERE ctid = ANY (ARRAY(SELECT ctid FROM usage_node WHERE day < $1 LIMIT 10000))";
    while sqlx::query(delete).bind(day).execute(&mut *db).await?.rows_affected() > 0 {}
    Ok(())
}

/// Returns the first day with daily counts.
pub async fn daily_counts_from(db: &mut PgConnection) -> sqlx::Result<Date> {
    sqlx::query_scalar("SELECT usage_from FROM deployment").fetch_one(db).await
}
