//! SQL that writes usage: journal counts, last use of credentials, and notices. The writes are functions in
//! migrations/0034_usage_sums.sql, so that each is one round trip and one transaction.

use std::collections::BTreeSet;

use serde::Serialize;
use sqlx::{
    FromRow, PgConnection, Postgres,
    postgres::{PgArguments, PgRow},
    query::QueryScalar,
};
use time::Date;
use uuid::Uuid;

use super::model::Notice;
use crate::base::{
    id::ProjectId,
    identity::credential::CredentialId,
    runtime::{clock::Timestamp, period::Period},
};

/// Count of one credential on one route on one day, from one journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct UsageRow {
    /// Project that is billed.
    pub project: ProjectId,
    /// UTC day.
    pub day: Date,
    /// Credential of the requests.
    pub credential: CredentialId,
    /// Number of the route.
    pub route: u32,
    /// Total number of requests.
    pub count: i64,
}

/// A journal that can still report requests.
#[derive(Clone, Debug, Serialize, FromRow)]
pub struct OpenJournal {
    /// ID of the journal, also the name of its file.
    pub journal: Uuid,
    /// Creation time.
    pub opened_at: Timestamp,
    /// Time up to which its counts are flushed.
    pub flushed_at: Timestamp,
}

/// [`UsageRow`]s as column arrays of a statement.
#[derive(Default)]
struct Columns {
    projects: Vec<ProjectId>,
    days: Vec<Date>,
    credentials: Vec<Uuid>,
    kinds: Vec<i16>,
    routes: Vec<i32>,
    counts: Vec<i64>,
}

impl Columns {
    fn from_rows(rows: &[UsageRow]) -> Self {
        let mut columns = Self::default();
        for row in rows {
            let (kind, credential) = row.credential.numbers();
            columns.projects.push(row.project);
            columns.days.push(row.day);
            columns.credentials.push(Uuid::from_u128(credential));
            columns.kinds.push(kind.into());
            columns.routes.push(row.route.cast_signed());
            columns.counts.push(row.count);
        }
        columns
    }
}

/// Creates a query whose first parameters are a journal, a time and `rows`.
fn with_rows<T>(
    sql: &'static str,
    journal: Uuid,
    as_of: Timestamp,
    rows: &[UsageRow],
) -> QueryScalar<'static, Postgres, T, PgArguments>
where
    (T,): for<'r> FromRow<'r, PgRow>,
{
    let Columns { projects, days, credentials, kinds, routes, counts } = Columns::from_rows(rows);
    sqlx::query_scalar(sql)
        .bind(journal)
        .bind(as_of)
        .bind(projects)
        .bind(days)
        .bind(credentials)
        .bind(kinds)
        .bind(routes)
        .bind(counts)
}

/// Returns the ID of this database.
pub async fn database_id(db: &mut PgConnection) -> sqlx::Result<Uuid> {
    sqlx::query_scalar("SELECT id FROM deployment").fetch_one(db).await
}

/// Records that `journal` is completely flushed, and that nothing is counted in it. Returns false if it does not exist.
pub async fn close(db: &mut PgConnection, journal: Uuid, now: Timestamp) -> sqlx::Result<bool> {
    let closed = "UPDATE usage_journals SET closed_at = $2, flushed_at = greatest(flushed_at, $2) WHERE journal = $1";
    sqlx::query(closed).bind(journal).bind(now).execute(db).await.map(|done| done.rows_affected() > 0)
}

/// Lists the open journals, oldest flush first.
pub async fn open_journals(db: &mut PgConnection) -> sqlx::Result<Vec<OpenJournal>> {
    sqlx::query_as(
        "SELECT journal, opened_at, flushed_at FROM (
             SELECT id, journal, opened_at, flushed_at FROM usage_journals
             WHERE closed_at IS NULL ORDER BY opened_at, id LIMIT 10000
         ) open ORDER BY flushed_at, id",
    )
    .fetch_all(db)
    .await
}

/// Lists the open journals that were last flushed before `limit`.
pub async fn stale_journals(db: &mut PgConnection, limit: Timestamp) -> sqlx::Result<Vec<OpenJournal>> {
    Ok(open_journals(db).await?.into_iter().filter(|open| open.flushed_at < limit).collect())
}

/// Returns which of these months are final.
pub async fn finalized_months(
    db: &mut PgConnection,
    totals: &[(ProjectId, Period)],
) -> sqlx::Result<Vec<(ProjectId, Period)>> {
    sqlx::query_as(
        "SELECT project_id, period FROM unnest($1::uuid[], $2::date[]) AS t (project_id, period)
         JOIN usage_periods USING (project_id, period)",
    )
    .bind(totals.iter().map(|total| total.0).collect::<Vec<_>>())
    .bind(totals.iter().map(|total| total.1.first()).collect::<Vec<_>>())
    .fetch_all(db)
    .await
}

/// Writes the counts up to `as_of`. Writes nothing and returns false if one of their months is final.
pub async fn write(db: &mut PgConnection, journal: Uuid, as_of: Timestamp, rows: &[UsageRow]) -> sqlx::Result<bool> {
    let months: BTreeSet<_> = rows.iter().map(|row| (row.project, Period::of(row.day))).collect();
    let (projects, months): (Vec<ProjectId>, Vec<Date>) =
        months.iter().map(|(project, month)| (*project, month.first())).unzip();
    with_rows("SELECT flush_usage_node($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)", journal, as_of, rows)
        .bind(projects)
        .bind(months)
        .fetch_one(db)
        .await
}

/// Writes counts of final months as adjustments. Returns the number of requests that were skipped, because they may
/// already be counted.
pub async fn write_late(
    db: &mut PgConnection,
    journal: Uuid,
    as_of: Timestamp,
    rows: &[UsageRow],
) -> sqlx::Result<i64> {
    let sql = "SELECT flush_late_usage_node($1, $2, $3, $4, $5, $6, $7, $8)";
    with_rows(sql, journal, as_of, rows).fetch_one(db).await
}

/// Records the last use of credentials, in the same order on every node to avoid deadlocks.
pub async fn update_last_used(db: &mut PgConnection, last_uses: &[(CredentialId, Timestamp)]) -> sqlx::Result<()> {
    let (mut keys, mut keys_used, mut tokens, mut tokens_used) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut sessions, mut sessions_used) = (Vec::new(), Vec::new());
    for &(credential, minute) in last_uses {
        match credential {
            CredentialId::Key(id) => {
                keys.push(id);
                keys_used.push(minute);
            }
            CredentialId::Token(id) => {
                tokens.push(id);
                tokens_used.push(minute);
            }
            CredentialId::Session(id) => {
                sessions.push(id);
                sessions_used.push(minute);
            }
        }
    }
    sqlx::query(
        "WITH used_keys AS (
             UPDATE keys SET last_used_at = u.at FROM unnest($1::uuid[], $2::timestamptz[]) AS u (id, at)
             WHERE keys.id = u.id AND (last_used_at < u.at OR last_used_at IS NULL)
         ), used_tokens AS (
             UPDATE tokens SET last_used_at = u.at FROM unnest($3::uuid[], $4::timestamptz[]) AS u (id, at)
             WHERE tokens.id = u.id AND (last_used_at < u.at OR last_used_at IS NULL)
         )
         UPDATE sessions SET last_used_at = u.at FROM unnest($5::uuid[], $6::timestamptz[]) AS u (id, at)
         WHERE sessions.id = u.id AND (last_used_at < u.at OR last_used_at IS NULL)",
    )
    .bind(keys)
    .bind(keys_used)
    .bind(tokens)
    .bind(tokens_used)
    .bind(sessions)
    .bind(sessions_used)
    .execute(db)
    .await
    .map(drop)
}

/// Records the names of routes by their numbers.
pub async fn name_routes(db: &mut PgConnection, routes: &[(u32, &str)]) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO usage_routes (id, route) SELECT r.id, r.route FROM unnest($1::int[], $2::text[]) AS r (id, route)
         WHERE NOT EXISTS (SELECT FROM usage_routes u WHERE u.id = r.id) ON CONFLICT DO NOTHING",
    )
    .bind(routes.iter().map(|route| route.0.cast_signed()).collect::<Vec<_>>())
    .bind(routes.iter().map(|route| route.1).collect::<Vec<_>>())
    .execute(db)
    .await
    .map(drop)
}

/// Usage of a project in a month, with its quotas, when it last reached a bound or a bound was changed.
#[derive(Clone, Copy, Debug, FromRow)]
pub struct QuotaUsage {
    /// Project.
    pub project_id: ProjectId,
    /// Month.
    pub period: Period,
    /// Total number of requests.
    pub requests: i64,
    /// Included requests. None means unlimited.
    pub included: Option<i64>,
    /// Hard limit. None means no limit.
    pub hard_limit: Option<i64>,
}

impl QuotaUsage {
    /// Period that stands for every month: a hard limit of 0 is reached without usage.
    pub fn every_month() -> Period {
        Period::of(Date::MIN.replace_year(1970).unwrap_or(Date::MIN))
    }
}

/// Updates the quota states of these projects and months, after their usage was written. A statement of its own, so that
/// it sees what other servers have written meanwhile.
pub async fn evaluate_quotas(db: &mut PgConnection, months: &[(ProjectId, Period)]) -> sqlx::Result<()> {
    sqlx::query("SELECT evaluate_quotas($1, $2)")
        .bind(months.iter().map(|month| month.0).collect::<Vec<_>>())
        .bind(months.iter().map(|month| month.1.first()).collect::<Vec<_>>())
        .execute(db)
        .await
        .map(drop)
}

/// Version of the newest quota states.
pub async fn quota_version(db: &mut PgConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT version FROM quota_clock").fetch_one(db).await
}

/// Returns the quota states of these months that are newer than version `after`, up to version `up_to`.
pub async fn quota_states(
    db: &mut PgConnection,
    months: &[Period],
    after: i64,
    up_to: i64,
) -> sqlx::Result<Vec<QuotaUsage>> {
    sqlx::query_as(
        "SELECT project_id, period, requests, included, hard_limit
         FROM quota_states WHERE version > $2 AND version <= $3 AND period = ANY ($1)",
    )
    .bind(months.iter().map(|month| month.first()).collect::<Vec<_>>())
    .bind(after)
    .bind(up_to)
    .fetch_all(db)
    .await
}

/// Records new notices and stages their audit entries, in one statement and therefore atomically.
pub async fn record_notices(db: &mut PgConnection, notices: &[(Notice, String)]) -> sqlx::Result<()> {
    macro_rules! column {
        ($field:expr) => {
            notices.iter().map($field).collect::<Vec<_>>()
        };
    }
    sqlx::query(
        "WITH told AS (
             SELECT t.project_id, t.period, t.quota, t.bound, t.percent, t.entry, t.number
             FROM unnest($1::uuid[], $2::date[], $3::text[], $4::bigint[], $5::smallint[], $6::text[])
                  WITH ORDINALITY AS t (project_id, period, quota, bound, percent, entry, number)
         ), new AS (
             INSERT INTO quota_notices (project_id, period, quota, bound, percent)
             SELECT project_id, period, quota, bound, percent FROM told
             ORDER BY project_id, period, quota, bound, percent
             ON CONFLICT DO NOTHING
             RETURNING project_id, period, quota, bound, percent
         )
         INSERT INTO audit_staged (project_id, entry)
         SELECT project_id, entry FROM told JOIN new USING (project_id, period, quota, bound, percent) ORDER BY number",
    )
    .bind(column!(|(notice, _)| notice.project_id))
    .bind(column!(|(notice, _)| notice.period.first()))
    .bind(column!(|(notice, _)| notice.quota.as_str()))
    .bind(column!(|(notice, _)| notice.bound))
    .bind(column!(|(notice, _)| i16::from(notice.percent)))
    .bind(column!(|(_, entry)| entry.as_str()))
    .execute(db)
    .await
    .map(drop)
}

/// Removes the notices and quota states of months before `period`.
pub async fn delete_notices_before(db: &mut PgConnection, period: Period) -> sqlx::Result<()> {
    const DELETES: [&str; 2] = [
        "DELETE FROM quota_notices WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM quota_notices WHERE period < $1 AND period > $2 ORDER BY period LIMIT 1000))",
        "DELETE FROM quota_states WHERE ctid = ANY (ARRAY(
             SELECT ctid FROM quota_states WHERE period < $1 AND period > $2 ORDER BY period LIMIT 1000))",
    ];
    for delete in DELETES {
        let batch = || sqlx::query(delete).bind(period.first()).bind(QuotaUsage::every_month().first());
        while batch().execute(&mut *db).await?.rows_affected() > 0 {}
    }
    Ok(())
}
