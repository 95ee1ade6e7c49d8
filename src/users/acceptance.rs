//! `POST /v1/invitations/accept`: an invited user becomes a member and signs in.

use axum::extract::State;
use secrecy::ExposeSecret;

use super::{
    invitations,
    model::{Acceptance, MemberStatus},
    repo,
};
use crate::{
    audit::model::Actor,
    auth::{grant::SigningIn, password_rules},
    base::{
        action::Action,
        error::{Code, Error, Result},
        secret::{Secret, SecretKind},
    },
    http::{
        extract::JsonBody,
        reply::{Created, Issued},
    },
    sessions::{self, model::IssuedSession},
    state::App,
    tx::Change,
};

/// Accepts an invitation.
pub async fn accept(
    caller: SigningIn,
    State(app): State<App>,
    body: JsonBody<Acceptance>,
) -> Result<Issued<IssuedSession>> {
    let Acceptance { token, password } = body.validate()?;
    let secret = Secret::parse(token.expose_secret()).filter(|secret| secret.kind() == SecretKind::Invitation);
    let secret = secret.ok_or_else(unknown)?;
    let now = app.clock.now();
    let mut db = app.db.acquire().await?;
    let invitation = invitations::find(&mut db, &secret.hash()).await?.ok_or_else(unknown)?;
    let user = repo::account(&mut db, invitation.user_id).await?.ok_or_else(unknown)?;
    // Always queried, so that the number of round trips does not reveal whether there is an account.
    let is_member = repo::is_member_anywhere(&mut db, user.id).await?;
    let is_known = user.password_hash.is_some() || is_member;
    // Hashing takes time, and the pool is small.
    drop(db);
    invitation.require_open(now)?;
    let unfit = password_rules::check(&password, &user.email).err();
    let new_hash = if is_known || unfit.is_some() {
        // The holder of the invitation must also be the owner of the address. A password that a new account cannot have gets
        // the same response at the same cost, whether or not there is an account.
        let key = user.email.key();
        let stored = user.password_hash.clone().filter(|_| is_known);
        let proof = app.passwords.prove(key.as_str(), password, stored, now);
        let Some(proof) = caller.request.while_awaited(proof).await? else {
            app.writes.refused(&caller.request, Change::refused(Action::SessionRefused, Some(user.id))).await?;
            return Err(unfit.map_or_else(wrong_password, |unfit| {
                Error::invalid_member("/password", unfit.code(), unfit.to_string())
            }));
        };
        proof.upgrade
    } else {
        Some(caller.request.while_awaited(app.passwords.hash(password)).await?)
    };

    let mut tx = app.writes.begin(&caller.request).await?;
    if !repo::hold_password(tx.db(), user.id, user.password_hash.as_deref(), new_hash.as_deref()).await? {
        // The password was changed meanwhile, or set by accepting another invitation.
        return Err(wrong_password());
    }
    if !invitations::accept(tx.db(), &invitation, now).await? {
        return Err(Error::new(
            Code::InvalidState,
            "This invitation was accepted or withdrawn in the meantime; sign in, or ask for a new one",
        ));
    }
    let email = match is_known {
        true => user.email,
        false => repo::keep_proven_spelling(tx.db(), invitation.project_id, user.id).await?,
    };
    let session = sessions::repo::issue(tx.db(), user.id, email, now).await?;
    // Two audit entries: a new member in the project's trail, and a sign-in in the deployment's trail.
    let actor = Actor::user(user.id, session.id);
    tx.also(Change::session(&session).by(actor.clone()));
    let change = Change::new(Action::UserJoined, user.id, Some(invitation.project_id))
        .with("id", [invitations::shown_as(invitation.id), user.id])
        .with("status", [MemberStatus::Invited, MemberStatus::Active])
        .by(actor);
    tx.commit(change, Issued(Created { location: format!("/v1/sessions/{}", session.id), body: session })).await
}

fn wrong_password() -> Error {
    Error::new(
        Code::InvalidCredentials,
        "This email address already has an account, and the password is not correct; send the password of that account",
    )
}

fn unknown() -> Error {
    Error::new(
        Code::NotFound,
        "There is no such invitation; check that it was copied completely and that it is for this server",
    )
}
