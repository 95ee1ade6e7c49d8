//! `/v1/keys`.

use axum::extract::State;

use super::{
    model::{IssuedKey, KeyView, NewKey, RevokedKey, default_scopes},
    repo::{self, KeyRow},
};
use crate::{
    auth::grant::{Grant, SessionOnly},
    base::{
        caller::Caller,
        clock::Timestamp,
        error::{Error, ItemCode, Result},
        id::{self, KeyId},
        page::{InProject, ListQuery},
        scope::of::{KeysRead, KeysWrite},
        secret::{Secret, SecretKind},
    },
    http::{
        extract::{JsonBody, PathId, Query},
        reply::{Created, Issued, Json, List},
    },
    state::App,
    tokens,
    tx::Change,
};

/// Makes a key.
pub async fn create(
    grant: Grant<KeysWrite, SessionOnly>,
    State(app): State<App>,
    body: JsonBody<NewKey>,
) -> Result<Issued<IssuedKey>> {
    let now = app.clock.now();
    let mut tx = app.writes.begin(grant.request()).await?;
    let tenant = grant.in_project_for_write(tx.db(), body.project_id()?).await?;
    let new = body.validate()?;
    require_future(new.expires_at, now)?;
    let scopes = match new.scopes {
        Some(scopes) => tenant.hand_out(scopes)?,
        None => default_scopes().intersection(tenant.scopes()),
    };
    let secret = Secret::generate(SecretKind::Key);
    let row = KeyRow {
        id: KeyId::new(),
        project_id: tenant.project_id(),
        name: new.name.unwrap_or_default(),
        scopes,
        metadata: new.metadata.unwrap_or_default(),
        created_by: match grant.caller() {
            Caller::Session { user_id, .. } => Some(*user_id),
            Caller::Key { .. } | Caller::Token { .. } => None,
        },
        created_at: now,
        expires_at: new.expires_at,
    };
    let stored = repo::insert(tx.db(), row, &secret).await?;
    let change = Change::new("key.created", stored.id, Some(stored.project_id));
    let body = IssuedKey { key: secret, view: KeyView::new(stored, now) };
    tx.commit(change, Issued(Created { location: format!("/v1/keys/{}", body.view.id), body })).await
}

/// The keys of a project.
pub async fn list(
    grant: Grant<KeysRead>,
    State(app): State<App>,
    Query(query): Query<ListQuery<InProject>>,
) -> Result<List<KeyView>> {
    let page = query.page()?;
    let now = app.clock.now();
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let page = repo::list(&mut db, tenant, &page).await?;
    Ok(List::new(page.map(|key| KeyView::new(key, now)), grant.request().id))
}

/// One key.
pub async fn get(grant: Grant<KeysRead>, State(app): State<App>, PathId(id): PathId<id::Key>) -> Result<Json<KeyView>> {
    let now = app.clock.now();
    let mut db = app.db.acquire().await?;
    let tenant = grant.in_project_of(&mut db, id).await?;
    let key = repo::get(&mut db, tenant, id).await?.ok_or_else(Error::not_found)?;
    Ok(Json(KeyView::new(key, now)))
}

/// Ends a key and all that was issued under it.
pub async fn revoke(
    grant: Grant<KeysWrite>,
    State(app): State<App>,
    PathId(id): PathId<id::Key>,
) -> Result<Json<RevokedKey>> {
    let now = app.clock.now();
    let mut tx = app.writes.begin(grant.request()).await?;
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    if !repo::revoke(tx.db(), tenant, id, now).await? {
        return Err(Error::not_found());
    }
    tokens::repo::revoke_issued_by_key(tx.db(), id, now).await?;
    let change = Change::new("key.revoked", id, Some(tenant.project_id()));
    tx.commit(change, Json(RevokedKey { id, revoked: true })).await
}

fn require_future(expires_at: Option<Timestamp>, now: Timestamp) -> Result<()> {
    match expires_at {
        Some(end) if end <= now => Err(Error::invalid_member(
            "/expires_at",
            ItemCode::OutOfRange,
            format!("must be later than now, which is {now}"),
        )),
        _ => Ok(()),
    }
}
