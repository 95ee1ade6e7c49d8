//! Bearer authentication (RFC 6750): from the `Authorization` header to a valid credential.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, header};
use futures_util::FutureExt;

use super::{
    cache::{Entry, Recognised},
    lease::Mark,
    node::Node,
    watch::Judged,
};
use crate::{
    base::{
        caller::{Bounds, Caller},
        clock::{Clock, Timestamp, since_boot},
        error::{Code, Error, Result},
        scope::ScopeSet,
        secret::{Secret, SecretHash, SecretKind},
        subject::Subject,
    },
    http::extract::single_header,
    keys, sessions,
    tokens::{self, repo::Link},
};

/// Authenticates credentials: from the node's cache while its lease is valid, otherwise with one indexed read of the
/// database.
#[derive(Clone, Debug)]
pub struct Authenticator {
    pub(super) node: Arc<Node>,
    pub(super) clock: Clock,
    pub(super) judged: Arc<Judged>,
}

/// A credential that was not in the cache.
#[derive(Debug)]
pub struct Look {
    hash: SecretHash,
    now: Timestamp,
}

impl Look {
    /// Hash of the credential's secret.
    pub(super) fn hash(&self) -> SecretHash {
        self.hash.clone()
    }

    /// Reads the credential from the database and caches it.
    pub async fn into_database(self, by: &Authenticator, secret: &Secret) -> Result<Arc<Caller>> {
        self.and_keep(by, secret).await.map(|seen| seen.caller)
    }

    async fn and_keep(self, by: &Authenticator, secret: &Secret) -> Result<Seen> {
        let Self { hash, now } = self;
        let (mark, found) = by.read(secret, &hash, now).await?;
        let caller = Arc::clone(&found.recognised.caller);
        let credentials = by.node.credentials.as_ref();
        let entry = credentials.and_then(|credentials| credentials.fill(mark, hash, found.recognised, &found.rests_on));
        Ok(Seen { caller, entry })
    }
}

/// A credential that was valid when it was checked.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Caller of the credential.
    pub caller: Arc<Caller>,
    /// Cache entry that shows later whether the credential is still valid. None without a cache.
    pub(super) entry: Option<Arc<Entry<Recognised>>>,
}

/// A credential read from the database, and the subjects that it depends on.
struct Found {
    recognised: Recognised,
    rests_on: Vec<Subject>,
}

/// A repository's lookup by hash, as a repeatable read that owns the hash.
macro_rules! look_up {
    ($find:path, $hash:ident) => {{
        let hash = $hash.clone();
        move |db| {
            let hash = hash.clone();
            async move { $find(db, &hash).await }.boxed()
        }
    }};
}

impl Authenticator {
    /// An authenticator for `node`.
    pub fn new(node: Arc<Node>, clock: Clock) -> Self {
        Self { node, clock, judged: Arc::default() }
    }

    /// Whether results of database reads at `now` are cached.
    pub(super) fn fills_cache(&self, now: Duration) -> bool {
        self.node.credentials.as_ref().is_some_and(|credentials| credentials.lease().pass(now).is_some())
    }

    /// Caller of `secret`, if the credential is valid.
    pub async fn look_up(&self, secret: &Secret) -> Result<Arc<Caller>> {
        match self.cached(secret) {
            Ok(caller) => Ok(caller),
            Err(look) => look.into_database(self, secret).await,
        }
    }

    /// Like [`Authenticator::look_up`], for a caller that checks again later whether the credential is still valid.
    pub async fn see(&self, secret: &Secret) -> Result<Seen> {
        match self.entry(secret) {
            Ok(entry) => Ok(Seen { caller: Arc::clone(&entry.value.caller), entry: Some(entry) }),
            Err(look) => look.and_keep(self, secret).await,
        }
    }

    /// Cached caller of `secret`, without waiting. Otherwise the state to continue in the database.
    pub fn cached(&self, secret: &Secret) -> std::result::Result<Arc<Caller>, Look> {
        self.entry(secret).map(|entry| Arc::clone(&entry.value.caller))
    }

    fn entry(&self, secret: &Secret) -> std::result::Result<Arc<Entry<Recognised>>, Look> {
        let look = Look { hash: secret.hash(), now: self.clock.forward() };
        let Some(credentials) = &self.node.credentials else { return Err(look) };
        // The pass is taken before the entry is read; see `lease`.
        let cached = credentials.lease().pass(since_boot()).and_then(|pass| credentials.find(&pass, &look.hash));
        match cached {
            Some(entry) if entry.value.good_until.is_none_or(|end| look.now < end) => Ok(entry),
            _ => Err(look),
        }
    }

    /// Reads a credential from the database, with the mark to cache it under.
    async fn read(&self, secret: &Secret, hash: &SecretHash, now: Timestamp) -> Result<(Mark, Found)> {
        match secret.kind() {
            SecretKind::Session => self.session(hash, now).await,
            SecretKind::Key => self.key(hash, now).await,
            SecretKind::Token => self.token(hash, now).await,
            // An invitation is not a credential.
            SecretKind::Invitation => Err(unknown()),
        }
    }

    async fn session(&self, hash: &SecretHash, now: Timestamp) -> Result<(Mark, Found)> {
        let (mark, session) = self.node.verified(look_up!(sessions::repo::find_by_secret, hash)).await?;
        let session = session.ok_or_else(unknown)?;
        live(session.revoked_at, Some(session.expires_at), now)?;
        let idle_end = session.idle_end();
        if idle_end <= now {
            return Err(Error::new(
                Code::TokenExpired,
                format!("This session expired at {idle_end}, because it was not used for 12 hours; sign in again"),
            ));
        }
        let caller = Caller::Session { id: session.id, user_id: session.user_id };
        // Other nodes may extend the idle timeout, so the database is read again when it expires.
        let good_until = Some(session.expires_at.min(idle_end));
        let rests_on = vec![Subject::Session(session.id), Subject::User(session.user_id)];
        Ok((mark, Found::new(caller, good_until, rests_on)))
    }

    async fn key(&self, hash: &SecretHash, now: Timestamp) -> Result<(Mark, Found)> {
        let (mark, key) = self.node.verified(look_up!(keys::repo::find_by_secret, hash)).await?;
        let key = key.ok_or_else(unknown)?;
        let good_until = earlier(key.expires_at, key.secret_expires_at);
        live(key.revoked_at, good_until, now)?;
        let rests_on = vec![Subject::Key(key.id), Subject::Project(key.project_id)];
        let caller = Caller::Key {
            id: key.id,
            project_id: key.project_id,
            project_status: key.project_status,
            scopes: ScopeSet::from_texts(&key.scopes),
            created_at: key.created_at,
            bounds: Bounds::stored(Some(key.id), &key.allowed_ips, key.rate_limit.map(|limit| limit.0)),
            expires_at: key.expires_at,
        };
        Ok((mark, Found::new(caller, good_until, rests_on)))
    }

    async fn token(&self, hash: &SecretHash, now: Timestamp) -> Result<(Mark, Found)> {
        let (mark, chain) = self.node.verified(look_up!(tokens::repo::chain_by_secret, hash)).await?;
        let token = chain.first().ok_or_else(unknown)?;
        live(token.revoked_at, Some(token.expires_at), now)?;
        // A token depends on all its issuers: it has only the scopes that each of them still has, and ends with the first
        // of them. This is decided here and not when an issuer ends, so that no race between issuing and revoking can leave
        // a token that outlives its issuer.
        let scopes = chain.iter().try_fold(ScopeSet::all(), |scopes, link| {
            let issuer = link.issuer_scopes(now)?;
            Some(scopes.intersection(ScopeSet::from_texts(&link.scopes)).intersection(issuer))
        });
        let scopes = scopes.ok_or_else(|| {
            Error::new(
                Code::TokenRevoked,
                "This token's issuer expired or was revoked, which ends the token too; issue a new one",
            )
        })?;
        // The expiration time of an issuer may have been shortened since.
        let expires_at = chain.iter().fold(token.expires_at, |end, link| end.min(link.ends_at()));
        // The first issuer's networks and rate limit apply to all tokens below it.
        let bounds = chain.last().map(Link::bounds).unwrap_or_default();
        let rests_on = chain.iter().flat_map(Link::rests_on).collect();
        let caller = Caller::Token {
            id: token.id,
            project_id: token.project_id,
            project_status: token.project_status,
            scopes,
            created_at: token.created_at,
            expires_at,
            bounds,
        };
        Ok((mark, Found::new(caller, Some(expires_at), rests_on)))
    }
}

impl Found {
    fn new(caller: Caller, good_until: Option<Timestamp>, rests_on: Vec<Subject>) -> Self {
        Self { recognised: Recognised { caller: Arc::new(caller), good_until }, rests_on }
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

pub(super) fn unknown() -> Error {
    Error::new(Code::InvalidToken, "This credential is unknown; check that it is complete and belongs to this server")
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

/// The secret in the request's headers.
pub fn bearer_secret(headers: &HeaderMap) -> Result<Secret> {
    let missing = |detail: &'static str| Error::new(Code::MissingCredentials, detail);
    let value = single_header(headers, &header::AUTHORIZATION)?.ok_or_else(|| {
        missing("This operation requires a credential; send 'Authorization: Bearer <session, key or token>'")
    })?;
    let text = value.to_str().unwrap_or_default();
    // The scheme is case-insensitive (RFC 9110 §11.1).
    let secret = match text.split_once(' ') {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("bearer") => rest.trim(),
        _ => {
            return Err(missing(
                "The Authorization header has another scheme; send 'Authorization: Bearer <session, key or token>'",
            ));
        }
    };
    Secret::parse(secret).ok_or_else(|| {
        Error::new(
            Code::InvalidToken,
            "This is not a CloudAPI credential: these start with sess_, sk_live_ or cap_ and end with a checksum; check that it was copied completely",
        )
    })
}
