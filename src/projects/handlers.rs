//! `/v1/projects`.

use axum::extract::State;

use super::{
    model::{NewProject, Project, ProjectPatch},
    repo,
};
use crate::{
    auth::grant::{Grant, Session, SessionOnly},
    base::{
        caller::Caller,
        error::{Error, Result},
        id::{self, ProjectId},
        page::{Everything, ListQuery},
        scope::of::{ProjectsRead, ProjectsWrite},
    },
    http::{
        extract::{JsonBody, PathId, Query},
        reply::{Created, Json, List},
    },
    state::App,
    tx::Change,
    users::{self, model::Role},
};

/// A session sees the projects of its user, a key or token its own.
pub async fn list(
    grant: Grant<ProjectsRead>,
    State(app): State<App>,
    Query(query): Query<ListQuery<Everything>>,
) -> Result<List<Project>> {
    let page = query.page()?;
    let mut db = app.db.acquire().await?;
    let page = match grant.caller() {
        Caller::Session { user_id, .. } => repo::list_of_user(&mut db, *user_id, &page).await?,
        Caller::Key { .. } | Caller::Token { .. } => {
            let tenant = grant.in_project(&mut db, None).await?;
            repo::list_of_tenant(&mut db, tenant, &page).await?
        }
    };
    Ok(List::new(page, grant.request().id))
}

/// Makes a project, owned by the session's user.
pub async fn create(session: Session, State(app): State<App>, body: JsonBody<NewProject>) -> Result<Created<Project>> {
    let new = body.validate()?;
    let now = app.clock.now();
    let mut tx = app.writes.begin(&session.request).await?;
    let project = repo::insert(tx.db(), ProjectId::new(), new, now).await?;
    users::repo::insert_member(tx.db(), project.id, session.user_id, Role::Owner, now).await?;
    let change = Change::new("project.created", project.id, Some(project.id));
    tx.commit(change, Created { location: format!("/v1/projects/{}", project.id), body: project }).await
}

/// One project.
pub async fn get(
    grant: Grant<ProjectsRead>,
    State(app): State<App>,
    PathId(id): PathId<id::Project>,
) -> Result<Json<Project>> {
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project(&mut db, Some(&id.to_string())).await?;
    repo::get(&mut db, tenant).await?.map(Json).ok_or_else(Error::not_found)
}

/// Changes a project's name or metadata.
pub async fn update(
    grant: Grant<ProjectsWrite, SessionOnly>,
    State(app): State<App>,
    PathId(id): PathId<id::Project>,
    body: JsonBody<ProjectPatch>,
) -> Result<Json<Project>> {
    let patch = body.validate()?;
    let mut tx = app.writes.begin(grant.request()).await?;
    let tenant = grant.in_project_for_write(tx.db(), Some(&id.to_string())).await?;
    let project = repo::update(tx.db(), tenant, patch).await?.ok_or_else(Error::not_found)?;
    let change = Change::new("project.updated", project.id, Some(project.id));
    tx.commit(change, Json(project)).await
}
