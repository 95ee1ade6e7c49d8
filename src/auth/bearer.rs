//! Bearer authentication (RFC 6750): from the `Authorization` header to a valid credential.

use std::{sync::Arc, time::Duration};

use axum::http::{HeaderMap, header, request::Parts};
use futures_util::FutureExt;

use super::{
    console::ConsoleRequest,
    credentials::{
        keys,
        sessions::{self, SessionKind},
        tokens::{self, ChainedToken},
    },
    revocation::{
        cache::{AuthenticatedCredential, Entry},
        lease::ReadVersion,
        node::Node,
    },
    watch::RecentChecks,
};
use crate::{
    base::{
        error::{Code, Error, Result},
        identity::{
            access_policy::ANY_KIND,
            caller::{Bounds, Caller, ConsoleSession},
            scope::ScopeSet,
            secret::{Secret, SecretHash, SecretKind},
            subject::Subject,
        },
        runtime::clock::{Clock, Timestamp, since_boot},
    },
    http::request::extract::single_header,
};

/// Authenticates credentials: from the node's cache while its lease is valid, otherwise with one indexed read of the
/// database.
#[derive(Clone, Debug)]
pub struct Authenticator {
    pub(super) node: Arc<Node>,
    pub(super) clock: Clock,
    pub(super) recent_checks: Arc<RecentChecks>,
}

/// A credential that was not in the cache.
#[derive(Debug)]
pub struct CacheMiss {
    hash: SecretHash,
    now: Timestamp,
}

impl CacheMiss {
    /// Hash of the credential's secret.
    pub(super) fn hash(&self) -> SecretHash {
        self.hash.clone()
    }

    /// Reads the credential from the database and caches it.
    pub async fn read_through(self, authenticator: &Authenticator, secret: &Secret) -> Result<Arc<Caller>> {
        self.read_and_cache(authenticator, secret).await.map(|checked| checked.caller)
    }

    async fn read_and_cache(self, authenticator: &Authenticator, secret: &Secret) -> Result<CheckedCredential> {
        let Self { hash, now } = self;
        let (version, found) = authenticator.read(secret, &hash, now).await?;
        let caller = Arc::clone(&found.credential.caller);
        let credentials = authenticator.node.credentials.as_ref();
        let entry =
            credentials.and_then(|credentials| credentials.fill(version, hash, found.credential, &found.depends_on));
        Ok(CheckedCredential { caller, entry })
    }
}

/// A credential that was valid when it was checked.
#[derive(Clone, Debug)]
pub struct CheckedCredential {
    /// Caller of the credential.
    pub caller: Arc<Caller>,
    /// Cache entry that shows later whether the credential is still valid. None without a cache.
    pub(super) entry: Option<Arc<Entry<AuthenticatedCredential>>>,
}

/// A credential read from the database, and the subjects that it depends on.
struct LoadedCredential {
    credential: AuthenticatedCredential,
    depends_on: Vec<Subject>,
}

/// A repository's lookup by hash, as a repeatable read that owns the hash.
macro_rules! lookup_by_hash {
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
        Self { node, clock, recent_checks: Arc::default() }
    }

    /// Whether results of database reads at `now` are cached.
    pub(super) fn fills_cache(&self, now: Duration) -> bool {
        self.node.credentials.as_ref().is_some_and(|credentials| credentials.lease().guard(now).is_some())
    }

    /// Caller of `secret`, if the credential is valid.
    pub async fn authenticate(&self, secret: &Secret) -> Result<Arc<Caller>> {
        match self.cached(secret) {
            Ok(caller) => Ok(caller),
            Err(miss) => miss.read_through(self, secret).await,
        }
    }

    /// Like [`Authenticator::authenticate`], for a caller that checks again later whether the credential is still
    /// valid.
    pub async fn authenticate_watched(&self, secret: &Secret) -> Result<CheckedCredential> {
        match self.entry(secret) {
            Ok(entry) => Ok(CheckedCredential { caller: Arc::clone(&entry.value.caller), entry: Some(entry) }),
            Err(miss) => miss.read_and_cache(self, secret).await,
        }
    }

    /// Cached caller of `secret`, without waiting. Otherwise the state to continue in the database.
    pub fn cached(&self, secret: &Secret) -> std::result::Result<Arc<Caller>, CacheMiss> {
        self.entry(secret).map(|entry| Arc::clone(&entry.value.caller))
    }

    fn entry(&self, secret: &Secret) -> std::result::Result<Arc<Entry<AuthenticatedCredential>>, CacheMiss> {
        let miss = CacheMiss { hash: secret.hash(), now: self.clock.now_non_decreasing() };
        let Some(credentials) = &self.node.credentials else { return Err(miss) };
        // The pass is taken before the entry is read; see `lease`.
        let cached = credentials.lease().guard(since_boot()).and_then(|guard| credentials.find(&guard, &miss.hash));
        match cached {
            Some(entry) if entry.value.valid_until.is_none_or(|end| miss.now < end) => Ok(entry),
            _ => Err(miss),
        }
    }

    /// Reads a credential from the database, with the version to cache it under.
    async fn read(
        &self,
        secret: &Secret,
        hash: &SecretHash,
        now: Timestamp,
    ) -> Result<(ReadVersion, LoadedCredential)> {
        match secret.kind() {
            SecretKind::Session => self.session(SessionKind::Api, hash, now).await,
            SecretKind::Console => self.session(SessionKind::Console, hash, now).await,
            SecretKind::Key => self.key(hash, now).await,
            SecretKind::Token => self.token(hash, now).await,
            // These are not credentials.
            SecretKind::Invitation | SecretKind::SignInLink => Err(unknown_credential()),
        }
    }

    async fn session(
        &self,
        kind: SessionKind,
        hash: &SecretHash,
        now: Timestamp,
    ) -> Result<(ReadVersion, LoadedCredential)> {
        let (version, session) = self.node.read_verified(lookup_by_hash!(sessions::find_by_secret, hash)).await?;
        // The prefix of a secret determines the kind of its session, so a different kind is a corrupt row.
        let session = session.filter(|session| session.kind == kind).ok_or_else(unknown_credential)?;
        check_active(session.revoked_at, Some(session.expires_at), now)?;
        let idle_expires_at = session.idle_expires_at();
        if idle_expires_at <= now {
            return Err(Error::new(
                Code::TokenExpired,
                format!(
                    "This session expired at {idle_expires_at}, because it was not used for 12 hours; sign in again"
                ),
            ));
        }
        let console =
            (kind == SessionKind::Console).then_some(ConsoleSession { authenticated_at: session.authenticated_at });
        let caller = Caller::Session { id: session.id, user_id: session.user_id, console };
        // Other nodes may extend the idle timeout, so the database is read again when it expires.
        let valid_until = Some(session.expires_at.min(idle_expires_at));
        let depends_on = vec![Subject::Session(session.id), Subject::User(session.user_id)];
        Ok((version, LoadedCredential::new(caller, valid_until, depends_on)))
    }

    async fn key(&self, hash: &SecretHash, now: Timestamp) -> Result<(ReadVersion, LoadedCredential)> {
        let (version, key) = self.node.read_verified(lookup_by_hash!(keys::find_by_secret, hash)).await?;
        let key = key.ok_or_else(unknown_credential)?;
        let valid_until = earlier(key.expires_at, key.secret_expires_at);
        check_active(key.revoked_at, valid_until, now)?;
        let depends_on = vec![Subject::Key(key.id), Subject::Project(key.project_id)];
        let caller = Caller::Key {
            id: key.id,
            project_id: key.project_id,
            project_status: key.project_status,
            scopes: ScopeSet::from_texts(&key.scopes),
            created_at: key.created_at,
            bounds: Bounds::from_stored(Some(key.id), &key.allowed_ips, key.rate_limit.map(|limit| limit.0)),
            expires_at: key.expires_at,
        };
        Ok((version, LoadedCredential::new(caller, valid_until, depends_on)))
    }

    async fn token(&self, hash: &SecretHash, now: Timestamp) -> Result<(ReadVersion, LoadedCredential)> {
        let (version, chain) = self.node.read_verified(lookup_by_hash!(tokens::chain_by_secret, hash)).await?;
        let token = chain.first().ok_or_else(unknown_credential)?;
        check_active(token.revoked_at, Some(token.expires_at), now)?;
        // A token depends on all its issuers: it has only the scopes that each of them still has, and ends with the
        // first of them. This is decided here and not when an issuer ends, so that a revocation writes one row, and no
        // race between issuing and revoking can leave a token that outlives its issuer.
        let scopes = chain.iter().try_fold(ScopeSet::all(), |scopes, link| {
            let issuer = link.issuer_scopes(now)?;
            Some(scopes.intersection(ScopeSet::from_texts(&link.scopes)).intersection(issuer))
        });
        // Without its first issuer, nothing is known about what the chain depends on.
        let is_complete = chain.last().is_some_and(ChainedToken::is_root);
        let scopes = scopes.filter(|_| is_complete).ok_or_else(|| {
            Error::new(
                Code::TokenRevoked,
                "This token's issuer expired or was revoked, which ends the token too; issue a new one",
            )
        })?;
        // The expiration time of an issuer may have been shortened since.
        let expires_at = chain.iter().fold(token.expires_at, |end, link| end.min(link.effective_expires_at()));
        // The first issuer's networks and rate limit apply to all tokens below it.
        let bounds = chain.last().map(ChainedToken::bounds).unwrap_or_default();
        let depends_on = chain.iter().flat_map(ChainedToken::depends_on).collect();
        let caller = Caller::Token {
            id: token.id,
            project_id: token.project_id,
            project_status: token.project_status,
            scopes,
            created_at: token.created_at,
            expires_at,
            bounds,
        };
        Ok((version, LoadedCredential::new(caller, Some(expires_at), depends_on)))
    }
}

impl LoadedCredential {
    fn new(caller: Caller, valid_until: Option<Timestamp>, depends_on: Vec<Subject>) -> Self {
        Self { credential: AuthenticatedCredential { caller: Arc::new(caller), valid_until }, depends_on }
    }
}

fn earlier(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

pub(super) fn unknown_credential() -> Error {
    Error::new(Code::InvalidToken, "This credential is unknown; check that it is complete and belongs to this server")
}

fn check_active(revoked_at: Option<Timestamp>, expires_at: Option<Timestamp>, now: Timestamp) -> Result<()> {
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
fn bearer_secret(headers: &HeaderMap) -> Result<Secret> {
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
    let secret = Secret::parse(secret).ok_or_else(|| {
        Error::new(
            Code::InvalidToken,
            "This is not a CloudAPI credential: these start with sess_, sk_live_ or cap_ and end with a checksum; check that it was copied completely",
        )
    })?;
    // Whether the secret of a console session is valid, only the console learns. The others are not credentials.
    if ANY_KIND.contains(&secret.kind()) { Ok(secret) } else { Err(unknown_credential()) }
}

/// The secret of a request: that of its console session if the console makes it, otherwise that in its headers.
pub fn presented_secret(head: &Parts) -> Result<Secret> {
    match head.extensions.get() {
        Some(ConsoleRequest::Session(secret)) => Ok(secret.secret().clone()),
        Some(ConsoleRequest::Anonymous) => {
            Err(Error::new(Code::MissingCredentials, "This operation requires a session; sign in"))
        }
        None => bearer_secret(&head.headers),
    }
}
