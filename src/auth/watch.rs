//! Continuous authorization of long responses. An event stream can last for hours and must end when its credential is
//! revoked. It may continue under the same condition as a new request: a valid cache entry under a valid lease, or else
//! a new read of the database. So a credential receives nothing after its revocation was confirmed, and a valid cached
//! credential costs no database query.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::sync::Semaphore;

use super::{
    bearer::{Authenticator, CheckedCredential},
    gate::admission,
    revocation::{
        cache::Entry,
        watches::{Evidence, Watch},
    },
};
use crate::{
    auth::credentials::members,
    base::{
        error::{Error, Result},
        id::{ProjectId, UserId},
        identity::{access_policy::AccessPolicy, caller::Caller, scope::Scope, secret::SecretHash, subject::Subject},
        runtime::{clock::since_boot, request::RequestContext},
    },
};

/// A caller's right to one of several scopes in one project, checked repeatedly.
#[derive(Debug)]
pub struct AccessWatch {
    authenticator: Authenticator,
    request: Arc<RequestContext>,
    scopes: &'static [Scope],
    policy: AccessPolicy,
    project: ProjectId,
    /// Has evidence if the last check succeeded.
    watch: Watch,
}

/// Maximum number of concurrent database checks.
const MAX_CONCURRENT_CHECKS: usize = 8;
/// Maximum number of remembered results.
const MAX_RECENT: usize = 1024;

/// Recent results, for watches that wait for a permit to check the same thing. A thousand readers with one key query
/// the database a few times instead of a thousand times, with or without a cache.
#[derive(Debug)]
pub struct RecentChecks {
    permits: Semaphore,
    results: Mutex<HashMap<CheckKey, (Duration, AccessProof)>>,
}

type CheckKey = (SecretHash, ProjectId, &'static [Scope]);

impl Default for RecentChecks {
    fn default() -> Self {
        Self { permits: Semaphore::new(MAX_CONCURRENT_CHECKS), results: Mutex::default() }
    }
}

impl RecentChecks {
    /// The result of a check that began at or after `asked`, which is as good as a new check.
    fn since(&self, asked: Duration, key: &CheckKey) -> Option<AccessProof> {
        let results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        results.get(key).filter(|(began, _)| *began >= asked).map(|(_, proof)| proof.clone())
    }

    fn store(&self, key: CheckKey, began: Duration, proof: AccessProof) {
        let mut results = self.results.lock().unwrap_or_else(PoisonError::into_inner);
        if results.len() >= MAX_RECENT {
            results.clear();
        }
        // Checks can finish in a different order than they began.
        if results.get(&key).is_none_or(|(known, _)| *known < began) {
            results.insert(key, (began, proof));
        }
    }
}

/// Evidence that the caller still has the right.
#[derive(Clone, Debug)]
struct AccessProof {
    credential: CheckedCredential,
    /// A session's right also depends on its user's membership.
    membership: Option<Arc<Entry<()>>>,
}

impl AccessProof {
    /// The cache entries, if all are known.
    fn evidence(&self) -> Option<Evidence> {
        let needs_membership = matches!(*self.credential.caller, Caller::Session { .. });
        let evidence = Evidence { credential: self.credential.entry.clone()?, membership: self.membership.clone() };
        (!needs_membership || evidence.membership.is_some()).then_some(evidence)
    }
}

impl AccessWatch {
    /// A watch of the caller of `request`, who was admitted to `project` under `policy`. Not checked yet.
    pub(super) fn new(
        authenticator: &Authenticator,
        request: &Arc<RequestContext>,
        (scopes, policy): (&'static [Scope], AccessPolicy),
        project: ProjectId,
    ) -> Self {
        Self {
            authenticator: authenticator.clone(),
            request: Arc::clone(request),
            scopes,
            policy,
            project,
            watch: authenticator.node.watches.register(),
        }
    }

    /// Returns when the caller may have lost the right since the last call.
    pub async fn invalidated(&self) {
        self.watch.notified().await;
    }

    /// Whether the caller certainly still has the right, without a database query. Always false without a cache.
    pub fn is_valid(&self) -> bool {
        let Authenticator { node, clock, .. } = &self.authenticator;
        let Some(guard) = node.lease_guard() else { return false };
        self.watch
            .has_evidence(|evidence| evidence.is_valid(&guard) && evidence.is_unexpired(clock.now_non_decreasing()))
    }

    /// Checks the caller as if the request came in now, and rejects it with the same error.
    pub async fn check(&mut self) -> Result<()> {
        self.watch.set(None);
        let asked = since_boot();
        let secret = self.request.secret.get().ok_or_else(|| Error::internal("a watched request has no secret"))?;
        let key = (secret.hash(), self.project, self.scopes);
        let recent = Arc::clone(&self.authenticator.recent_checks);
        // The semaphore is never closed, and extra permits would do no harm.
        let _permit = recent.permits.acquire().await;
        if let Some(proof) = recent.since(asked, &key) {
            admission::admit(&proof.credential.caller, self.policy, "", self.request.client)?;
            self.watch.set(proof.evidence());
            return Ok(());
        }
        let began = since_boot();
        let credential = self.authenticator.authenticate_watched(secret).await?;
        admission::admit(&credential.caller, self.policy, "", self.request.client)?;
        let membership = match *credential.caller {
            Caller::Session { user_id, .. } => self.check_membership(user_id).await?,
            Caller::Key { .. } | Caller::Token { .. } => None,
        };
        let proof = AccessProof { credential, membership };
        self.watch.set(proof.evidence());
        recent.store(key, began, proof);
        Ok(())
    }

    async fn check_membership(&self, user: UserId) -> Result<Option<Arc<Entry<()>>>> {
        let node = &self.authenticator.node;
        let project = self.project;
        let (version, membership) =
            node.read_verified(move |db| members::membership_of(db, project, user).boxed()).await?;
        let membership = membership.ok_or_else(Error::not_found)?;
        if !membership.role.scopes().contains_any(self.scopes) {
            return Err(Error::insufficient_scope(self.scopes));
        }
        let subjects = [Subject::Member(self.project, user), Subject::Project(self.project)];
        Ok(node.credentials.as_ref().and_then(|credentials| credentials.entry(version, (), &subjects)))
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::{
        auth::revocation::{
            cache::AuthenticatedCredential,
            lease::{Follower, LogPage, Timing},
            node::Node,
        },
        base::{
            id::KeyId,
            identity::{
                access_policy::{ANY_KIND, SelfAccess},
                caller::Bounds,
                scope::ScopeSet,
                tenant::ProjectStatus,
            },
            runtime::clock::{Clock, Timestamp},
        },
        db::{ServerId, Stamp},
    };

    const KEY: KeyId = KeyId::from_u128(1);
    const PROJECT: ProjectId = ProjectId::from_u128(2);
    const USER: UserId = UserId::from_u128(3);
    const EVENTS: &[Scope] = &[Scope::EventsRead];

    /// A node with a lease and without a database.
    fn node() -> Arc<Node> {
        let db = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
        let node = Node::new(db.into(), true);
        let credentials = node.credentials.as_ref().unwrap();
        // Long enough not to expire if a test is slow.
        let mut follower = Follower::new(Timing { lease: Duration::from_secs(3600), ..Timing::DEFAULT });
        follower.next(credentials.lease(), since_boot());
        let server: ServerId = "a".to_owned().into();
        follower.on_registered(server.clone());
        follower.on_clock_read(credentials.lease(), Stamp { server: server.clone(), seq: 7 });
        follower.next(credentials.lease(), since_boot());
        let page = LogPage { server, clock: 7, invalidations: Vec::new() };
        follower.on_log_read(credentials.lease(), &page, |_, _| {});
        follower.on_acknowledged(credentials.lease(), true, since_boot());
        node
    }

    /// A proof that depends on a key and on a membership.
    fn proof(node: &Node, valid_until: Option<Timestamp>) -> AccessProof {
        let credentials = node.credentials.as_ref().unwrap();
        let version = credentials.lease().read_version().unwrap();
        let caller = Arc::new(Caller::Key {
            id: KEY,
            project_id: PROJECT,
            project_status: ProjectStatus::Active,
            scopes: ScopeSet::all(),
            created_at: Timestamp::EARLIEST,
            expires_at: None,
            bounds: Bounds::default(),
        });
        let credential = AuthenticatedCredential { caller: Arc::clone(&caller), valid_until };
        let entry = credentials.entry(version, credential, &[Subject::Key(KEY), Subject::Project(PROJECT)]);
        let membership = credentials.entry(version, (), &[Subject::Member(PROJECT, USER)]);
        AccessProof { credential: CheckedCredential { caller, entry }, membership }
    }

    /// A watch that was just checked.
    fn checked_watch(node: &Arc<Node>, clock: &Clock, valid_until: Option<Timestamp>) -> AccessWatch {
        let policy =
            AccessPolicy::Scoped { scopes: EVENTS, kinds: ANY_KIND, self_access: SelfAccess::Standard, owner: false };
        let authenticator = Authenticator::new(Arc::clone(node), clock.clone());
        let request = Arc::new(RequestContext::new(None, None));
        let watch = AccessWatch::new(&authenticator, &request, (EVENTS, policy), PROJECT);
        watch.watch.set(proof(node, valid_until).evidence());
        watch
    }

    fn is_notified(watch: &AccessWatch) -> bool {
        watch.invalidated().now_or_never().is_some()
    }

    #[tokio::test]
    async fn right_is_valid_until_something_it_depends_on_is_invalidated() {
        for subject in [Subject::Key(KEY), Subject::Project(PROJECT), Subject::Member(PROJECT, USER)] {
            let (node, clock) = (node(), Clock::system());
            let watch = checked_watch(&node, &clock, None);
            assert!(watch.is_valid());
            node.credentials.as_ref().unwrap().invalidate(Subject::User(USER), 8);
            node.notify_invalidation();
            assert!(watch.is_valid() && !is_notified(&watch), "a different user was invalidated");
            // Immediately, before any notification.
            node.credentials.as_ref().unwrap().invalidate(subject, 9);
            assert!(!watch.is_valid(), "{subject}");
            node.notify_invalidation();
            assert!(is_notified(&watch), "{subject}");
        }
    }

    #[tokio::test]
    async fn watch_is_notified_of_expiry_of_a_lost_lease_and_while_it_has_no_proof() {
        let (node, clock) = (node(), Clock::system());
        let watch = checked_watch(&node, &clock, Some(clock.now().plus(Duration::from_secs(60))));
        node.notify_expiry(clock.now());
        assert!(!is_notified(&watch));
        node.notify_expiry(clock.now().plus(Duration::from_secs(61)));
        assert!(is_notified(&watch));
        let watch = checked_watch(&node, &clock, None);
        watch.watch.set(None);
        node.notify_expiry(clock.now());
        assert!(is_notified(&watch));
        let watch = checked_watch(&node, &clock, None);
        node.credentials.as_ref().unwrap().lease().release();
        node.notify_expiry(clock.now());
        assert!(is_notified(&watch));
    }

    #[tokio::test]
    async fn right_requires_a_lease_an_unexpired_credential_and_a_check() {
        let (node, clock) = (node(), Clock::system());
        let watch = checked_watch(&node, &clock, Some(clock.now().plus(Duration::from_secs(60))));
        assert!(watch.is_valid());
        clock.advance(Duration::from_secs(61));
        assert!(!watch.is_valid());
        let watch = checked_watch(&node, &clock, None);
        assert!(watch.is_valid());
        node.credentials.as_ref().unwrap().lease().release();
        assert!(!watch.is_valid());
        watch.watch.set(None);
        assert!(!watch.is_valid());
    }

    #[tokio::test]
    async fn result_of_another_check_counts_only_if_it_began_after_the_request() {
        let proof = proof(&node(), None);
        let key = (
            crate::base::identity::secret::Secret::generate(crate::base::identity::secret::SecretKind::Key).hash(),
            PROJECT,
            EVENTS,
        );
        let all = RecentChecks::default();
        let at = Duration::from_secs;
        assert!(all.since(at(0), &key).is_none());
        all.store(key.clone(), at(5), proof.clone());
        assert!(all.since(at(5), &key).is_some() && all.since(at(6), &key).is_none());
        // A check that began earlier and ended later is not newer.
        all.store(key.clone(), at(4), proof);
        assert!(all.since(at(5), &key).is_some());
    }
}
