//! `POST /v1/sessions`: signs a user in, with a password or with a sign-in link.

use std::sync::Arc;

use axum::extract::State;
use secrecy::{ExposeSecret, SecretString};

use super::{
    created_change, links,
    model::{IssuedSession, SessionUser, SignIn, SignInProof},
    repo::{self, SessionClient},
};
use crate::{
    audit::model::Actor,
    auth::{
        credentials::accounts::{self, Account},
        grant::SignInClient,
        passwords::{Passwords, rules},
    },
    base::{
        action::Action,
        error::{Code, Error, ItemCode, Result},
        id::{SessionId, UserId},
        identity::subject::Subject,
        input::email::EmailKey,
        runtime::clock::Timestamp,
    },
    http::{
        request::extract::JsonBody,
        response::{Created, Issued},
    },
    tx::{Change, Store, Tx},
};

/// Signs a user in.
pub async fn create(
    caller: SignInClient,
    State(store): State<Store>,
    State(passwords): State<Arc<Passwords>>,
    body: JsonBody<SignIn>,
) -> Result<Issued<IssuedSession>> {
    match body.validate()?.proof()? {
        SignInProof::Password { email, password } => with_password(&caller, &store, &passwords, &email, password).await,
        SignInProof::Link(link, new) => with_link(&caller, &store, &passwords, &link, new).await,
    }
}

async fn with_password(
    caller: &SignInClient,
    store: &Store,
    passwords: &Passwords,
    email: &str,
    password: SecretString,
) -> Result<Issued<IssuedSession>> {
    // A malformed address is looked up and verified like an unknown one, so that neither the response nor its timing
    // reveals which addresses are known.
    let key = EmailKey::of(email);
    // Another request may change the password after it was verified, or store a stronger hash of it. In this case, it
    // is verified again.
    let mut account_id = None;
    for _ in 0..2 {
        let account = accounts::find_by_email(&mut *store.db.acquire().await?, email).await?;
        account_id = account.as_ref().map(|account| account.id);
        let stored = account.as_ref().and_then(|account| account.password_hash.clone());
        let proof = passwords.verify_throttled(key.as_str(), password.clone(), stored.clone(), store.clock.now());
        let proof = caller.request.while_connected(proof).await?;
        let (Some(user), Some(proof)) = (account, proof) else { break };

        let mut tx = store.writes.begin(&caller.request).await?;
        if !accounts::lock_password_hash(tx.db(), user.id, stored.as_deref(), proof.upgrade.as_deref()).await? {
            continue;
        }
        return commit(caller, store, tx, user, |change| change).await;
    }
    // For an unknown address, the audit trail stores nothing: it may be a password in the wrong field.
    record_refused(caller, store, account_id).await?;
    Err(Error::new(Code::InvalidCredentials, "The email address or the password is wrong; check both and try again"))
}

/// With a link, and the new password to set, if any.
async fn with_link(
    caller: &SignInClient,
    store: &Store,
    passwords: &Passwords,
    link: &SecretString,
    new_password: Option<SecretString>,
) -> Result<Issued<IssuedSession>> {
    let mut account_id = None;
    if let Some(secret) = links::parse(link.expose_secret()) {
        let (hash, now) = (secret.hash(), store.clock.now());
        let account = links::find_account(&mut *store.db.acquire().await?, &hash, now).await?;
        account_id = account.as_ref().map(|account| account.id);
        if let Some(user) = account {
            let new_hash = match new_password {
                Some(new) => {
                    rules::check(&new, &user.email).map_err(|violation| {
                        Error::invalid_member("/new_password", violation.code(), violation.to_string())
                    })?;
                    Some(caller.request.while_connected(passwords.hash(new)).await?)
                }
                None => None,
            };
            let mut tx = store.writes.begin(&caller.request).await?;
            // The lock orders this with a change of the password, which deletes the links and ends the sessions.
            let stored = user.password_hash.as_deref();
            let is_current = match &new_hash {
                Some(new) => accounts::replace_password_hash(tx.db(), user.id, stored, new).await?,
                None => accounts::lock_password_hash(tx.db(), user.id, stored, None).await?,
            };
            if is_current && links::consume(tx.db(), &hash, user.id, now).await? {
                if new_hash.is_some() {
                    return commit_with_password(caller, store, tx, user).await;
                }
                return commit(caller, store, tx, user, |change| change.with("sign_in_link", true)).await;
            }
        }
    }
    record_refused(caller, store, account_id).await?;
    Err(invalid_link())
}

/// The error for a link that is unknown, used or expired.
fn invalid_link() -> Error {
    Error::new(
        Code::InvalidCredentials,
        "This sign-in link is not valid: a link works once, within 60 minutes; sign in with your password, or ask the operator for a new link",
    )
}

/// The same for the user of a session. Not 401, which would mean that the session has ended.
pub fn wrong_link() -> Error {
    Error::invalid_member("/sign_in_link", ItemCode::InvalidFormat, invalid_link().detail())
}

/// Creates the session in `tx`, and commits.
async fn commit(
    caller: &SignInClient,
    store: &Store,
    mut tx: Tx,
    user: Account,
    detail: impl FnOnce(Change) -> Change,
) -> Result<Issued<IssuedSession>> {
    let user = SessionUser { id: user.id, email: user.email };
    let session = repo::issue_to(tx.db(), SessionClient::of(&caller.request), user, store.clock.now()).await?;
    let change = detail(created_change(&session)).with_actor(Actor::user(session.user.id, session.id));
    let location = format!("/v1/sessions/{}", session.id);
    tx.commit(change, Issued(Created { location, body: session })).await
}

/// Creates the session in `tx`, ends all others, and commits: the user has set a new password.
async fn commit_with_password(
    caller: &SignInClient,
    store: &Store,
    mut tx: Tx,
    user: Account,
) -> Result<Issued<IssuedSession>> {
    let (user_id, now) = (user.id, store.clock.now());
    let user = SessionUser { id: user_id, email: user.email };
    let session = repo::issue_to(tx.db(), SessionClient::of(&caller.request), user, now).await?;
    let actor = Actor::user(user_id, session.id);
    tx.add_change(created_change(&session).with("sign_in_link", true).with_actor(actor.clone()));
    let change = end_others(&mut tx, user_id, session.id, now).await?.0.with_actor(actor);
    let location = format!("/v1/sessions/{}", session.id);
    tx.commit(change, Issued(Created { location, body: session })).await
}

/// After the password of a user was changed by the session `own`: ends all other sessions and all links. Returns the
/// change, and the number of sessions that ended.
pub async fn end_others(tx: &mut Tx, user: UserId, own: SessionId, now: Timestamp) -> Result<(Change, u64)> {
    let ended = repo::revoke_others(tx.db(), user, own, now).await?;
    links::delete_all(tx.db(), user).await?;
    // Invalidates the other sessions, which depend on their user.
    tx.invalidate(Subject::User(user));
    Ok((Change::new(Action::UserPasswordChanged, user, None).with("sessions_revoked", ended), ended))
}

async fn record_refused(caller: &SignInClient, store: &Store, account: Option<UserId>) -> Result<()> {
    store.writes.record_refused(&caller.request, Change::refused(Action::SessionRefused, account)).await
}
