//! Tokens and their issuers, as needed to authenticate them.

use sqlx::{PgConnection, types::Json};

use crate::{
    base::{
        id::{KeyId, ProjectId, TokenId, UserId},
        identity::{
            caller::Bounds, role::Role, scope::ScopeSet, secret::SecretHash, subject::Subject, tenant::ProjectStatus,
        },
        input::limit::RateLimit,
        runtime::clock::Timestamp,
    },
    db::Stamped,
};

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

    /// Whether a key or a member issued the token. A chain that does not end with such a link is incomplete.
    pub fn is_root(&self) -> bool {
        self.issuer_token_id.is_none()
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
            // The key is gone, or the issuer is not a member any more.
            (None, None, None) => None,
        }
    }
}

/// The token with this secret, valid or not, followed by the tokens it was issued through, up to the one that a key or
/// member issued. The chain ends earlier if one of them is missing.
pub async fn chain_by_secret(db: &mut PgConnection, secret: &SecretHash) -> sqlx::Result<Stamped<Vec<ChainedToken>>> {
    // LATERAL with OFFSET 0 is always one index lookup per link, whatever the planner estimates.
    let rows = sqlx::query_as(
        "WITH RECURSIVE chain AS (
             SELECT id, project_id, scopes, created_at, expires_at, revoked_at, issuer_token_id, issuer_key_id, issuer_user_id,
                    issuer_membership_id, 0 AS distance FROM tokens WHERE secret_hash = $1
             UNION ALL
             SELECT t.id, t.project_id, t.scopes, t.created_at, t.expires_at, t.revoked_at, t.issuer_token_id, t.issuer_key_id,
                    t.issuer_user_id, t.issuer_membership_id, c.distance + 1
             FROM chain c CROSS JOIN LATERAL (
                 SELECT id, project_id, scopes, created_at, expires_at, revoked_at, issuer_token_id, issuer_key_id,
                        issuer_user_id, issuer_membership_id
                 FROM tokens WHERE id = c.issuer_token_id OFFSET 0) t
         )
         SELECT a.seq AS auth_seq, auth_server() AS auth_server, c.id IS NOT NULL AS is_found, c.id, c.project_id, c.scopes, c.created_at, c.expires_at, c.revoked_at, c.issuer_token_id,
                c.issuer_key_id, c.allowed_ips AS issuer_key_allowed_ips, c.rate_limit AS issuer_key_rate_limit,
                c.key_scopes AS issuer_key_scopes, c.key_expires_at AS issuer_key_expires_at,
                c.key_revoked_at AS issuer_key_revoked_at, c.issuer_user_id, c.role AS issuer_role, c.project_status
         FROM auth_clock a
         LEFT JOIN (
             SELECT c.id, c.project_id, c.scopes, c.created_at, c.expires_at, c.revoked_at, c.issuer_token_id, c.issuer_key_id,
                    c.issuer_user_id, c.distance, k.allowed_ips, k.rate_limit, k.scopes AS key_scopes,
                    k.expires_at AS key_expires_at, k.revoked_at AS key_revoked_at, m.role, p.status AS project_status
             FROM chain c
             CROSS JOIN LATERAL (SELECT status FROM projects WHERE id = c.project_id OFFSET 0) p
             LEFT JOIN LATERAL (SELECT allowed_ips, rate_limit, scopes, expires_at, revoked_at
                                FROM keys WHERE id = c.issuer_key_id OFFSET 0) k ON true
             LEFT JOIN LATERAL (SELECT role FROM members
                                WHERE project_id = c.project_id AND user_id = c.issuer_user_id
                                  AND membership_id = c.issuer_membership_id AND status = 'active' OFFSET 0) m ON true
         ) c ON true
         ORDER BY c.distance",
    )
    .bind(secret)
    .fetch_all(db)
    .await?;
    Stamped::collect(rows)
}
