//! `/v1/users`.

use axum::extract::State;

use super::{model::Member, repo};
use crate::{
    auth::grant::Grant,
    base::{
        error::{Error, Result},
        id,
        page::{InProject, ListQuery},
        scope::of::UsersRead,
    },
    http::{
        extract::{PathId, Query},
        reply::{Json, List},
    },
    state::App,
};

/// The users visible to the caller's project.
pub async fn list(
    grant: Grant<UsersRead>,
    State(app): State<App>,
    Query(query): Query<ListQuery<InProject>>,
) -> Result<List<Member>> {
    let page = query.page()?;
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let page = repo::list(&mut db, tenant, &page).await?;
    Ok(List::new(page, grant.request().id))
}

/// One of them.
pub async fn get(
    grant: Grant<UsersRead>,
    State(app): State<App>,
    PathId(id): PathId<id::User>,
    Query(query): Query<InProject>,
) -> Result<Json<Member>> {
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.project_id.as_deref()).await?;
    repo::get(&mut db, tenant, id).await?.map(Json).ok_or_else(Error::not_found)
}
