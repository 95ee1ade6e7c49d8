//! `/v1/projects/{project_id}/overview`.

use std::iter;

use axum::extract::State;
use sqlx::PgConnection;

use super::model::{DayUsage, Overview, UsageOverview, WebhooksOverview};
use crate::{
    api::{
        keys, projects,
        usage::{
            self,
            breakdown::{self, CredentialFilter, DateRange},
            model::Groups,
        },
        webhooks,
    },
    auth::grant::Grant,
    base::{
        error::{Error, Result},
        id::{self, WebhookId},
        identity::{
            scope::{Scope, of::ProjectsRead},
            tenant::Tenant,
        },
        input::page::{Order, PageRequest},
        runtime::{
            clock::{Day, Timestamp},
            period::Period,
        },
    },
    http::{request::extract::PathId, response::WithEtag},
    resources,
    tx::Store,
};

/// Returns the summary of a project.
pub async fn overview(
    grant: Grant<ProjectsRead>,
    State(store): State<Store>,
    PathId(id): PathId<id::Project>,
) -> Result<WithEtag<Overview>> {
    let now = store.clock.now();
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project(&mut db, Some(&id.to_string())).await?;
    let project = projects::repo::get(&mut db, tenant).await?.ok_or_else(Error::not_found)?;
    let may_read = |scope| tenant.scopes().contains(scope);
    let usage = if may_read(Scope::UsageRead) { Some(usage_overview(&mut db, tenant, now).await?) } else { None };
    let keys = if may_read(Scope::KeysRead) { Some(keys::overview::read(&mut db, tenant, now).await?) } else { None };
    let webhooks = if may_read(Scope::WebhooksRead) {
        // A project has fewer webhooks than a page.
        let page = PageRequest { limit: 100, order: Order::Asc, after: WebhookId::FIRST };
        Some(WebhooksOverview::new(webhooks::repo::list(&mut db, tenant, &page).await?.items))
    } else {
        None
    };
    let kinds = resources::api::handlers::readable_kinds(tenant);
    let attention = resources::store::list::with_conditions(&mut db, tenant, &kinds).await?;
    Ok(WithEtag(Overview {
        project_id: project.id,
        name: project.name,
        status: project.status,
        usage,
        keys,
        webhooks,
        resources: attention.into_iter().map(Into::into).collect(),
    }))
}

async fn usage_overview(db: &mut PgConnection, tenant: Tenant, now: Timestamp) -> Result<UsageOverview> {
    let (today, period) = (now.date(), Period::of(now.date()));
    let as_of = usage::repo::as_of(db, now).await?;
    let quota = projects::repo::get_quota(db, tenant).await?.ok_or_else(Error::not_found)?;
    let month = usage::repo::periods(db, tenant, [period]).await?.into_iter().next().ok_or_else(Error::not_found)?;
    let range =
        DateRange { from: period.first(), to: today, groups: Groups::BY_DAY, credential: CredentialFilter::Any };
    let (rows, _) = breakdown::page(db, tenant, range, None, Order::Asc, 31).await?;
    let requests = |day| rows.iter().find(|row| row.day == Some(Day(day))).map_or(0, |row| row.requests);
    let days = iter::successors(Some(period.first()), |day| day.next_day()).take_while(|day| *day <= today);
    Ok(UsageOverview {
        period_start: month.period_start,
        period_end: month.period_end,
        as_of,
        requests: month.requests,
        overage: month.overage,
        included: month.included,
        hard_limit: quota.hard_limit,
        days: days.map(|day| DayUsage { day: Day(day), requests: requests(day) }).collect(),
    })
}
