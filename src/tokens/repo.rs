//! SQL for tokens.

use sqlx::{PgConnection, types::Json};

use super::model::{MAX_DEPTH, StoredToken};
use crate::{
    base::{
        caller::Bounds,
        clock::Timestamp,
        credential::CredentialStatus,
        error::{Code, Error},
        id::{self, KeyId, ProjectId, TokenId, UserId},
        limit::RateLimit,
        page::{Page, PageRequest, keyset},
        role::Role,
        scope::ScopeSet,
        secret::{Secret, SecretHash},
        subject::Subject,
        tenant::{ProjectStatus, Tenant},
    },
    db::{Call, ProjectItem, Stamped},
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

/// A token in a chain of issuers, with its own issuer.
#[derive(Debug, sqlx::FromRow)]
pub struct ChainedToken {
    /// Token ID.
    pub id: TokenId,
    /// Project of the token.
    pub project_id: ProjectId,
    /// Scopes of the token itself.
    pub scopes: Vec<String>,
    /// Creation time.
    pub created_at: Timestamp,
    /// Expiration time.
    pub expires_at: Timestamp,
    /// Revocation time.
    pub revoked_at: Option<Timestamp>,
    /// Status of the project.
    pub project_status: ProjectStatus,
    issuer_token_id: Option<TokenId>,
    issuer_key_id: Option<KeyId>,
    issuer_key_allowed_ips: Option<Vec<String>>,
    issuer_key_rate_limit: Option<Json<RateLimit>>,
    issuer_key_scopes: Option<Vec<String>>,
    issuer_key_expires_at: Option<Timestamp>,
    issuer_key_revoked_at: Option<Timestamp>,
    issuer_user_id: Option<UserId>,
    issuer_role: Option<Role>,
}

impl ChainedToken {
    /// Networks and rate limit of the key that issued the token.
    pub fn bounds(&self) -> Bounds {
        let allowed_ips = self.issuer_key_allowed_ips.as_deref().unwrap_or_default();
        Bounds::from_stored(self.issuer_key_id, allowed_ips, self.issuer_key_rate_limit.as_ref().map(|limit| limit.0))
    }

    /// Subjects that this link depends on.
    pub fn depends_on(&self) -> impl Iterator<Item = Subject> {
        let issuer = match (self.issuer_key_id, self.issuer_user_id) {
            (Some(key), _) => Some(Subject::Key(key)),
            (None, Some(user)) => Some(Subject::Member(self.project_id, user)),
            // The issuer is a token, which is the next link.
            (None, None) => None,
        };
        // All links belong to the same project.
        let project = self.issuer_token_id.is_none().then_some(Subject::Project(self.project_id));
        [Some(Subject::Token(self.id)), issuer, project].into_iter().flatten()
    }

    /// Expiration time of the token, or of the key that issued it if that is earlier.
    pub fn effective_expires_at(&self) -> Timestamp {
        self.issuer_key_expires_at.map_or(self.expires_at, |end| end.min(self.expires_at))
    }

    /// Scopes that this link allows to the tokens below it: those of its key or membership for the first link, and all
    /// scopes if it was issued by another token, which has its own link. `None` if the link or its issuer has ended.
    pub fn issuer_scopes(&self, now: Timestamp) -> Option<ScopeSet> {
        let is_ended = |revoked: Option<Timestamp>, expires: Option<Timestamp>| {
            revoked.is_some() || expires.is_some_and(|end| end <= now)
        };
        if is_ended(self.revoked_at, Some(self.expires_at)) {
            return None;
        }
        match (&self.issuer_key_scopes, self.issuer_role, self.issuer_token_id) {
            (Some(_), _, _) if is_ended(self.issuer_key_revoked_at, self.issuer_key_expires_at) => None,
            (Some(scopes), _, _) => Some(ScopeSet::from_texts(scopes)),
            (None, Some(role), _) => Some(role.scopes()),
            (None, None, Some(_)) => Some(ScopeSet::all()),
            // The issuer is not a member any more.
            (None, None, None) => None,
        }
    }
}

/// The token with this secret, valid or not, followed by the tokens it was issued through, up to the one that a key or
/// member issued.
pub async fn chain_by_secret(db: &mut PgConnection, secret: &SecretHash) -> sqlx::Result<Stamped<Vec<ChainedToken>>> {
    let rows = sqlx::query_as(
        "WITH RECURSIVE chain AS (
             SELECT id, project_id, scopes, created_at, expires_at, revoked_at, issuer_token_id, issuer_key_id, issuer_user_id,
                    0 AS distance FROM tokens WHERE secret_hash = $1
             UNION ALL
             SELECT t.id, t.project_id, t.scopes, t.created_at, t.expires_at, t.revoked_at, t.issuer_token_id, t.issuer_key_id,
                    t.issuer_user_id, c.distance + 1 FROM chain c JOIN tokens t ON t.id = c.issuer_token_id
         )
         SELECT a.seq AS auth_seq, auth_server() AS auth_server, c.id IS NOT NULL AS is_found, c.id, c.project_id, c.scopes, c.created_at, c.expires_at, c.revoked_at, c.issuer_token_id,
                c.issuer_key_id, k.allowed_ips AS issuer_key_allowed_ips, k.rate_limit AS issuer_key_rate_limit,
                k.scopes AS issuer_key_scopes, k.expires_at AS issuer_key_expires_at,
                k.revoked_at AS issuer_key_revoked_at, c.issuer_user_id, m.role AS issuer_role, p.status AS project_status
         FROM auth_clock a
         LEFT JOIN (chain c
                    JOIN projects p ON p.id = c.project_id
                    LEFT JOIN keys k ON k.id = c.issuer_key_id
                    LEFT JOIN members m ON m.user_id = c.issuer_user_id AND m.project_id = c.project_id
                                           AND m.status = 'active') ON true
         ORDER BY c.distance",
    )
    .bind(secret)
    .fetch_all(db)
    .await?;
    Stamped::collect(rows)
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

/// Revokes one of the tenant's tokens and all tokens issued under it. Returns its previous status, or none if there is no
/// such token.
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

/// Revokes the tokens in `level`, whose rows are locked, and all tokens below them, level by level: a row lock waits for
/// tokens that are being issued under it, and the next statement sees them.
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
