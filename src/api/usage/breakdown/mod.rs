//! Usage breakdowns. Whole months that are final come from their monthly sums, all other days from the daily counts.
//!
//! A page reads a bounded number of rows, regardless of the number of credentials. Requests that are not grouped by
//! credential come from sums without credentials. Those grouped by credential come from streams: the daily counts or
//! monthly sums of one kind of credentials, by an index in the order of the groups. Of each stream only the credentials
//! up to the end of the page are read.

mod cursor;
pub mod names;
mod range;

use sqlx::{FromRow, PgConnection};
use time::Date;

use self::range::Sources;
pub use self::{
    cursor::Cursor,
    range::{CredentialFilter, DateRange},
};
use super::model::{BreakdownRow, Groups};
use crate::base::{
    id::{Id, KeyId, TokenId},
    identity::tenant::Tenant,
    input::page::{Order, rows_for, truncate_page},
    runtime::{clock::Day, period::Period},
};

#[derive(FromRow)]
struct GroupRow {
    day: Date,
    key_id: KeyId,
    token_id: TokenId,
    route: String,
    requests: i64,
}

impl GroupRow {
    fn cursor(&self) -> Cursor {
        Cursor { day: self.day, key: self.key_id, token: self.token_id, route: self.route.clone() }
    }

    fn into_view(self, groups: Groups) -> BreakdownRow {
        BreakdownRow {
            day: groups.day.then_some(Day(self.day)),
            key_id: groups.key.then(|| (self.key_id != Id::NIL).then_some(self.key_id)),
            key_name: groups.key.then_some(None),
            token_id: groups.token.then(|| (self.token_id != Id::NIL).then_some(self.token_id)),
            token_name: groups.token.then_some(None),
            route: groups.route.then(|| Some(self.route).filter(|route| !route.is_empty())),
            requests: self.requests,
        }
    }
}

/// Selects the groups after a cursor, which compare to it as `$compare`. Credentials are read from `$least` to
/// `$greatest`, and the greater ones compare to the lesser ones as `$ge`.
macro_rules! select_groups {
    ($compare:literal, $direction:literal, $ge:literal, $le:literal, $step:literal, $least:literal, $greatest:literal) => {
        concat!(
            "WITH stream AS (
                 SELECT kind, day, credential_id, last_day, is_month
                 FROM unnest($2::smallint[], $3::date[], $4::uuid[], $5::date[], $6::boolean[])
                      AS s (kind, day, credential_id, last_day, is_month)
             ), reached AS (
                 -- Where the page ends at the latest: at a credential that so many others precede in one of the streams.
                 -- One more than rows, because the groups of the first credential may be on the page before.
                 SELECT DISTINCT ON (s.kind) s.kind, CASE WHEN $12 THEN r.day END AS day, r.credential_id
                 FROM stream s CROSS JOIN LATERAL (
                     (SELECT DISTINCT day, credential_id FROM usage_node
                      WHERE NOT s.is_month AND project_id = $1 AND kind = s.kind
                        AND (day, credential_id) ", $ge, " (s.day, s.credential_id) AND day ", $le, " s.last_day
                      ORDER BY day ", $direction, ", credential_id ", $direction, " OFFSET $7 LIMIT 1)
                     UNION ALL
                     (SELECT DISTINCT period, credential_id FROM usage_monthly
                      WHERE s.is_month AND project_id = $1 AND kind = s.kind
                        AND period = s.day AND credential_id ", $ge, " s.credential_id
                      ORDER BY period, credential_id ", $direction, " OFFSET $7 LIMIT 1)
                 ) r
                 -- A single credential is read on all days.
                 WHERE $18::uuid IS NULL
                 ORDER BY 1, 2 ", $direction, ", 3 ", $direction, "
             ), part AS (
                 -- By day, the stream is read up to there; else each stream is read up to the same credential.
                 SELECT s.kind, s.is_month, d::date AS day,
                        coalesce($18, CASE WHEN d = s.day THEN s.credential_id ELSE '", $least, "' END) AS since,
                        coalesce($18, CASE WHEN d = coalesce(r.day, s.last_day)
                                           THEN coalesce(r.credential_id, '", $greatest, "')
                                           ELSE '", $greatest, "' END) AS until
                 FROM stream s LEFT JOIN reached r USING (kind) CROSS JOIN generate_series(
                     s.day::timestamp, coalesce(r.day, s.last_day)::timestamp, interval '", $step, "'
                 ) AS d
             ), counted AS (
                 -- OFFSET 0 keeps the planner from reading the table in another way than part by part.
                 SELECT u.day, p.kind, u.credential_id, u.route, u.n
                 FROM part p CROSS JOIN LATERAL (
                     SELECT day, credential_id, route, n FROM usage_node
                     WHERE NOT p.is_month AND project_id = $1 AND kind = p.kind AND day = p.day
                       AND credential_id ", $ge, " p.since AND credential_id ", $le, " p.until
                     UNION ALL
                     SELECT period, credential_id, route, requests FROM usage_monthly
                     WHERE p.is_month AND project_id = $1 AND kind = p.kind AND period = p.day
                       AND credential_id ", $ge, " p.since AND credential_id ", $le, " p.until
                     OFFSET 0
                 ) u
                 UNION ALL
                 SELECT u.day, NULL, NULL, u.route, u.n
                 FROM unnest($8::date[], $9::date[]) AS d (first, last) CROSS JOIN LATERAL (
                     SELECT day, route, n FROM usage_days
                     WHERE project_id = $1 AND day BETWEEN d.first AND d.last AND kind = ANY ($11) OFFSET 0
                 ) u
                 UNION ALL
                 SELECT u.period, NULL, NULL, u.route, u.requests
                 FROM unnest($10::date[]) AS m (period) CROSS JOIN LATERAL (
                     SELECT period, route, requests FROM usage_months
                     WHERE project_id = $1 AND period = m.period AND kind = ANY ($11) OFFSET 0
                 ) u
             ), grouped AS (
                 SELECT CASE WHEN $12 THEN day ELSE '0001-01-01' END AS day,
                        CASE WHEN kind = 2 THEN credential_id ELSE '00000000-0000-0000-0000-000000000000' END AS key_id,
                        CASE WHEN kind = 3 THEN credential_id ELSE '00000000-0000-0000-0000-000000000000' END AS token_id,
                        CASE WHEN $13 THEN route END AS number,
                        sum(n)::bigint AS requests
                 FROM counted GROUP BY 1, 2, 3, 4
             )
             SELECT day, key_id, token_id, coalesce(r.route, '') COLLATE \"C\" AS route, sum(requests)::bigint AS requests
             FROM grouped LEFT JOIN usage_routes r ON r.id = number
             GROUP BY 1, 2, 3, 4
             HAVING (day, key_id, token_id, coalesce(r.route, '') COLLATE \"C\") ", $compare, "
                    ($14, $15, $16, $17 COLLATE \"C\")
             ORDER BY 1 ", $direction, ", 2 ", $direction, ", 3 ", $direction, ", 4 ", $direction, "
             LIMIT $7"
        )
    };
    ($compare:literal, "ASC") => {
        select_groups!($compare, "ASC", ">=", "<=", "1 day",
            "00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff")
    };
    ($compare:literal, "DESC") => {
        select_groups!($compare, "DESC", "<=", ">=", "-1 day",
            "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000000")
    };
}

/// Returns the final months of a range, of which monthly sums are read.
async fn final_months(db: &mut PgConnection, tenant: Tenant, range: &DateRange) -> sqlx::Result<Vec<Period>> {
    let Some((first, last)) = range.whole_months() else { return Ok(Vec::new()) };
    sqlx::query_scalar("SELECT period FROM usage_periods WHERE project_id = $1 AND period BETWEEN $2 AND $3")
        .bind(tenant.project_id())
        .bind(first.first())
        .bind(last.first())
        .fetch_all(db)
        .await
}

/// Reads a page of groups. Returns the position of its last row if more follow.
pub async fn page(
    db: &mut PgConnection,
    tenant: Tenant,
    range: DateRange,
    after: Option<Cursor>,
    order: Order,
    limit: u8,
) -> sqlx::Result<(Vec<BreakdownRow>, Option<Cursor>)> {
    let groups = range.groups;
    let sql = match (order, &after) {
        // The row whose groups are all unknown is the first row, so the first page includes equality.
        (Order::Asc, None) => select_groups!(">=", "ASC"),
        (Order::Asc, Some(_)) => select_groups!(">", "ASC"),
        (Order::Desc, _) => select_groups!("<", "DESC"),
    };
    let after = after.unwrap_or_else(|| Cursor::before_first(order));
    // A month that becomes final after this query is read by day, which are kept.
    let final_months = final_months(db, tenant, &range).await?;
    let Sources { days, kinds, streams } = Sources::new(&range, &final_months, &after, order);
    let rows: Vec<GroupRow> = sqlx::query_as(sql)
        .bind(tenant.project_id())
        .bind(streams.kinds)
        .bind(streams.days)
        .bind(streams.credentials)
        .bind(streams.last_days)
        .bind(streams.is_month)
        .bind(rows_for(limit))
        .bind(days.first)
        .bind(days.last)
        .bind(days.final_months)
        .bind(kinds)
        .bind(groups.day)
        .bind(groups.route)
        .bind(after.day)
        .bind(after.key)
        .bind(after.token)
        .bind(after.route)
        .bind(range.credential.credential())
        .fetch_all(db)
        .await?;
    let (rows, last) = truncate_page(rows, limit, GroupRow::cursor);
    Ok((rows.into_iter().map(|row| row.into_view(groups)).collect(), last))
}
