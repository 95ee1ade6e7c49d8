//! `/v1/tokens`.

use std::time::Duration;

use axum::extract::State;

use super::{
    model::{DEFAULT_LIFETIME_SECONDS, IssuedToken, Issuer, NewToken, RevokedToken, TokenFilter, TokenView},
    repo::{self, TokenRow},
};
use crate::{
    auth::grant::{AnyCredentialOrSelf, Grant},
    base::{
        action::Action,
        error::{Error, ItemCode, Result},
        id::{self, TokenId},
        identity::{
            caller::Caller,
            credential::CredentialStatus,
            scope::of::{TokensRead, TokensWrite},
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
    tx::{Change, Effect, Idempotent, Store},
};

/// Creates a token with the caller as its issuer.
pub async fn create(
    grant: Grant<TokensWrite>,
    State(store): State<Store>,
    body: JsonBody<NewToken>,
) -> Result<Idempotent<Issued<IssuedToken>>> {
    let now = store.clock.now();
    let tenant = grant.in_project_on(&store.db, body.project_id()?).await?;
    store.writes.execute_single(grant.request(), body, |new| issue(&grant, tenant, new, now)).await
}

/// Prepares a token, if the caller may issue it.
fn issue(
    grant: &Grant<TokensWrite>,
    tenant: Tenant,
    new: NewToken,
    now: Timestamp,
) -> Result<Effect<Issued<IssuedToken>>> {
    let (issuer, issuer_end) = match grant.caller() {
        Caller::Session { user_id, .. } => (Issuer::Member(*user_id), None),
        Caller::Key { id, expires_at, .. } => (Issuer::Key(*id), *expires_at),
        Caller::Token { id, expires_at, .. } => (Issuer::Token(*id), Some(*expires_at)),
    };
    let expires_at = expiry(new.expires_in, issuer_end, now)?;
    let scopes = tenant.grant_scopes(new.scopes)?;
    tenant.require_active()?;
    let secret = Secret::generate(SecretKind::Token);
    let row = TokenRow { id: TokenId::new(), name: new.name, scopes, issuer, created_at: now, expires_at };
    let (call, stored) = repo::issue(tenant, row, &secret);
    let call = grant.require_still(tenant, call);
    let view = TokenView::new(stored, now);
    let change = Change::new(Action::TokenCreated, view.id, Some(view.project_id)).created(&view);
    let body = IssuedToken { token: secret, view };
    Ok(Effect { call, change, response: Issued(Created { location: format!("/v1/tokens/{}", body.view.id), body }) })
}

/// Expiration time of a new token, never later than its issuer's.
fn expiry(expires_in: Option<u32>, issuer_end: Option<Timestamp>, now: Timestamp) -> Result<Timestamp> {
    let end = now.plus(Duration::from_secs(expires_in.unwrap_or(DEFAULT_LIFETIME_SECONDS).into()));
    match issuer_end {
        Some(issuer_end) if issuer_end < end && expires_in.is_some() => Err(Error::invalid_member(
            "/expires_in",
            ItemCode::OutOfRange,
            format!(
                "must be at most {}, because your own credential expires at {issuer_end}; omit it to use that time",
                now.until(issuer_end).as_secs()
            ),
        )),
        Some(issuer_end) => Ok(issuer_end.min(end)),
        None => Ok(end),
    }
}

/// Lists the tokens of a project.
pub async fn list(
    grant: Grant<TokensRead>,
    State(store): State<Store>,
    Query(query): Query<ListQuery<TokenFilter>>,
) -> Result<List<TokenView>> {
    let page = query.page()?;
    let now = store.clock.now();
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project(&mut db, query.filter.project_id.as_deref()).await?;
    let page = repo::list(&mut db, tenant, &query.filter, now, &page).await?;
    Ok(List::new(page.map(|token| TokenView::new(token, now)), grant.request().id))
}

/// Returns a token.
pub async fn get(
    grant: Grant<TokensRead>,
    State(store): State<Store>,
    PathId(id): PathId<id::Token>,
) -> Result<WithEtag<TokenView>> {
    let now = store.clock.now();
    let mut db = store.db.acquire().await?;
    let tenant = grant.in_project_of(&mut db, id).await?;
    let token = repo::get(&mut db, tenant, id).await?.ok_or_else(Error::not_found)?;
    Ok(WithEtag(TokenView::new(token, now)))
}

/// Revokes a token and all tokens issued under it.
pub async fn revoke(
    grant: Grant<TokensWrite, AnyCredentialOrSelf>,
    State(store): State<Store>,
    PathId(id): PathId<id::Token>,
) -> Result<Json<RevokedToken>> {
    let now = store.clock.now();
    let mut tx = store.writes.begin(grant.request()).await?;
    let tenant = grant.in_project_of_for_write(tx.db(), id).await?;
    if tx.is_conditional() {
        let token = repo::get(tx.db(), tenant, id).await?.ok_or_else(Error::not_found)?;
        match token.ends.status(now) {
            CredentialStatus::Revoked => tx.waive_preconditions(),
            _ => tx.require_match(&TokenView::new(token, now))?,
        }
    }
    let before = repo::revoke(tx.db(), tenant, id, now).await?.ok_or_else(Error::not_found)?;
    tx.invalidate(Subject::Token(id));
    let change = Change::new(Action::TokenRevoked, id, Some(tenant.project_id())).revoked(before);
    tx.commit(change, Json(RevokedToken { id, revoked: true })).await
}
