//! `/v1/sessions`.

use axum::extract::State;

use super::{
    model::{IssuedSession, RevokedSession, SessionView, SignIn},
    repo,
};
use crate::{
    audit::model::Actor,
    auth::grant::{Session, SigningIn},
    base::{
        action::Action,
        email::EmailKey,
        error::{Code, Error, Result},
        id::{self, SessionId},
        page::{Everything, ListQuery},
        subject::Subject,
    },
    http::{
        extract::{JsonBody, PathId, Query},
        reply::{Created, Issued, Json, List},
    },
    state::App,
    tx::Change,
    users,
};

/// Signs a user in.
pub async fn create(
    caller: SigningIn,
    State(app): State<App>,
    body: JsonBody<SignIn>,
) -> Result<Issued<IssuedSession>> {
    let SignIn { email, password } = body.validate()?;
    // A malformed address is looked up and verified like an unknown one, so that neither the response nor its timing
    // reveals which addresses are known.
    let key = EmailKey::of(&email);
    // Another request may change the password after it was verified, or store a stronger hash of it. In this case, it is
    // verified again.
    let mut known = None;
    for _ in 0..2 {
        let account = users::repo::find_by_email(&mut *app.db.acquire().await?, &email).await?;
        known = account.as_ref().map(|account| account.id);
        let stored = account.as_ref().and_then(|account| account.password_hash.clone());
        let proof = app.passwords.prove(key.as_str(), password.clone(), stored.clone(), app.clock.now());
        let proof = caller.request.while_awaited(proof).await?;
        let (Some(user), Some(proof)) = (account, proof) else { break };

        let mut tx = app.writes.begin(&caller.request).await?;
        if !users::repo::hold_password(tx.db(), user.id, stored.as_deref(), proof.upgrade.as_deref()).await? {
            continue;
        }
        let session = repo::issue(tx.db(), user.id, user.email, app.clock.now()).await?;
        let change = Change::session(&session).by(Actor::user(session.user.id, session.id));
        let location = format!("/v1/sessions/{}", session.id);
        return tx.commit(change, Issued(Created { location, body: session })).await;
    }
    // For an unknown address, the audit trail stores nothing: it may be a password in the wrong field.
    app.writes.refused(&caller.request, Change::refused(Action::SessionRefused, known)).await?;
    Err(Error::new(Code::InvalidCredentials, "The email address or the password is wrong; check both and try again"))
}

/// Lists the user's valid sessions.
pub async fn list(
    session: Session,
    State(app): State<App>,
    Query(query): Query<ListQuery<Everything>>,
) -> Result<List<SessionView>> {
    let page = query.page()?;
    let mut db = app.db.acquire().await?;
    let page = repo::list_live(&mut db, session.user_id, app.clock.now(), &page).await?;
    Ok(List::new(page, session.request.id))
}

/// Revokes the caller's session.
pub async fn revoke_current(session: Session, State(app): State<App>) -> Result<Json<RevokedSession>> {
    let id = session.id;
    end(session, app, id).await
}

/// Revokes one of the user's sessions.
pub async fn revoke(
    session: Session,
    State(app): State<App>,
    PathId(id): PathId<id::Session>,
) -> Result<Json<RevokedSession>> {
    end(session, app, id).await
}

async fn end(session: Session, app: App, id: SessionId) -> Result<Json<RevokedSession>> {
    let now = app.clock.now();
    let mut tx = app.writes.begin(&session.request).await?;
    if tx.is_conditional() {
        match repo::get_unrevoked(tx.db(), session.user_id, id).await? {
            Some(view) => tx.require_match(&view)?,
            None => tx.waive_conditions(),
        }
    }
    let before = repo::revoke(tx.db(), session.user_id, id, now).await?.ok_or_else(Error::not_found)?;
    tx.recall(Subject::Session(id));
    let change = Change::new(Action::SessionRevoked, id, None).revoked(before);
    tx.commit(change, Json(RevokedSession { id, revoked: true })).await
}
