//! `POST /v1/sessions/current/reauthenticate`: the user of a session proves again who they are. A console session needs
//! that before actions that hand out access, so that a stolen cookie or an unlocked screen is not enough for them.

use std::sync::Arc;

use axum::extract::State;
use secrecy::{ExposeSecret, SecretString};

use super::{
    links,
    model::{Reauthentication, ReauthenticationProof, SessionView},
    repo,
    sign_in::wrong_link,
};
use crate::{
    auth::{
        credentials::accounts::{self, Account},
        grant::Session,
        passwords::Passwords,
    },
    base::{
        action::Action,
        error::{Code, Error, Result},
        identity::subject::Subject,
    },
    http::{request::extract::JsonBody, response::Json},
    tx::{Change, Store, Tx},
};

/// Confirms that the session's user is present.
pub async fn reauthenticate(
    session: Session,
    State(store): State<Store>,
    State(passwords): State<Arc<Passwords>>,
    body: JsonBody<Reauthentication>,
) -> Result<Json<SessionView>> {
    let proof = body.validate()?.proof()?;
    let account = accounts::find(&mut *store.db.acquire().await?, session.user_id).await?.ok_or_else(session_ended)?;
    let (tx, refusal) = match proof {
        ReauthenticationProof::Password(password) => {
            (with_password(&session, &store, &passwords, &account, password).await?, wrong_password(&account))
        }
        ReauthenticationProof::Link(link) => (with_link(&session, &store, &account, &link).await?, wrong_link()),
    };
    let Some(mut tx) = tx else {
        let change = Change::refused(Action::SessionReauthenticated, Some(session.id));
        store.writes.record_refused(&session.request, change).await?;
        return Err(refusal);
    };
    let view = repo::set_authenticated(tx.db(), session.user_id, session.id, store.clock.now()).await?;
    let view = view.ok_or_else(session_ended)?;
    // Every server has cached the time of the last proof.
    tx.invalidate(Subject::Session(session.id));
    tx.commit(Change::new(Action::SessionReauthenticated, session.id, None), Json(view)).await
}

/// Begins the write if the password is right.
async fn with_password(
    session: &Session,
    store: &Store,
    passwords: &Passwords,
    account: &Account,
    password: SecretString,
) -> Result<Option<Tx>> {
    // Delayed as at sign-in: a stolen session must not allow faster guessing.
    let (key, stored) = (account.email.key(), account.password_hash.clone());
    let proof = passwords.verify_throttled(key.as_str(), password, stored.clone(), store.clock.now());
    let Some(proof) = session.request.while_connected(proof).await? else { return Ok(None) };
    let mut tx = store.writes.begin(&session.request).await?;
    let upgrade = proof.upgrade.as_deref();
    let is_current = accounts::lock_password_hash(tx.db(), account.id, stored.as_deref(), upgrade).await?;
    Ok(is_current.then_some(tx))
}

/// Begins the write and uses the link, if it is valid and belongs to the session's user.
async fn with_link(session: &Session, store: &Store, account: &Account, link: &SecretString) -> Result<Option<Tx>> {
    let Some(secret) = links::parse(link.expose_secret()) else { return Ok(None) };
    let mut tx = store.writes.begin(&session.request).await?;
    let is_current = accounts::lock_password_hash(tx.db(), account.id, account.password_hash.as_deref(), None).await?
        && links::consume(tx.db(), &secret.hash(), account.id, store.clock.now()).await?;
    Ok(is_current.then_some(tx))
}

fn wrong_password(account: &Account) -> Error {
    let detail = match account.password_hash {
        Some(_) => "'password' is not your password; check it, or ask the operator for a sign-in link",
        None => "Your account has no password; ask the operator for a sign-in link, and send it as 'sign_in_link'",
    };
    Error::new(Code::InvalidCurrentPassword, detail)
}

fn session_ended() -> Error {
    Error::new(Code::TokenRevoked, "This session has ended in the meantime; sign in again")
}
