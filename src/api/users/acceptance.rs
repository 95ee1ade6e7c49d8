//! `POST /v1/invitations/accept`: an invited user becomes a member and signs in.

use std::sync::Arc;

use axum::extract::State;
use secrecy::ExposeSecret;

use super::{
    invitations,
    model::{Acceptance, MemberStatus},
    repo,
};
use crate::{
    api::sessions::{
        self,
        model::{IssuedSession, SessionUser},
        repo::SessionClient,
    },
    audit::model::Actor,
    auth::{
        credentials::accounts,
        grant::SignInClient,
        passwords::{Passwords, rules},
    },
    base::{
        action::Action,
        error::{Code, Error, Result},
        identity::secret::{Secret, SecretKind},
    },
    http::{
        request::extract::JsonBody,
        response::{Created, Issued},
    },
    tx::{Change, Store},
};

/// Accepts an invitation.
pub async fn accept(
    caller: SignInClient,
    State(store): State<Store>,
    State(passwords): State<Arc<Passwords>>,
    body: JsonBody<Acceptance>,
) -> Result<Issued<IssuedSession>> {
    let Acceptance { token, password } = body.validate()?;
    let secret = Secret::parse(token.expose_secret()).filter(|secret| secret.kind() == SecretKind::Invitation);
    let secret = secret.ok_or_else(invitation_not_found)?;
    let now = store.clock.now();
    let mut db = store.db.acquire().await?;
    let invitation = invitations::find(&mut db, &secret.hash()).await?.ok_or_else(invitation_not_found)?;
    let user = accounts::find(&mut db, invitation.user_id).await?.ok_or_else(invitation_not_found)?;
    // Always queried, so that the number of round trips does not reveal whether there is an account.
    let is_member = repo::is_member_anywhere(&mut db, user.id).await?;
    let has_account = user.password_hash.is_some() || is_member;
    // Hashing takes time, and the pool is small.
    drop(db);
    invitation.require_open(now)?;
    let violation = rules::check(&password, &user.email).err();
    let new_hash = if has_account || violation.is_some() {
        // The holder of the invitation must also be the owner of the address. A password that a new account cannot have
        // gets the same response at the same cost, whether or not there is an account.
        let key = user.email.key();
        let stored = user.password_hash.clone().filter(|_| has_account);
        let proof = passwords.verify_throttled(key.as_str(), password, stored, now);
        let Some(proof) = caller.request.while_connected(proof).await? else {
            store
                .writes
                .record_refused(&caller.request, Change::refused(Action::SessionRefused, Some(user.id)))
                .await?;
            return Err(violation.map_or_else(invalid_password, |violation| {
                Error::invalid_member("/password", violation.code(), violation.to_string())
            }));
        };
        proof.upgrade
    } else {
        Some(caller.request.while_connected(passwords.hash(password)).await?)
    };

    let mut tx = store.writes.begin(&caller.request).await?;
    if !accounts::lock_password_hash(tx.db(), user.id, user.password_hash.as_deref(), new_hash.as_deref()).await? {
        // The password was changed meanwhile, or set by accepting another invitation.
        return Err(invalid_password());
    }
    if !invitations::accept(tx.db(), &invitation, now).await? {
        return Err(Error::new(
            Code::InvalidState,
            "This invitation was accepted or withdrawn in the meantime; sign in, or ask for a new one",
        ));
    }
    let email = match has_account {
        true => user.email,
        false => repo::set_invited_email(tx.db(), invitation.project_id, user.id).await?,
    };
    let client = SessionClient::of(&caller.request);
    let session = sessions::repo::issue_to(tx.db(), client, SessionUser { id: user.id, email }, now).await?;
    // Two audit entries: a new member in the project's trail, and a sign-in in the deployment's trail.
    let actor = Actor::user(user.id, session.id);
    tx.add_change(sessions::created_change(&session).with_actor(actor.clone()));
    let change = Change::new(Action::UserJoined, user.id, Some(invitation.project_id))
        .with("id", [invitations::public_id(invitation.id), user.id])
        .with("status", [MemberStatus::Invited, MemberStatus::Active])
        .with_actor(actor);
    tx.commit(change, Issued(Created { location: format!("/v1/sessions/{}", session.id), body: session })).await
}

fn invalid_password() -> Error {
    Error::new(
        Code::InvalidCredentials,
        "This email address already has an account, and the password is not correct; send the password of that account",
    )
}

fn invitation_not_found() -> Error {
    Error::new(
        Code::NotFound,
        "There is no such invitation; check that it was copied completely and that it is for this server",
    )
}
