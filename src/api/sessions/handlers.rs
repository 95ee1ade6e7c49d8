//! `/v1/sessions`.

use axum::extract::State;

use super::{
    model::{RevokedSession, SessionView},
    repo,
};
use crate::{
    auth::grant::Session,
    base::{
        action::Action,
        error::{Error, Result},
        id::{self, SessionId},
        identity::subject::Subject,
        input::page::{ListQuery, NoFilter},
    },
    http::{
        request::extract::{PathId, Query},
        response::{Json, List},
    },
    tx::{Change, Store},
};

/// Lists the user's valid sessions.
pub async fn list(
    session: Session,
    State(store): State<Store>,
    Query(query): Query<ListQuery<NoFilter>>,
) -> Result<List<SessionView>> {
    let page = query.page()?;
    let mut db = store.db.acquire().await?;
    let page = repo::list_active(&mut db, session.user_id, store.clock.now(), &page).await?;
    Ok(List::new(page, session.request.id))
}

/// Revokes the caller's session.
pub async fn revoke_current(session: Session, State(store): State<Store>) -> Result<Json<RevokedSession>> {
    let id = session.id;
    revoke_session(session, store, id).await
}

/// Revokes one of the user's sessions.
pub async fn revoke(
    session: Session,
    State(store): State<Store>,
    PathId(id): PathId<id::Session>,
) -> Result<Json<RevokedSession>> {
    revoke_session(session, store, id).await
}

async fn revoke_session(session: Session, store: Store, id: SessionId) -> Result<Json<RevokedSession>> {
    let now = store.clock.now();
    let mut tx = store.writes.begin(&session.request).await?;
    if tx.is_conditional() {
        match repo::get_unrevoked(tx.db(), session.user_id, id).await? {
            Some(view) => tx.require_match(&view)?,
            None => tx.waive_preconditions(),
        }
    }
    let before = repo::revoke(tx.db(), session.user_id, id, now).await?.ok_or_else(Error::not_found)?;
    tx.invalidate(Subject::Session(id));
    let change = Change::new(Action::SessionRevoked, id, None).revoked(before);
    tx.commit(change, Json(RevokedSession { id, revoked: true })).await
}
