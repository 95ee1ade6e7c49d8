//! `GET /v1/users/me`: the profile of a session's user.

use std::sync::Arc;

use axum::extract::State;
use futures_util::FutureExt;

use super::{
    model::{Profile, ProfileMembership},
    repo,
};
use crate::{
    api::sessions,
    auth::{grant::Session, revocation::node::Node},
    base::{
        error::{Code, Error, Result},
        input::page::Page,
    },
    http::response::WithEtag,
    tx::Store,
};

/// Returns the profile of the session's user.
pub async fn me(
    session: Session,
    State(store): State<Store>,
    State(node): State<Arc<Node>>,
) -> Result<WithEtag<Profile>> {
    let ended = || Error::new(Code::TokenRevoked, "This session has ended in the meantime; sign in again");
    let (user, id) = (session.user_id, session.id);
    let mut db = store.db.acquire().await?;
    // Like the list of projects, memberships are read from the server of the node's heartbeats.
    let read = node.read_verified_on(&mut db, move |db| async move { repo::memberships_of(db, user).await }.boxed());
    let Page { items: memberships, next }: Page<ProfileMembership, _> = read.await?;
    let account = repo::profile_account(&mut db, user).await?.ok_or_else(ended)?;
    let session = sessions::repo::get_unrevoked(&mut db, user, id).await?.ok_or_else(ended)?;
    Ok(WithEtag(Profile {
        id: user,
        email: account.email,
        created_at: account.created_at,
        has_password: account.has_password,
        session,
        memberships,
        has_more_memberships: next.is_some(),
    }))
}
