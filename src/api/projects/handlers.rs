//! `/v1/projects`.

use std::sync::Arc;

use axum::extract::State;
use futures_util::FutureExt;

use super::{
    model::{DeletedProject, NewProject, Project, ProjectFilter, ProjectPatch},
    repo,
};
use crate::{
    api::users,
    auth::{
        grant::{Grant, OwnerOnly, Session, SessionOnly},
        revocation::node::Node,
    },
    base::{
        action::Action,
        error::{Code, Error, Result},
        id::{self, ProjectId},
        identity::{
            caller::Caller,
            role::Role,
            scope::of::{ProjectsRead, ProjectsWrite},
            subject::Subject,
            tenant::ProjectStatus,
        },
        input::page::{ListQuery, PageRequest},
    },
    db::deletions::{self, Deletion},
    http::{
        request::extract::{EmptyRequest, JsonBody, PathId, Query},
        response::{Created, Json, List, WithEtag},
    },
    resources,
    tx::{Change, Effect, Idempotent, Store, begin_or_replay},
};

/// Lists projects: those of the user for a session, its own for a key or token.
pub async fn list(
    grant: Grant<ProjectsRead>,
    State(store): State<Store>,
    State(node): State<Arc<Node>>,
    Query(query): Query<ListQuery<ProjectFilter>>,
) -> Result<List<Project>> {
    let page = query.page()?;
    let status = query.filter.status;
    let mut db = store.db.acquire().await?;
    let page = match grant.caller() {
        Caller::Session { user_id, .. } => {
            let (user, PageRequest { limit, order, after }) = (*user_id, page);
            node.read_verified_on(&mut db, move |db| {
                let page = PageRequest { limit, order, after };
                async move { repo::list_of_user(db, user, status, &page).await }.boxed()
            })
            .await?
        }
        Caller::Key { .. } | Caller::Token { .. } => {
            let tenant = grant.in_project(&mut db, None).await?;
            repo::list_of_tenant(&mut db, tenant, status, &page).await?
        }
    };
    Ok(List::new(page, grant.request().id))
}

/// Creates a project, owned by the session's user.
pub async fn create(
    session: Session,
    State(store): State<Store>,
    body: JsonBody<NewProject>,
) -> Result<Idempotent<Created<Project>>> {
    let now = store.clock.now();
    let plan = |new| {
        let (call, project) = repo::create(ProjectId::new(), new, now);
        let call = call
            .wrap_with("add_member", |call| call.bind(project.id).bind(session.user_id).bind(Role::Owner).bind(now));
        let change = Change::new(Action::ProjectCreated, project.id, Some(project.id)).created(&project);
        let response = Created { location: format!("/v1/projects/{}", project.id), body: project };
        Ok(Effect { call, change, response })
    };
    store.writes.execute_single(&session.request, body, plan).await
}

/// Returns a project.
pub async fn get(
    grant: Grant<ProjectsRead>,
    State(store): State<Store>,
    PathId(id): PathId<id::Project>,
) -> Result<WithEtag<Project>> {
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project(&mut db, Some(&id.to_string())).await?;
    repo::get(&mut db, tenant).await?.map(WithEtag).ok_or_else(Error::not_found)
}

/// Updates a project's name or metadata.
pub async fn update(
    grant: Grant<ProjectsWrite, SessionOnly>,
    State(store): State<Store>,
    PathId(id): PathId<id::Project>,
    body: JsonBody<ProjectPatch>,
) -> Result<Idempotent<WithEtag<Project>>> {
    let (mut tx, patch) = begin_or_replay!(store.writes.begin_idempotent(grant.request(), body).await?);
    let tenant = grant.in_project_for_write(tx.db(), Some(&id.to_string())).await?;
    let before = repo::lock(tx.db(), tenant).await?.ok_or_else(Error::not_found)?;
    tx.require_match(&before)?;
    tenant.require_active()?;
    let project = repo::update(tx.db(), tenant, patch).await?;
    let change = Change::new(Action::ProjectUpdated, project.id, Some(project.id)).updated(&before, &project);
    tx.commit(change, WithEtag(project)).await
}

/// Suspends a project: its keys and tokens stop working until it is resumed.
pub async fn suspend(
    grant: Grant<ProjectsWrite, OwnerOnly>,
    State(store): State<Store>,
    PathId(id): PathId<id::Project>,
    body: JsonBody<EmptyRequest>,
) -> Result<Idempotent<WithEtag<Project>>> {
    change_status((grant, body), store, id, ProjectStatus::Suspended, Action::ProjectSuspended).await
}

/// Resumes a project: its keys and tokens work again.
pub async fn resume(
    grant: Grant<ProjectsWrite, OwnerOnly>,
    State(store): State<Store>,
    PathId(id): PathId<id::Project>,
    body: JsonBody<EmptyRequest>,
) -> Result<Idempotent<WithEtag<Project>>> {
    change_status((grant, body), store, id, ProjectStatus::Active, Action::ProjectResumed).await
}

/// Archives a project: its keys and tokens stop working, and it can be deleted.
pub async fn archive(
    grant: Grant<ProjectsWrite, OwnerOnly>,
    State(store): State<Store>,
    PathId(id): PathId<id::Project>,
    body: JsonBody<EmptyRequest>,
) -> Result<Idempotent<WithEtag<Project>>> {
    change_status((grant, body), store, id, ProjectStatus::Archived, Action::ProjectArchived).await
}

async fn change_status(
    (grant, body): (Grant<ProjectsWrite, OwnerOnly>, JsonBody<EmptyRequest>),
    store: Store,
    id: ProjectId,
    status: ProjectStatus,
    action: Action,
) -> Result<Idempotent<WithEtag<Project>>> {
    let (mut tx, EmptyRequest {}) = begin_or_replay!(store.writes.begin_idempotent(grant.request(), body).await?);
    let tenant = grant.in_project_for_write(tx.db(), Some(&id.to_string())).await?;
    let before = repo::lock(tx.db(), tenant).await?.ok_or_else(Error::not_found)?;
    tx.require_match(&before)?;
    match (before.status, status) {
        // A repeated request gets the same response and changes nothing.
        (current, requested) if current == requested => {
            tx.invalidate(Subject::Project(id));
            return tx.commit_unchanged(WithEtag(before)).await;
        }
        (ProjectStatus::Archived, ProjectStatus::Suspended) => {
            return Err(Error::new(
                Code::InvalidState,
                "The project is archived, so its keys and tokens are already disabled; resume it before you suspend it",
            ));
        }
        _ => {}
    }
    let project = repo::set_status(tx.db(), tenant, status).await?;
    tx.invalidate(Subject::Project(id));
    let change = Change::new(action, project.id, Some(project.id)).updated(&before, &project);
    tx.commit(change, WithEtag(project)).await
}

/// Deletes an archived project with everything in it.
pub async fn delete(
    grant: Grant<ProjectsWrite, OwnerOnly>,
    State(store): State<Store>,
    PathId(id): PathId<id::Project>,
) -> Result<Json<DeletedProject>> {
    let mut tx = store.writes.begin(grant.request()).await?;
    let reply = Json(DeletedProject { id, deleted: true });
    if let Some(Deletion { repeatable_by, .. }) = deletions::find(tx.db(), id, id).await? {
        let caller = grant.caller().user_id();
        if !caller.is_some_and(|caller| repeatable_by.contains(&caller)) {
            return Err(Error::not_found());
        }
        tx.waive_preconditions();
        // Waits for the confirmation, like the first request.
        tx.invalidate(Subject::Project(id));
        return tx.commit_unchanged(reply).await;
    }
    // Before the lock on the membership, for which the deletion would otherwise wait in other transactions.
    users::repo::lock_members(tx.db(), id).await?;
    let tenant = grant.in_project_for_write(tx.db(), Some(&id.to_string())).await?;
    let project = repo::lock_for_deletion(tx.db(), tenant).await?.ok_or_else(Error::not_found)?;
    tx.require_match(&project)?;
    if project.status != ProjectStatus::Archived {
        return Err(Error::new(
            Code::ProjectNotArchived,
            format!(
                "Only an archived project can be deleted; archive it with POST /v1/projects/{id}/archive, and then delete it"
            ),
        ));
    }
    // A separate statement, which sees the transactions that the lock has waited for.
    let alive = resources::store::list_undeleted(tx.db(), id).await?;
    if !alive.is_empty() {
        let alive = alive.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let detail =
            format!("The project still has resources: {alive}; delete them first, and wait until they are gone");
        return Err(Error::new(Code::ProjectNotEmpty, detail));
    }
    let repeatable_by = users::repo::owners(tx.db(), tenant).await?;
    deletions::record(tx.db(), id, id, Deletion { role: None, repeatable_by }, store.clock.now()).await?;
    repo::delete(tx.db(), tenant).await?;
    tx.invalidate(Subject::Project(id));
    let change = Change::new(Action::ProjectDeleted, id, Some(id)).deleted(&project);
    tx.commit(change, reply).await
}
