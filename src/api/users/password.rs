//! `POST /v1/users/me/password`: a user changes the password, or sets a new one with a sign-in link.

use std::sync::Arc;

use axum::extract::State;
use secrecy::{ExposeSecret, SecretString};

use super::model::{ChangedPassword, PasswordChange, PasswordProof};
use crate::{
    api::sessions::{links, sign_in},
    auth::{
        credentials::accounts::{self, Account},
        grant::Session,
        passwords::{Passwords, rules},
    },
    base::{
        action::Action,
        error::{Code, Error, Result},
    },
    http::{request::extract::JsonBody, response::Json},
    tx::{Change, Store, Tx},
};

/// Changes the caller's password and revokes the caller's other sessions.
pub async fn change_password(
    session: Session,
    State(store): State<Store>,
    State(passwords): State<Arc<Passwords>>,
    body: JsonBody<PasswordChange>,
) -> Result<Json<ChangedPassword>> {
    let (proof, new_password) = body.validate()?.proof()?;
    let account = accounts::find(&mut *store.db.acquire().await?, session.user_id).await?;
    let account = account.ok_or_else(|| {
        Error::new(
            Code::TokenRevoked,
            "This session's user was deleted, which ends the session; sign in as another user",
        )
    })?;
    rules::check(&new_password, &account.email)
        .map_err(|violation| Error::invalid_member("/new_password", violation.code(), violation.to_string()))?;
    let tx = match proof {
        PasswordProof::Password(current) => {
            with_password(&session, &store, &passwords, &account, (current, new_password)).await?
        }
        PasswordProof::Link(link) => {
            let hash = session.request.while_connected(passwords.hash(new_password)).await?;
            with_link(&session, &store, &account, &link, &hash).await?
        }
    };
    let mut tx = match tx {
        Ok(tx) => tx,
        Err(refusal) => {
            let change = Change::refused(Action::UserPasswordChanged, Some(session.user_id));
            store.writes.record_refused(&session.request, change).await?;
            return Err(refusal);
        }
    };
    let (change, sessions_revoked) =
        sign_in::end_others(&mut tx, session.user_id, session.id, store.clock.now()).await?;
    tx.commit(change, Json(ChangedPassword { id: session.user_id, sessions_revoked })).await
}

/// Begins the write and replaces the password, if the current one is right.
async fn with_password(
    session: &Session,
    store: &Store,
    passwords: &Passwords,
    account: &Account,
    (current, new): (SecretString, SecretString),
) -> Result<std::result::Result<Tx, Error>> {
    // Delayed as at sign-in: a stolen session must not allow faster guessing.
    let (key, stored) = (account.email.key(), account.password_hash.clone());
    let proof = passwords.verify_throttled(key.as_str(), current, stored.clone(), store.clock.now());
    if session.request.while_connected(proof).await?.is_none() {
        return Ok(Err(Error::new(
            Code::InvalidCurrentPassword,
            "'current_password' is not your password; check it, or ask the operator for a sign-in link",
        )));
    }
    let hash = session.request.while_connected(passwords.hash(new)).await?;
    let mut tx = store.writes.begin(&session.request).await?;
    if !accounts::replace_password_hash(tx.db(), account.id, stored.as_deref(), &hash).await? {
        return Err(changed_meanwhile());
    }
    Ok(Ok(tx))
}

/// Begins the write, uses the link and replaces the password, if the link is valid and belongs to the session's user.
async fn with_link(
    session: &Session,
    store: &Store,
    account: &Account,
    link: &SecretString,
    hash: &str,
) -> Result<std::result::Result<Tx, Error>> {
    let Some(secret) = links::parse(link.expose_secret()) else { return Ok(Err(sign_in::wrong_link())) };
    let mut tx = store.writes.begin(&session.request).await?;
    if !accounts::replace_password_hash(tx.db(), account.id, account.password_hash.as_deref(), hash).await? {
        return Err(changed_meanwhile());
    }
    let is_valid = links::consume(tx.db(), &secret.hash(), account.id, store.clock.now()).await?;
    Ok(if is_valid { Ok(tx) } else { Err(sign_in::wrong_link()) })
}

fn changed_meanwhile() -> Error {
    Error::new(
        Code::InvalidCurrentPassword,
        "Another request changed your password in the meantime; sign in with the new one",
    )
}
