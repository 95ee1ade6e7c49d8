//! `/v1/usage`.

use axum::extract::State;

use super::{
    model::{Usage, period_of},
    repo,
};
use crate::{
    auth::grant::Grant,
    base::{clock::Day, error::Result, page::InProject, scope::of::UsageRead},
    http::{extract::Query, reply::Json},
    state::App,
};

/// The current billing period's usage, a second old at most.
pub async fn get(
    grant: Grant<UsageRead>,
    State(app): State<App>,
    Query(query): Query<InProject>,
) -> Result<Json<Usage>> {
    let (first, last) = period_of(app.clock.now());
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.project_id.as_deref()).await?;
    let requests = repo::requests_between(&mut db, tenant, first, last).await?;
    // No project has an included volume yet, so nothing goes beyond it.
    Ok(Json(Usage { period_start: Day(first), period_end: Day(last), requests, overage: 0, included: None }))
}
