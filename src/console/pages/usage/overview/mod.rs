//! `/console/projects/{project_id}/usage`: the requests of a month by day, key, token and route.

use std::collections::HashMap;

use askama::Template;
use axum::{
    extract::Path,
    http::StatusCode,
    routing::{MethodRouter, get},
};
use time::Date;

use super::breakdown::{Breakdown, By, call};
use crate::{
    api::{
        overview::model::Overview,
        usage::model::{BreakdownRow, PeriodStatus, Usage},
    },
    base::{id::ProjectId, runtime::period::Period},
    console::{
        Console,
        browser::{Visit, visit::PageQuery},
        client::{Call, Fault, List},
        components::{
            chart::{Bars, Meter, number},
            status::{Badge, Empty, Tone},
            time::When,
        },
        forms::{Choice, Field, Form},
        view::PageResult,
    },
};

#[derive(Template)]
#[template(path = "pages/usage/overview/usage.html")]
struct Page {
    path: String,
    period: String,
    months: Field,
    previous: Option<String>,
    next: Option<String>,
    by: &'static str,
    tabs: Vec<Tab>,
    status: Badge,
    requests: String,
    facts: Vec<(&'static str, String)>,
    quotas: Vec<Meter>,
    adjustments: Vec<Adjustment>,
    final_at: Option<When>,
    /// None if the numbers of single days are not kept any more.
    chart: Option<Bars>,
    breakdown: Breakdown,
    empty: Empty,
}

/// Link to a breakdown.
struct Tab {
    title: &'static str,
    path: String,
    is_current: bool,
}

/// Requests that were reported after the month was final.
struct Adjustment {
    day: String,
    requests: String,
    overage: String,
}

/// Months of the list: more than eight years.
const MONTHS: usize = 100;

/// Handlers of the page.
pub fn routes() -> MethodRouter<Console> {
    get(show)
}

async fn show(visit: Visit, Path(project): Path<ProjectId>, PageQuery(query): PageQuery) -> PageResult {
    let current = Period::of(visit.now.date());
    let wanted = query.get("period");
    let month: Period = if wanted.is_empty() { current } else { wanted.parse().unwrap_or(current) };
    let by = By::ALL.into_iter().find(|by| query.get("by") == by.name()).unwrap_or(By::Key);
    let months = Call::get("/v1/usage/periods").query("project_id", project);
    let months = months.query("order", "desc").query("limit", MONTHS);
    let one = Call::get("/v1/usage").query("project_id", project).query("period", month);
    // The limit of a past month is not known.
    let limit = async {
        let overview = Call::get(format!("/v1/projects/{project}/overview"));
        if month != current {
            return Ok(None);
        }
        let found = visit.api.send_unrecorded::<Overview>(&overview).await?;
        Ok(found.body.usage.and_then(|usage| usage.hard_limit))
    };
    let title = format!("Requests by {} in {month}", by.name());
    let (usage, months, limit) =
        tokio::try_join!(visit.api.send::<Usage>(one), visit.api.send_unrecorded::<List<Usage>>(&months), limit)?;
    let (days, breakdown) = tokio::try_join!(
        days(&visit, project, month),
        Breakdown::load(&visit, project, by, &title, call(&visit, project, month, by.name()))
    )?;
    let usage = usage.body;
    let known: Vec<Period> = months.body.data.iter().map(|usage| Period::of(usage.period_start.0)).collect();
    let link = |month: Period| known.contains(&month).then(|| format!("?period={month}&by={}", by.name()));
    let tab = |other: By| Tab {
        title: other.title(),
        path: format!("{}?period={month}&by={}", super::path(project), other.name()),
        is_current: other == by,
    };
    let choices = known.iter().map(|month| Choice::new(month.to_string(), label(*month))).collect();
    let form = Form::new(crate::console::browser::fields::Fields::default().with("period", month.to_string()));
    let included = usage.included.map(|included| Meter::new("Included requests", usage.requests, included));
    let page = Page {
        path: super::path(project),
        period: month.to_string(),
        months: form.select("period", "Month", choices),
        previous: link(month.previous()),
        next: link(month.next()).filter(|_| month != month.next()),
        by: by.name(),
        tabs: By::ALL.into_iter().map(tab).collect(),
        status: status(&usage),
        requests: number(usage.requests),
        facts: facts(&usage, limit, month == current),
        quotas: included.into_iter().chain(limit.map(|limit| Meter::new("Limit", usage.requests, limit))).collect(),
        adjustments: usage.adjustments.iter().map(adjustment).collect(),
        final_at: usage.final_at.map(|time| visit.when(time)),
        chart: days.map(|days| chart(month, visit.now.date(), &days)),
        empty: Empty::new(
            "No requests",
            format!("Requests with keys, tokens and sessions in {} show up here.", label(month)),
        ),
        breakdown,
    };
    visit.page("Usage").project(project).show(&page)
}

/// Requests of each day. None if they are not kept any more.
async fn days(visit: &Visit, project: ProjectId, month: Period) -> Result<Option<HashMap<Date, i64>>, Fault> {
    match visit.api.send::<List<BreakdownRow>>(call(visit, project, month, "day")).await {
        Ok(rows) => {
            let rows = rows.body.data.into_iter();
            Ok(Some(rows.filter_map(|row| Some((row.day?.0, row.requests))).collect()))
        }
        Err(fault) if fault.status == StatusCode::BAD_REQUEST => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn chart(month: Period, today: Date, days: &HashMap<Date, i64>) -> Bars {
    let all = std::iter::successors(Some(month.first()), |day| day.next_day());
    let all = all.take_while(|day| *day <= month.last().min(today));
    let values: Vec<(String, i64)> =
        all.map(|day| (day.to_string(), days.get(&day).copied().unwrap_or_default())).collect();
    Bars::new("days", &format!("Requests per day in {}", label(month)), "Day", &values, month.last().day().into())
}

fn status(usage: &Usage) -> Badge {
    match usage.status {
        PeriodStatus::Open => Badge::new(Tone::Neutral, "Open"),
        PeriodStatus::Final => Badge::new(Tone::Good, "Final"),
    }
}

fn facts(usage: &Usage, limit: Option<i64>, is_current: bool) -> Vec<(&'static str, String)> {
    let limit =
        limit.map_or_else(|| "none".to_owned(), |limit| format!("{}, then keys and tokens are refused", number(limit)));
    let included = ("Included", usage.included.map_or_else(|| "unlimited".to_owned(), number));
    let overage = ("Overage", number(usage.overage));
    [included, overage].into_iter().chain(is_current.then_some(("Limit", limit))).collect()
}

fn adjustment(adjustment: &crate::api::usage::model::Adjustment) -> Adjustment {
    Adjustment {
        day: adjustment.recorded_on.0.to_string(),
        requests: number(adjustment.requests),
        overage: number(adjustment.overage),
    }
}

/// A month for people: "March 2026".
fn label(month: Period) -> String {
    format!("{} {}", month.first().month(), month.first().year())
}
