//! SQL for tokens.

use sqlx::PgConnection;
use uuid::Uuid;

use super::model::{Issuer, MAX_DEPTH, StoredToken, TokenEnds, TokenFilter};
use crate::{
    base::{
        error::{Code, Error},
        id::{self, TokenId},
        identity::{credential::CredentialStatus, scope::ScopeSet, secret::Secret, tenant::Tenant},
        input::page::{Page, PageRequest},
        runtime::clock::Timestamp,
    },
    db::{Call, ProjectItem, lists::scan::Scan},
};

/// Columns of [`StoredToken`], where the ends of the issuers are already known.
macro_rules! listed_columns {
    () => {
        "id, project_id, issuer_key_id, issuer_token_id, issuer_user_id, hint, name, scopes, created_at, expires_at, \
         revoked_at, last_used_at, issuers_end_at"
    };
}

/// Columns of [`StoredToken`]. `issuers_end` is called for each row, so select only the rows of a page.
macro_rules! token_columns {
    () => {
        "id, project_id, issuer_key_id, issuer_token_id, issuer_user_id, hint, name, scopes, created_at, expires_at, \
         revoked_at, last_used_at, \
         issuers_end(issuer_key_id, issuer_token_id, issuer_user_id, project_id, issuer_membership_id) AS issuers_end_at"
    };
}

/// The ends of the issuers of a scanned row, once for each row.
const ENDS: &str = "CROSS JOIN LATERAL (SELECT issuers_end(s.issuer_key_id, s.issuer_token_id, s.issuer_user_id, \
                    s.project_id, s.issuer_membership_id) AS issuers_end_at OFFSET 0) e";
/// Maximum number of rows to scan for a page of tokens with a status.
const MAX_ROWS_BY_STATUS: usize = 200;

impl ProjectItem for id::Token {
    const PROJECT_OF: &'static str = "SELECT project_id FROM tokens WHERE id = $1";
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

/// The call that issues a token, and the resulting token. The call fails if an issuer was just revoked. A token that is
/// issued during a revocation is dead when the revocation is committed.
pub fn issue(tenant: Tenant, token: TokenRow, secret: &Secret) -> (Call, StoredToken) {
    let (key, parent, member) = match token.issuer {
        Issuer::Key(id) => (Some(id), None, None),
        Issuer::Token(id) => (None, Some(id), None),
        Issuer::Member(id) => (None, None, Some(id)),
    };
    let stored = StoredToken {
        id: token.id,
        project_id: tenant.project_id(),
        issuer: token.issuer,
        hint: secret.hint(),
        name: token.name,
        scopes: token.scopes.to_texts().into_iter().map(str::to_owned).collect(),
        created_at: token.created_at,
        ends: TokenEnds { expires_at: token.expires_at, revoked_at: None, issuers_end_at: None },
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
        .bind(stored.ends.expires_at)
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
    sqlx::query_as(concat!("SELECT ", token_columns!(), " FROM tokens WHERE project_id = $1 AND id = $2"))
        .bind(tenant.project_id())
        .bind(id)
        .fetch_optional(db)
        .await
}

/// The tenant's tokens.
pub async fn list(
    db: &mut PgConnection,
    tenant: Tenant,
    wanted: &TokenFilter,
    now: Timestamp,
    page: &PageRequest<id::Token>,
) -> sqlx::Result<Page<StoredToken, id::Token>> {
    let name = wanted.name.as_deref();
    // Nothing else can have issued a token.
    let issuer = match wanted.issuer.as_deref().map(Issuer::parse) {
        Some(None) => return Ok(Page::scanned(Vec::new(), None)),
        issuer => issuer.flatten(),
    };
    let (key, issuer): (&[_], _) = match issuer {
        None => (&[("project_id", "$3")], None),
        Some(Issuer::Key(id)) => (&[("project_id", "$3"), ("issuer_key_id", "$4")], Some(id.as_u128())),
        Some(Issuer::Token(id)) => (&[("project_id", "$3"), ("issuer_token_id", "$4")], Some(id.as_u128())),
        Some(Issuer::Member(id)) => (&[("project_id", "$3"), ("issuer_user_id", "$4")], Some(id.as_u128())),
    };
    let status = match wanted.status {
        None => "",
        Some(CredentialStatus::Active) => {
            "revoked_at IS NULL AND expires_at > $6 AND (issuers_end_at IS NULL OR issuers_end_at > $6)"
        }
        Some(CredentialStatus::Expired) => {
            "revoked_at IS NULL AND issuers_end_at IS DISTINCT FROM 'epoch' AND least(expires_at, issuers_end_at) <= $6"
        }
        Some(CredentialStatus::Revoked) => "(revoked_at IS NOT NULL OR issuers_end_at = 'epoch')",
    };
    let named = if name.is_some() { "strpos(lower(name), lower($5)) > 0" } else { "" };
    let filter = match (status, named) {
        ("", filter) | (filter, "") => filter.to_owned(),
        _ => format!("{named} AND {status}"),
    };
    let scan = Scan {
        table: "tokens",
        columns: "id, project_id, hint, name, scopes, created_at, expires_at, revoked_at, last_used_at, \
                  issuer_key_id, issuer_token_id, issuer_user_id, issuer_membership_id",
        item: if status.is_empty() { token_columns!() } else { listed_columns!() },
        key,
        lookup: if status.is_empty() { "" } else { ENDS },
        // Each row costs a look at its issuers.
        max_rows: if status.is_empty() { Scan::DEFAULT.max_rows } else { MAX_ROWS_BY_STATUS },
        filter: &filter,
        ..Scan::DEFAULT
    };
    let issuer = issuer.map(Uuid::from_u128);
    scan.page(db, page, |query| query.bind(tenant.project_id()).bind(issuer).bind(name).bind(now)).await
}

/// Revokes one of the tenant's tokens, and with it every token issued under it. Returns its previous status, or none if
/// there is no such token.
pub async fn revoke(
    db: &mut PgConnection,
    tenant: Tenant,
    id: TokenId,
    now: Timestamp,
) -> sqlx::Result<Option<CredentialStatus>> {
    let before: Option<TokenEnds> = sqlx::query_as(concat!(
        "WITH before AS (SELECT ",
        token_columns!(),
        " FROM tokens WHERE id = $1 AND project_id = $2 FOR NO KEY UPDATE)
         UPDATE tokens t SET revoked_at = coalesce(t.revoked_at, $3) FROM before b
         WHERE t.id = b.id RETURNING b.revoked_at, b.expires_at, b.issuers_end_at"
    ))
    .bind(id)
    .bind(tenant.project_id())
    .bind(now)
    .fetch_optional(db)
    .await?;
    Ok(before.map(|ends| ends.status(now)))
}
