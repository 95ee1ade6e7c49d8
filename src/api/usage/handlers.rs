//! `/v1/usage`.

use std::iter;

use axum::extract::State;
use time::Date;

use super::{
    breakdown::{self, CredentialFilter, Cursor, DateRange},
    model::{BreakdownFilter, BreakdownRow, Groups, PeriodsFilter, Usage, UsageQuery},
    repo,
};
use crate::{
    auth::grant::Grant,
    base::{
        error::{Code, Error, ItemCode, Result},
        identity::scope::of::UsageRead,
        input::page::{ListQuery, Order, truncate_page},
        runtime::{clock::Day, period::Period},
    },
    http::{
        request::extract::Query,
        response::{List, WithAsOf, WithEtag},
    },
    tx::Store,
};

/// Maximum number of days in a breakdown, and in one by day.
const MAX_DAYS: i64 = 366;
const MAX_DAYS_BY_DAY: i64 = 92;

/// Returns the usage of a billing period.
pub async fn get(
    grant: Grant<UsageRead>,
    State(store): State<Store>,
    Query(query): Query<UsageQuery>,
) -> Result<WithAsOf<WithEtag<Usage>>> {
    let now = store.clock.now();
    let current = Period::of(now.date());
    let period = query.period.unwrap_or(current);
    if period > current {
        return Err(out_of_range("period", format!("{period} has not begun; use {current} or an earlier month")));
    }
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.project_id.as_deref()).await?;
    let as_of = repo::as_of(&mut db, now).await?;
    let first = repo::first_period(&mut db, tenant).await?.ok_or_else(Error::not_found)?;
    if period < first {
        return Err(out_of_range(
            "period",
            format!("the project was created in {first}; use that month or a later one"),
        ));
    }
    let usage = repo::periods(&mut db, tenant, [period]).await?;
    let usage = usage.into_iter().next().ok_or_else(Error::not_found)?;
    Ok(WithAsOf { as_of, response: WithEtag(usage) })
}

/// Lists the project's billing periods up to the current one.
pub async fn periods(
    grant: Grant<UsageRead>,
    State(store): State<Store>,
    Query(query): Query<ListQuery<PeriodsFilter>>,
) -> Result<WithAsOf<List<Usage>>> {
    let cursor: Option<Period> = query.cursor("a month, such as 2026-03", |text| text.parse().ok())?;
    let (order, limit) = (query.order(), query.limit());
    let now = store.clock.now();
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let as_of = repo::as_of(&mut db, now).await?;
    let first = repo::first_period(&mut db, tenant).await?.ok_or_else(Error::not_found)?;
    let last = Period::of(now.date());
    let (start, step): (_, fn(Period) -> Period) = match order {
        Order::Asc => (cursor.map_or(first, |cursor| first.max(cursor.next())), Period::next),
        Order::Desc => (cursor.map_or(last, |cursor| last.min(cursor.previous())), Period::previous),
    };
    let periods = iter::successors(Some(start), |period| Some(step(*period)))
        .take_while(|period| (first..=last).contains(period))
        .take(usize::from(limit) + 1);
    let periods = repo::periods(&mut db, tenant, periods).await?;
    let (periods, next) = truncate_page(periods, limit, |usage| Period::of(usage.period_start.0).to_string());
    Ok(WithAsOf { as_of, response: List::from_items(periods, next, grant.request().id) })
}

/// Lists the project's usage by key, token, route or day.
pub async fn breakdown(
    grant: Grant<UsageRead>,
    State(store): State<Store>,
    Query(query): Query<ListQuery<BreakdownFilter>>,
) -> Result<WithAsOf<List<BreakdownRow>>> {
    let now = store.clock.now();
    let range = date_range(&query.filter, now.date())?;
    let after = query.cursor("a cursor of this list", Cursor::decode)?;
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let retained_from = repo::daily_counts_from(&mut db).await?;
    if range.first_daily_count().is_some_and(|day| day < retained_from) {
        let detail = format!(
            "before {retained_from} only whole months are kept; use the first day of a month and the last day of a month, and do not group by day"
        );
        return Err(out_of_range("from", detail));
    }
    let as_of = repo::as_of(&mut db, now).await?;
    let (mut rows, last) = breakdown::page(&mut db, tenant, range, after, query.order(), query.limit()).await?;
    breakdown::names::resolve(&mut db, tenant, &mut rows).await?;
    let next = last.map(|cursor| cursor.encode());
    Ok(WithAsOf { as_of, response: List::from_items(rows, next, grant.request().id) })
}

fn date_range(filter: &BreakdownFilter, today: Date) -> Result<DateRange> {
    let groups = filter.group_by.unwrap_or(Groups::BY_DAY);
    let Day(to) = filter.to.unwrap_or(Day(today));
    let Day(from) = filter.from.unwrap_or(Day(Period::of(today.min(to)).first()));
    if from > to {
        return Err(out_of_range("from", format!("{from} is after {to}; use an earlier 'from' or a later 'to'")));
    }
    let max_days = if groups.day { MAX_DAYS_BY_DAY } else { MAX_DAYS };
    if (to - from).whole_days() >= max_days {
        let hint = if groups.day { ", or do not group by day: then 366 are allowed" } else { "" };
        return Err(out_of_range("from", format!("from {from} to {to} is more than {max_days} days; use fewer{hint}")));
    }
    let credential = CredentialFilter::new(filter.key_id, filter.token_id);
    Ok(DateRange { from, to, groups, credential })
}

fn out_of_range(parameter: &str, what: String) -> Error {
    Error::new(Code::InvalidParameter, format!("'{parameter}': {what}")).at_parameter(parameter, ItemCode::OutOfRange)
}
