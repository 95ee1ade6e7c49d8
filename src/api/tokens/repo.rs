//! SQL for tokens.

use sqlx::PgConnection;

use super::model::{MAX_DEPTH, StoredToken};
use crate::{
    base::{
        error::{Code, Error},
        id::{self, KeyId, TokenId, UserId},
        identity::{credential::CredentialStatus, scope::ScopeSet, secret::Secret, tenant::Tenant},
        input::page::{Page, PageRequest, keyset},
        runtime::clock::Timestamp,
    },
    db::{Call, ProjectItem},
};

impl ProjectItem for id::Token {
    const PROJECT_OF: &'static str = "SELECT project_id FROM tokens WHERE id = $1";
}

/// Issuer of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issuer {
    /// A key.
    Key(KeyId),
    /// Another token.
    Token(TokenId),
    /// A member of the token's project.
    Member(UserId),
}

/// Values of a new token.
#[derive(Debug)]
pub struct TokenRow {
    /// Token ID.
    pub id: TokenId,
    /// Human-readable name.
    pub name: String,
    /// Scopes of the token.
    pub scopes: ScopeSet,
    /// Issuer of the token.
    pub issuer: Issuer,
    /// Creation time.
    pub created_at: Timestamp,
    /// Expiration time.
    pub expires_at: Timestamp,
}

/// The call that issues a token, and the resulting token. The call fails if the issuer was just revoked: it waits for a
/// revocation that is in progress, and a later revocation finds the token.
pub fn issue(tenant: Tenant, token: TokenRow, secret: &Secret) -> (Call, StoredToken) {
    let (key, parent, member) = match token.issuer {
        Issuer::Key(id) => (Some(id), None, None),
        Issuer::Token(id) => (None, Some(id), None),
        Issuer::Member(id) => (None, None, Some(id)),
    };
    let stored = StoredToken {
        id: token.id,
        project_id: tenant.project_id(),
        hint: secret.hint(),
        name: token.name,
        scopes: token.scopes.to_texts().into_iter().map(str::to_owned).collect(),
        created_at: token.created_at,
        expires_at: token.expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    let call = Call::new("issue_token", issue_error)
        .bind(stored.id)
        .bind(stored.project_id)
        .bind(secret.hash())
        .bind(&stored.hint)
        .bind(key)
        .bind(parent)
        .bind(member)
        .bind(&stored.name)
        .bind(&stored.scopes)
        .bind(stored.created_at)
        .bind(stored.expires_at)
        .bind(MAX_DEPTH);
    (call, stored)
}

fn issue_error(reason: &str) -> Option<Error> {
    match reason {
        "issuer_ended" => {
            Some(Error::new(Code::TokenRevoked, "This credential was revoked during the request; use another one"))
        }
        "too_deep" => Some(Error::new(
            Code::LimitReached,
            format!(
                "Tokens can be nested at most {MAX_DEPTH} levels deep; issue this one with a credential higher in the chain"
            ),
        )),
        _ => None,
    }
}

/// One of the tenant's tokens.
pub async fn get(db: &mut PgConnection, tenant: Tenant, id: TokenId) -> sqlx::Result<Option<StoredToken>> {
    sqlx::query_as(
        "SELECT id, project_id, hint, name, scopes, created_at, expires_at, revoked_at, last_used_at FROM tokens
         WHERE project_id = $1 AND id = $2",
    )
    .bind(tenant.project_id())
    .bind(id)
    .fetch_optional(db)
    .await
}

/// The tenant's tokens.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    page: &PageRequest<id::Token>,
) -> sqlx::Result<Page<StoredToken, id::Token>> {
    let sql = keyset!(
        page,
        "id",
        "SELECT id, project_id, hint, name, scopes, created_at, expires_at, revoked_at, last_used_at FROM tokens WHERE project_id = $3"
    );
    let rows: Vec<StoredToken> =
        sqlx::query_as(sql).bind(page.after).bind(page.rows()).bind(tenant.project_id()).fetch_all(db).await?;
    Ok(page.page(rows, |token| token.id))
}

/// Revokes one of the tenant's tokens and all tokens issued under it. Returns its previous status, or none if there is
/// no such token.
pub async fn revoke(
    db: &mut PgConnection,
    tenant: Tenant,
    id: TokenId,
    now: Timestamp,
) -> sqlx::Result<Option<CredentialStatus>> {
    let found: Option<(Option<Timestamp>, Timestamp)> =
        sqlx::query_as("SELECT revoked_at, expires_at FROM tokens WHERE id = $1 AND project_id = $2 FOR UPDATE")
            .bind(id)
            .bind(tenant.project_id())
            .fetch_optional(&mut *db)
            .await?;
    let Some((revoked_at, expires_at)) = found else { return Ok(None) };
    revoke_with_issued(db, vec![id], now).await?;
    Ok(Some(CredentialStatus::at(now, revoked_at, Some(expires_at))))
}

/// Revokes all tokens issued under a key, which the caller has locked.
pub async fn revoke_issued_by_key(db: &mut PgConnection, key: KeyId, now: Timestamp) -> sqlx::Result<()> {
    let issued = sqlx::query_scalar("SELECT id FROM tokens WHERE issuer_key_id = $1 FOR UPDATE")
        .bind(key)
        .fetch_all(&mut *db)
        .await?;
    revoke_with_issued(db, issued, now).await
}

/// Revokes all tokens issued by a member of the tenant's project, whose row the caller has locked or removed.
pub async fn revoke_issued_by_member(
    db: &mut PgConnection,
    tenant: Tenant,
    user: UserId,
    now: Timestamp,
) -> sqlx::Result<()> {
    let issued = sqlx::query_scalar("SELECT id FROM tokens WHERE issuer_user_id = $1 AND project_id = $2 FOR UPDATE")
        .bind(user)
        .bind(tenant.project_id())
        .fetch_all(&mut *db)
        .await?;
    revoke_with_issued(db, issued, now).await
}

/// Revokes the tokens in `level`, whose rows are locked, and all tokens below them, level by level: a row lock waits
/// for tokens that are being issued under it, and the next statement sees them.
async fn revoke_with_issued(db: &mut PgConnection, mut level: Vec<TokenId>, now: Timestamp) -> sqlx::Result<()> {
    while !level.is_empty() {
        sqlx::query("UPDATE tokens SET revoked_at = $2 WHERE id = ANY($1) AND revoked_at IS NULL")
            .bind(&level)
            .bind(now)
            .execute(&mut *db)
            .await?;
        level = sqlx::query_scalar("SELECT id FROM tokens WHERE issuer_token_id = ANY($1) FOR UPDATE")
            .bind(&level)
            .fetch_all(&mut *db)
            .await?;
    }
    Ok(())
}
