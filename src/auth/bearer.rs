//! Bearer authentication (RFC 6750): from the `Authorization` header to a live credential.

use axum::http::{HeaderMap, header};
use sqlx::PgPool;

use crate::{
    base::{
        caller::{Bounds, Caller},
        clock::{Clock, Timestamp},
        error::{Code, Error, Result},
        scope::ScopeSet,
        secret::{Secret, SecretHash, SecretKind},
    },
    http::extract::single_header,
    keys, sessions,
    tokens::{self, repo::Link},
};

/// Recognises credentials, by one indexed read each.
#[derive(Clone, Debug)]
pub struct Authenticator {
    db: PgPool,
    clock: Clock,
}

impl Authenticator {
    /// One that reads `db`.
    pub fn new(db: PgPool, clock: Clock) -> Self {
        Self { db, clock }
    }

    /// The caller that the request's headers speak for, and the secret they show.
    pub async fn authenticate(&self, headers: &HeaderMap) -> Result<(Caller, Secret)> {
        let secret = bearer_secret(headers)?;
        let caller = self.look_up(&secret).await.map_err(|error| match error.code() {
            Code::DatabaseUnavailable => Error::new(
                Code::AuthUnavailable,
                "Credentials cannot be checked while the database is unreachable; retry in a moment",
            )
            .caused_by(error),
            _ => error,
        })?;
        Ok((caller, secret))
    }

    /// The caller that `secret` speaks for, if it is live.
    pub async fn look_up(&self, secret: &Secret) -> Result<Caller> {
        let now = self.clock.now();
        let hash = secret.hash();
        match secret.kind() {
            SecretKind::Session => self.session(&hash, now).await,
            SecretKind::Key => self.key(&hash, now).await,
            SecretKind::Token => self.token(&hash, now).await,
            // It opens nothing by itself.
            SecretKind::Invitation => Err(unknown()),
        }
    }

    async fn session(&self, hash: &SecretHash, now: Timestamp) -> Result<Caller> {
        let mut db = self.db.acquire().await?;
        let session = sessions::repo::find_by_secret(&mut db, hash).await?.ok_or_else(unknown)?;
        live(session.revoked_at, Some(session.expires_at), now)?;
        let idle_end = session.idle_end();
        if idle_end <= now {
            return Err(Error::new(
                Code::TokenExpired,
                format!("This session ended at {idle_end}, because it was not used for 12 hours; sign in again"),
            ));
        }
        Ok(Caller::Session { id: session.id, user_id: session.user_id })
    }

    async fn key(&self, hash: &SecretHash, now: Timestamp) -> Result<Caller> {
        let mut db = self.db.acquire().await?;
        let key = keys::repo::find_by_secret(&mut db, hash).await?.ok_or_else(unknown)?;
        live(key.revoked_at, earlier(key.expires_at, key.secret_expires_at), now)?;
        Ok(Caller::Key {
            id: key.id,
            project_id: key.project_id,
            project_status: key.project_status,
            scopes: ScopeSet::from_texts(&key.scopes),
            created_at: key.created_at,
            bounds: Bounds::stored(Some(key.id), &key.allowed_ips, key.rate_limit.map(|limit| limit.0)),
            expires_at: key.expires_at,
        })
    }

    async fn token(&self, hash: &SecretHash, now: Timestamp) -> Result<Caller> {
        let mut db = self.db.acquire().await?;
        let chain = tokens::repo::chain_by_secret(&mut db, hash).await?;
        let token = chain.first().ok_or_else(unknown)?;
        live(token.revoked_at, Some(token.expires_at), now)?;
        // A token rests on all that it was issued through: it holds what each of them still holds,
        // and ends with the first of them. Decided here rather than when one of them ends, so that
        // no race between minting and revoking can leave a token that outlives its issuer.
        let scopes = chain.iter().try_fold(ScopeSet::all(), |scopes, link| {
            let issuer = link.issuer_scopes(now)?;
            Some(scopes.intersection(ScopeSet::from_texts(&link.scopes)).intersection(issuer))
        });
        let scopes = scopes.ok_or_else(|| {
            Error::new(Code::TokenRevoked, "This token's issuer has ended, and the token with it; issue a new one")
        })?;
        // An issuer's end may have been drawn nearer since.
        let expires_at = chain.iter().fold(token.expires_at, |end, link| end.min(link.ends_at()));
        // What stands behind all of them hands out no more than it holds, here too.
        let bounds = chain.last().map(Link::bounds).unwrap_or_default();
        Ok(Caller::Token {
            id: token.id,
            project_id: token.project_id,
            project_status: token.project_status,
            scopes,
            created_at: token.created_at,
            expires_at,
            bounds,
        })
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

fn unknown() -> Error {
    Error::new(
        Code::InvalidToken,
        "This credential is not known here; check that it is complete and meant for this server",
    )
}

fn live(revoked_at: Option<Timestamp>, expires_at: Option<Timestamp>, now: Timestamp) -> Result<()> {
    if revoked_at.is_some() {
        return Err(Error::new(Code::TokenRevoked, "This credential was revoked; use another one"));
    }
    match expires_at {
        Some(end) if end <= now => {
            Err(Error::new(Code::TokenExpired, format!("This credential expired at {end}; get a new one")))
        }
        _ => Ok(()),
    }
}

fn bearer_secret(headers: &HeaderMap) -> Result<Secret> {
    let missing = |detail: &'static str| Error::new(Code::MissingCredentials, detail);
    let value = single_header(headers, &header::AUTHORIZATION)?
        .ok_or_else(|| missing("This needs a credential; send 'Authorization: Bearer <session, key or token>'"))?;
    let text = value.to_str().unwrap_or_default();
    // The scheme is case-insensitive (RFC 9110 §11.1).
    let secret = match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        _ => {
            return Err(missing(
                "The Authorization header is of another kind; send 'Authorization: Bearer <session, key or token>'",
            ));
        }
    };
    Secret::parse(secret).ok_or_else(|| {
        Error::new(
            Code::InvalidToken,
            "This is not a credential of ours: they start with sess_, sk_live_ or cap_ and end in a checksum; check that it was copied whole",
        )
    })
}
