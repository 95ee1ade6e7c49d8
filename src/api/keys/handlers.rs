//! `/v1/keys`.

use std::time::Duration;

use axum::extract::State;
use sqlx::types::Json as Jsonb;

use super::{
    model::{
        DEFAULT_OVERLAP_SECONDS, IssuedKey, KeyFilter, KeyPatch, KeyView, MIN_SELF_OVERLAP_SECONDS, NewKey, RevokedKey,
        Rotation, StoredKey, default_scopes, stored_networks, stored_scopes,
    },
    repo,
};
use crate::{
    auth::grant::{Grant, SessionOnly, SessionOrKeySelf},
    base::{
        action::Action,
        error::{Code, Error, ItemCode, Result},
        id::{self, KeyId},
        identity::{
            scope::{
                ScopeSet,
                of::{KeysRead, KeysWrite},
            },
            secret::{Secret, SecretKind},
            subject::Subject,
            tenant::Tenant,
        },
        input::page::ListQuery,
        runtime::clock::Timestamp,
    },
    http::{
        request::extract::{JsonBody, PathId, Query},
        response::{Created, Issued, Json, List, WithEtag},
    },
    tx::{Change, Effect, Idempotent, Store, begin_or_replay},
};

/// Creates a key.
pub async fn create(
    grant: Grant<KeysWrite, SessionOnly>,
    State(store): State<Store>,
    body: JsonBody<NewKey>,
) -> Result<Idempotent<Issued<IssuedKey>>> {
    let now = store.clock.now();
    let tenant = grant.in_project_on(&store.db, body.project_id()?).await?;
    store.writes.execute_single(grant.request(), body, |new| issue(&grant, tenant, new, now)).await
}

/// Prepares a key, if the caller may create it.
fn issue(
    grant: &Grant<KeysWrite, SessionOnly>,
    tenant: Tenant,
    new: NewKey,
    now: Timestamp,
) -> Result<Effect<Issued<IssuedKey>>> {
    let NewKey { project_id: _, name, scopes, expires_at, allowed_ips, rate_limit, metadata } = new;
    require_future(expires_at, now)?;
    let scopes = match scopes {
        Some(scopes) => tenant.grant_scopes(scopes)?,
        None => default_scopes().intersection(tenant.scopes()),
    };
    tenant.require_active()?;
    let secret = Secret::generate(SecretKind::Key);
    let key = StoredKey {
        name: name.unwrap_or_default(),
        scopes: stored_scopes(scopes),
        metadata: Jsonb(metadata.unwrap_or_default()),
        created_by: grant.caller().user_id(),
        expires_at,
        allowed_ips: stored_networks(&allowed_ips.unwrap_or_default()),
        rate_limit: rate_limit.map(Jsonb),
        ..StoredKey::new(KeyId::new(), tenant.project_id(), &secret, now)
    };
    let call = repo::create(&key, &secret);
    let view = KeyView::new(key, now);
    let change = Change::new(Action::KeyCreated, view.id, Some(view.project_id)).created(&view);
    let body = IssuedKey { key: secret, view };
    let response = Issued(Created { location: format!("/v1/keys/{}", body.view.id), body });
    Ok(Effect { call: grant.require_still(tenant, call), change, response })
}

/// Lists the keys of a project.
pub async fn list(
    grant: Grant<KeysRead>,
    State(store): State<Store>,
    Query(query): Query<ListQuery<KeyFilter>>,
) -> Result<List<KeyView>> {
    let page = query.page()?;
    let now = store.clock.now();
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let page = repo::list(&mut db, tenant, &query.filter, now, &page).await?;
    Ok(List::new(page.map(|key| KeyView::new(key, now)), grant.request().id))
}

/// Returns a key.
pub async fn get(
    grant: Grant<KeysRead>,
    State(store): State<Store>,
    PathId(id): PathId<id::Key>,
) -> Result<WithEtag<KeyView>> {
    let now = store.clock.now();
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project_of(&mut db, id).await?;
    let key = repo::get(&mut db, tenant, id).await?.ok_or_else(Error::not_found)?;
    Ok(WithEtag(KeyView::new(key, now)))
}

/// Updates a key.
pub async fn update(
    grant: Grant<KeysWrite, SessionOnly>,
    State(store): State<Store>,
    PathId(id): PathId<id::Key>,
    body: JsonBody<KeyPatch>,
) -> Result<Idempotent<WithEtag<KeyView>>> {
    let now = store.clock.now();
    let (mut tx, patch) = begin_or_replay!(store.writes.begin_idempotent(grant.request(), body).await?);
    let KeyPatch { name, scopes, expires_at, allowed_ips, rate_limit, metadata } = patch;
    let expires_at = expires_at.change();
    require_future(expires_at.flatten(), now)?;
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let mut key = repo::lock(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    tenant.check_manage(ScopeSet::from_texts(&key.scopes))?;
    let scopes = scopes.0.map(|scopes| tenant.grant_scopes(scopes)).transpose()?;
    let before = KeyView::new(key.clone(), now);
    tx.require_match(&before)?;
    tenant.require_active()?;
    require_unrevoked(&key)?;
    replace(&mut key.name, name.change_or_default());
    replace(&mut key.scopes, scopes.map(stored_scopes));
    replace(&mut key.expires_at, expires_at);
    replace(&mut key.metadata, metadata.change_or_default().map(Jsonb));
    replace(&mut key.allowed_ips, allowed_ips.change_or_default().as_deref().map(stored_networks));
    replace(&mut key.rate_limit, rate_limit.change().map(|limit| limit.map(Jsonb)));
    let key = KeyView::new(repo::update(tx.db(), tenant, &key).await?, now);
    tx.invalidate(Subject::Key(id));
    let change = Change::new(Action::KeyUpdated, id, Some(key.project_id)).updated(&before, &key);
    tx.commit(change, WithEtag(key)).await
}

/// Rotates a key: adds a new secret and sets the expiration time of the old one.
pub async fn rotate(
    grant: Grant<KeysWrite, SessionOrKeySelf>,
    State(store): State<Store>,
    PathId(id): PathId<id::Key>,
    body: JsonBody<Rotation>,
) -> Result<Idempotent<Issued<IssuedKey>>> {
    let now = store.clock.now();
    let (mut tx, rotation) = begin_or_replay!(store.writes.begin_idempotent(grant.request(), body).await?);
    let overlap = rotation.overlap_seconds.unwrap_or(DEFAULT_OVERLAP_SECONDS);
    let by_session = grant.caller().user_id().is_some();
    if !by_session && overlap < MIN_SELF_OVERLAP_SECONDS {
        return Err(Error::invalid_member(
            "/overlap_seconds",
            ItemCode::OutOfRange,
            format!(
                "must be at least {MIN_SELF_OVERLAP_SECONDS} if a key rotates itself, so that a lost response does not lock it out"
            ),
        ));
    }
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    let key = repo::lock(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
    if by_session {
        tenant.check_manage(ScopeSet::from_texts(&key.scopes))?;
    }
    let before = KeyView::new(key.clone(), now);
    tx.require_match(&before)?;
    tenant.require_active()?;
    require_unrevoked(&key)?;
    if key.expires_at.is_some_and(|end| end <= now) {
        return Err(Error::new(
            Code::InvalidState,
            "The key has expired, so a new secret would not work; set a later expires_at with PATCH first",
        ));
    }
    match key.previous_expires_at {
        Some(end) if end > now && overlap > 0 => {
            return Err(Error::new(
                Code::RotationInProgress,
                format!(
                    "The key has two valid secrets until {end}; rotate it after that, or with a session and an overlap of 0, which revokes both"
                ),
            ));
        }
        _ => {}
    }
    let previous_end = now.plus(Duration::from_secs(overlap.into()));
    let previous_end = key.expires_at.map_or(previous_end, |end| end.min(previous_end));
    let secret = Secret::generate(SecretKind::Key);
    let view = KeyView::new(repo::rotate(tx.db(), tenant, id, &secret, previous_end, now).await?, now);
    tx.invalidate(Subject::Key(id));
    let change = Change::new(Action::KeyRotated, id, Some(view.project_id)).updated(&before, &view);
    let body = IssuedKey { key: secret, view };
    tx.commit(change, Issued(Created { location: format!("/v1/keys/{id}"), body })).await
}

/// Revokes a key and all tokens issued under it.
pub async fn revoke(
    grant: Grant<KeysWrite>,
    State(store): State<Store>,
    PathId(id): PathId<id::Key>,
) -> Result<Json<RevokedKey>> {
    let now = store.clock.now();
    let mut tx = store.writes.begin(grant.request()).await?;
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    if tx.is_conditional() {
        let key = repo::lock(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
        match key.revoked_at {
            Some(_) => tx.waive_preconditions(),
            None => tx.require_match(&KeyView::new(key, now))?,
        }
    }
    let before = repo::revoke(tx.db(), tenant, id, now).await?.ok_or_else(Error::not_found)?;
    tx.invalidate(Subject::Key(id));
    let change = Change::new(Action::KeyRevoked, id, Some(tenant.project_id())).revoked(before);
    tx.commit(change, Json(RevokedKey { id, revoked: true })).await
}

fn replace<T>(member: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *member = value;
    }
}

fn require_future(expires_at: Option<Timestamp>, now: Timestamp) -> Result<()> {
    match expires_at {
        Some(end) if end <= now => Err(Error::invalid_member(
            "/expires_at",
            ItemCode::OutOfRange,
            format!("must be in the future; the server's time is {now}"),
        )),
        _ => Ok(()),
    }
}

fn require_unrevoked(key: &StoredKey) -> Result<()> {
    if key.revoked_at.is_none() {
        return Ok(());
    }
    Err(Error::new(Code::KeyRevoked, "The key is revoked, which cannot be undone; create another one"))
}
