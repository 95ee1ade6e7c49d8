//! SQL for usage breakdowns. Whole months that are final come from their monthly sums, all other days from the daily
//! counts.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sqlx::{FromRow, PgConnection};
use time::Date;

use super::model::{BreakdownRow, Groups};
use crate::base::{
    id::{Id, KeyId, Kind, TokenId},
    identity::tenant::Tenant,
    input::page::{Order, rows_for, truncate_page},
    runtime::{clock::Day, period::Period},
};

/// Position of a page's end: the groups of its last row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    day: Date,
    key: KeyId,
    token: TokenId,
    route: String,
}

impl Cursor {
    /// Position before the first row, or after the last in descending order.
    fn before_first(order: Order) -> Self {
        match order {
            Order::Asc => Self { day: FIRST_DAY, key: Id::NIL, token: Id::NIL, route: String::new() },
            // Greater than every route.
            Order::Desc => Self { day: Date::MAX, key: Id::LAST, token: Id::LAST, route: "~".into() },
        }
    }

    /// Encodes the position as a cursor.
    pub fn encode(&self) -> String {
        let Self { day, key, token, route } = self;
        URL_SAFE_NO_PAD.encode(format!("{day} {key} {token} {route}"))
    }

    /// Decodes a cursor.
    pub fn decode(cursor: &str) -> Option<Self> {
        let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
        let mut parts = text.splitn(4, ' ');
        let day = Day::parse(parts.next()?)?.0;
        let (key, token, route) = (parts.next()?, parts.next()?, parts.next()?.to_owned());
        Some(Self { day, key: id(key)?, token: id(token)?, route })
    }
}

/// Parses an ID in a cursor. The nil ID, which is invalid elsewhere, means "without".
fn id<K: Kind>(text: &str) -> Option<Id<K>> {
    if text == Id::<K>::NIL.to_string() { Some(Id::NIL) } else { text.parse().ok() }
}

/// Day of groups that are not by day.
const FIRST_DAY: Date = time::macros::date!(0001 - 01 - 01);

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
            token_id: groups.token.then(|| (self.token_id != Id::NIL).then_some(self.token_id)),
            route: groups.route.then(|| Some(self.route).filter(|route| !route.is_empty())),
            requests: self.requests,
        }
    }
}

/// Range and groups of a breakdown.
#[derive(Clone, Copy, Debug)]
pub struct DateRange {
    /// First day.
    pub from: Date,
    /// Last day, inclusive.
    pub to: Date,
    /// Groups.
    pub groups: Groups,
}

impl DateRange {
    /// Returns the first day whose daily counts are needed, if any.
    pub fn first_daily_count(&self) -> Option<Date> {
        let (first, last) = self.whole_months();
        if self.groups.day || self.from < first || last < first {
            return Some(self.from);
        }
        let rest = Period::of(last).next().first();
        (rest <= self.to).then_some(rest)
    }

    /// Returns the first and the last day of the range's part in each month.
    fn month_bounds(&self) -> (Vec<Date>, Vec<Date>) {
        let (mut first, mut last) = (vec![self.from], Vec::new());
        let mut period = Period::of(self.from);
        while period < Period::of(self.to) {
            last.push(period.last());
            period = period.next();
            first.push(period.first());
        }
        last.push(self.to);
        (first, last)
    }

    /// Returns the first and the last whole month in the range, by their first days. If there is none, the last is
    /// before the first.
    fn whole_months(&self) -> (Date, Date) {
        let first = match Period::of(self.from) {
            period if period.first() == self.from => period,
            period => period.next(),
        };
        let last = match Period::of(self.to) {
            period if period.last() == self.to => period,
            period => period.previous(),
        };
        (first.first(), last.first())
    }
}

macro_rules! select_groups {
    ($compare:literal, $direction:literal) => {
        concat!(
            "WITH rolled AS (
                 -- Final whole months. Their sums have no days.
                 SELECT period FROM usage_periods
                 WHERE project_id = $1 AND period BETWEEN $4 AND $5 AND NOT $9
             ), counted AS (
                 -- Month by month, which OFFSET 0 enforces, so that no row of a final month is read.
                 SELECT u.day, u.credential_id, u.kind, u.route, u.n
                 FROM (
                     SELECT first, last FROM unnest($2::date[], $3::date[]) AS m (first, last)
                     WHERE NOT EXISTS (SELECT FROM rolled r WHERE r.period = date_trunc('month', m.first)::date)
                 ) m CROSS JOIN LATERAL (
                     SELECT day, credential_id, kind, route, n FROM usage_node
                     WHERE project_id = $1 AND day BETWEEN m.first AND m.last OFFSET 0
                 ) u
                 UNION ALL
                 SELECT period, credential_id, kind, route, requests FROM usage_monthly JOIN rolled USING (period)
                 WHERE project_id = $1
             ), grouped AS (
                 SELECT CASE WHEN $9 THEN day ELSE '0001-01-01' END AS day,
                        CASE WHEN $6 AND kind = 2 THEN credential_id ELSE '00000000-0000-0000-0000-000000000000' END AS key_id,
                        CASE WHEN $7 AND kind = 3 THEN credential_id ELSE '00000000-0000-0000-0000-000000000000' END AS token_id,
                        CASE WHEN $8 THEN route END AS number,
                        sum(n)::bigint AS requests
                 FROM counted GROUP BY 1, 2, 3, 4
             )
             SELECT day, key_id, token_id, coalesce(r.route, '') COLLATE \"C\" AS route, sum(requests)::bigint AS requests
             FROM grouped LEFT JOIN usage_routes r ON r.id = number
             GROUP BY 1, 2, 3, 4
             HAVING (day, key_id, token_id, coalesce(r.route, '') COLLATE \"C\") ",
            $compare,
            " ($10, $11, $12, $13 COLLATE \"C\")
             ORDER BY 1 ",
            $direction,
            ", 2 ",
            $direction,
            ", 3 ",
            $direction,
            ", 4 ",
            $direction,
            " LIMIT $14"
        )
    };
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
    let (first_days, last_days) = range.month_bounds();
    let (first_month, last_month) = range.whole_months();
    let sql = match (order, &after) {
        // The row whose groups are all unknown is the first row, so the first page includes equality.
        (Order::Asc, None) => select_groups!(">=", "ASC"),
        (Order::Asc, Some(_)) => select_groups!(">", "ASC"),
        (Order::Desc, _) => select_groups!("<", "DESC"),
    };
    let after = after.unwrap_or_else(|| Cursor::before_first(order));
    let rows: Vec<GroupRow> = sqlx::query_as(sql)
        .bind(tenant.project_id())
        .bind(first_days)
        .bind(last_days)
        .bind(first_month)
        .bind(last_month)
        .bind(groups.key)
        .bind(groups.token)
        .bind(groups.route)
        .bind(groups.day)
        .bind(after.day)
        .bind(after.key)
        .bind(after.token)
        .bind(after.route)
        .bind(rows_for(limit))
        .fetch_all(db)
        .await?;
    let (rows, last) = truncate_page(rows, limit, GroupRow::cursor);
    Ok((rows.into_iter().map(|row| row.into_view(groups)).collect(), last))
}
