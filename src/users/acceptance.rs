//! `POST /v1/invitations/accept`: how somebody who was invited becomes a member and signs in.

use axum::extract::State;
use secrecy::{ExposeSecret, SecretString};

use super::{
    invitations,
    model::{Acceptance, Account},
    repo,
};
use crate::{
    auth::grant::SigningIn,
    base::{
        error::{Code, Error, ItemCode, Result},
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

/// The fewest characters of a new password.
const PASSWORD_MIN: usize = 12;

/// Accepts an invitation.
pub async fn accept(
    caller: SigningIn,
    State(app): State<App>,
    body: JsonBody<Acceptance>,
) -> Result<Issued<IssuedSession>> {
    let Acceptance { token, password } = body.validate()?;
    let secret = Secret::parse(token.expose_secret()).filter(|secret| secret.kind() == SecretKind::Invitation);
    let secret = secret.ok_or_else(|| {
        let detail = "must be an invitation's secret, which starts with inv_ and ends in a checksum; check that it was copied whole";
        Error::invalid_member("/token", ItemCode::InvalidFormat, detail)
    })?;
    let now = app.clock.now();
    let mut db = app.db.acquire().await?;
    let invitation = invitations::find(&mut db, &secret.hash()).await?.ok_or_else(unknown)?;
    let user = repo::account(&mut db, invitation.user_id).await?.ok_or_else(unknown)?;
    // Hashing takes a while, and the pool is small.
    let is_known = user.password_hash.is_some() || repo::is_member_anywhere(&mut db, user.id).await?;
    drop(db);
    invitation.require_open(now)?;
    let new_hash = if is_known {
        prove(&app, &user, password).await?;
        None
    } else {
        Some(app.passwords.hash(long_enough(password)?).await?)
    };

    let mut tx = app.writes.begin(&caller.request).await?;
    if let Some(hash) = new_hash
        && !repo::replace_password_hash(tx.db(), user.id, None, &hash).await?
    {
        // Another invitation of theirs was accepted meanwhile.
        return Err(wrong_password());
    }
    if !invitations::accept(tx.db(), &invitation, now).await? {
        return Err(Error::new(
            Code::InvalidState,
            "This invitation was used or withdrawn meanwhile; sign in, or ask whoever invited you for a new one",
        ));
    }
    let session = sessions::repo::issue(tx.db(), user.id, user.email, now).await?;
    let change = Change::new("user.joined", user.id, Some(invitation.project_id));
    tx.commit(change, Issued(Created { location: format!("/v1/sessions/{}", session.id), body: session })).await
}

/// Whoever holds the invitation must also be who the address belongs to, if that is known already.
async fn prove(app: &App, user: &Account, password: SecretString) -> Result<()> {
    if app.passwords.verify(password, user.password_hash.clone()).await? { Ok(()) } else { Err(wrong_password()) }
}

fn wrong_password() -> Error {
    Error::new(
        Code::InvalidCredentials,
        "This e-mail address has an account already, and the password is not its own; send the one you sign in with",
    )
}

fn long_enough(password: SecretString) -> Result<SecretString> {
    if password.expose_secret().chars().count() >= PASSWORD_MIN {
        return Ok(password);
    }
    let detail =
        format!("must have at least {PASSWORD_MIN} characters, because it becomes the password you sign in with");
    Err(Error::invalid_member("/password", ItemCode::TooShort, detail))
}

fn unknown() -> Error {
    Error::new(
        Code::NotFound,
        "There is no such invitation here; check that it was copied whole and is for this server",
    )
}
