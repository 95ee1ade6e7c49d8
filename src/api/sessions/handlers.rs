//! `/v1/sessions`.

use std::sync::Arc;

use axum::extract::State;

use super::{
    created_change,
    model::{IssuedSession, RevokedSession, SessionUser, SessionView, SignIn},
    repo::{self, SessionClient},
};
use crate::{
    audit::model::Actor,
    auth::{
        credentials::accounts,
        grant::{Session, SignInClient},
        passwords::Passwords,
    },
    base::{
        action::Action,
        error::{Code, Error, Result},
        id::{self, SessionId},
        identity::subject::Subject,
        input::{
            email::EmailKey,
            page::{ListQuery, NoFilter},
        },
    },
    http::{
        request::extract::{JsonBody, PathId, Query},
        response::{Created, Issued, Json, List},
    },
    tx::{Change, Store},
};

/// Signs a user in.
pub async fn create(
    caller: SignInClient,
    State(store): State<Store>,
    State(passwords): State<Arc<Passwords>>,
    body: JsonBody<SignIn>,
) -> Result<Issued<IssuedSession>> {
    let SignIn { email, password } = body.validate()?;
    // A malformed address is looked up and verified like an unknown one, so that neither the response nor its timing
    // reveals which addresses are known.
    let key = EmailKey::of(&email);
    // Another request may change the password after it was verified, or store a stronger hash of it. In this case, it
    // is verified again.
    let mut account_id = None;
    for _ in 0..2 {
        let account = accounts::find_by_email(&mut *store.db.acquire().await?, &email).await?;
        account_id = account.as_ref().map(|account| account.id);
        let stored = account.as_ref().and_then(|account| account.password_hash.clone());
        let proof = passwords.verify_throttled(key.as_str(), password.clone(), stored.clone(), store.clock.now());
        let proof = caller.request.while_connected(proof).await?;
        let (Some(user), Some(proof)) = (account, proof) else { break };

        let mut tx = store.writes.begin(&caller.request).await?;
        if !accounts::lock_password_hash(tx.db(), user.id, stored.as_deref(), proof.upgrade.as_deref()).await? {
            continue;
        }
        let (client, user) = (SessionClient::of(&caller.request), SessionUser { id: user.id, email: user.email });
        let session = repo::issue_to(tx.db(), client, user, store.clock.now()).await?;
        let change = created_change(&session).with_actor(Actor::user(session.user.id, session.id));
        let location = format!("/v1/sessions/{}", session.id);
        return tx.commit(change, Issued(Created { location, body: session })).await;
    }
    // For an unknown address, the audit trail stores nothing: it may be a password in the wrong field.
    store.writes.record_refused(&caller.request, Change::refused(Action::SessionRefused, account_id)).await?;
    Err(Error::new(Code::InvalidCredentials, "The email address or the password is wrong; check both and try again"))
}

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
