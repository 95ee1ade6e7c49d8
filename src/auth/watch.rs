//! Continuous authorization of long responses. An event stream can last for hours and must end when its credential is
//! revoked. It may continue under the same condition as a new request: a valid cache entry under a valid lease, or else a
//! new read of the database. So a credential receives nothing after its revocation was confirmed, and a valid cached
//! credential costs no database query.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use tokio::sync::{Semaphore, watch};

use super::{
    admission,
    bearer::{Authenticator, Seen},
    cache::Entry,
};
use crate::{
    base::{
        caller::Caller,
        clock::since_boot,
        error::{Error, Result},
        id::{ProjectId, UserId},
        need::Need,
        request::RequestContext,
        scope::Scope,
        secret::SecretHash,
        subject::Subject,
    },
    users,
};

/// A caller's right to one of several scopes in one project, checked repeatedly.
#[derive(Debug)]
pub struct Watch {
    authenticator: Authenticator,
    request: Arc<RequestContext>,
    scopes: &'static [Scope],
    need: Need,
    project: ProjectId,
    proof: Option<Proof>,
    recalls: watch::Receiver<u64>,
}

/// Maximum number of concurrent database checks.
const TURNS: usize = 8;
/// Maximum number of remembered results.
const REMEMBERED: usize = 1024;

/// Recent results, for watches that wait for a permit to check the same thing. A thousand readers with one key query the
/// database a few times instead of a thousand times, with or without a cache.
#[derive(Debug)]
pub struct Judged {
    turns: Semaphore,
    lately: Mutex<HashMap<About, (Duration, Proof)>>,
}

type About = (SecretHash, ProjectId, &'static [Scope]);

impl Default for Judged {
    fn default() -> Self {
        Self { turns: Semaphore::new(TURNS), lately: Mutex::default() }
    }
}

impl Judged {
    /// The result of a check that began at or after `asked`, which is as good as a new check.
    fn since(&self, asked: Duration, about: &About) -> Option<Proof> {
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.get(about).filter(|(began, _)| *began >= asked).map(|(_, proof)| proof.clone())
    }

    fn remember(&self, about: About, began: Duration, proof: Proof) {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= REMEMBERED {
            lately.clear();
        }
        // Checks can finish in a different order than they began.
        if lately.get(&about).is_none_or(|(known, _)| *known < began) {
            lately.insert(about, (began, proof));
        }
    }
}

/// Evidence that the caller still has the right.
#[derive(Clone, Debug)]
struct Proof {
    seen: Seen,
    /// A session's right also depends on its user's membership.
    membership: Option<Arc<Entry<()>>>,
}

impl Watch {
    /// A watch of the caller of `request`, who was admitted to `project` under `need`. Not checked yet.
    pub(super) fn new(
        authenticator: &Authenticator,
        request: &Arc<RequestContext>,
        (scopes, need): (&'static [Scope], Need),
        project: ProjectId,
    ) -> Self {
        Self {
            authenticator: authenticator.clone(),
            request: Arc::clone(request),
            scopes,
            need,
            project,
            proof: None,
            recalls: authenticator.node.recalls(),
        }
    }

    /// Returns when there was an invalidation since the last call, of this caller or another one.
    pub async fn recalled(&mut self) {
        if self.recalls.changed().await.is_err() {
            // The node is gone, so there can be no further invalidation.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the caller certainly still has the right, without a database query. Always false without a cache.
    pub fn holds(&self) -> bool {
        let Authenticator { node, clock, .. } = &self.authenticator;
        let (Some(credentials), Some(proof)) = (&node.credentials, &self.proof) else { return false };
        // The pass is taken before the entries are checked; see `lease`.
        let Some(pass) = credentials.lease().pass(since_boot()) else { return false };
        proof
            .seen
            .entry
            .as_ref()
            .is_some_and(|entry| entry.is_good(&pass) && entry.value.good_until.is_none_or(|end| clock.forward() < end))
            && proof.membership.as_ref().is_none_or(|entry| entry.is_good(&pass))
    }

    /// Whether every check needs a database query, because there is no cache.
    pub fn is_blind(&self) -> bool {
        self.authenticator.node.credentials.is_none()
    }

    /// Checks the caller as if the request came in now, and rejects it with the same error.
    pub async fn judge(&mut self) -> Result<()> {
        self.proof = None;
        let asked = since_boot();
        let secret = self.request.secret.get().ok_or_else(|| Error::internal("a watched request has no secret"))?;
        let about = (secret.hash(), self.project, self.scopes);
        let judged = Arc::clone(&self.authenticator.judged);
        // The semaphore is never closed, and extra permits would do no harm.
        let _turn = judged.turns.acquire().await;
        if let Some(proof) = judged.since(asked, &about) {
            admission::admit(&proof.seen.caller, self.need, "", self.request.client)?;
            self.proof = Some(proof);
            return Ok(());
        }
        let began = since_boot();
        let seen = self.authenticator.see(secret).await?;
        admission::admit(&seen.caller, self.need, "", self.request.client)?;
        let membership = match *seen.caller {
            Caller::Session { user_id, .. } => self.judge_member(user_id).await?,
            Caller::Key { .. } | Caller::Token { .. } => None,
        };
        let proof = Proof { seen, membership };
        judged.remember(about, began, proof.clone());
        self.proof = Some(proof);
        Ok(())
    }

    async fn judge_member(&self, user: UserId) -> Result<Option<Arc<Entry<()>>>> {
        let node = &self.authenticator.node;
        let project = self.project;
        let (mark, membership) = node.verified(move |db| users::repo::membership_of(db, project, user).boxed()).await?;
        let membership = membership.ok_or_else(Error::not_found)?;
        if !membership.role.scopes().contains_any(self.scopes) {
            return Err(Error::insufficient_scope(self.scopes));
        }
        let grounds = [Subject::Member(self.project, user), Subject::Project(self.project)];
        Ok(node.credentials.as_ref().and_then(|credentials| credentials.entry(mark, (), &grounds)))
    }
}

#[cfg(test)]
mod tests {
    use sqlx::postgres::PgPoolOptions;

    use super::*;
    use crate::{
        auth::{
            cache::Recognised,
            lease::{Follower, LogPage, Timing},
            node::Node,
        },
        base::{
            caller::Bounds,
            clock::{Clock, Timestamp},
            id::KeyId,
            need::{ANY_KIND, Itself},
            scope::ScopeSet,
            tenant::ProjectStatus,
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
        let mut follower = Follower::new(Timing { lease: Duration::from_secs(3600), ..Timing::USUAL });
        follower.next(credentials.lease(), since_boot());
        let server: ServerId = "a".to_owned().into();
        follower.registered(server.clone());
        follower.began(credentials.lease(), Stamp { server: server.clone(), seq: 7 });
        follower.next(credentials.lease(), since_boot());
        let page = LogPage { server, clock: 7, recalls: Vec::new() };
        follower.read(credentials.lease(), &page, |_, _| {});
        follower.acknowledged(credentials.lease(), true, since_boot());
        node
    }

    /// A watch that was just checked and that depends on a key and on a membership.
    fn judged(node: &Arc<Node>, clock: &Clock, good_until: Option<Timestamp>) -> Watch {
        let credentials = node.credentials.as_ref().unwrap();
        let mark = credentials.lease().mark().unwrap();
        let caller = Arc::new(Caller::Key {
            id: KEY,
            project_id: PROJECT,
            project_status: ProjectStatus::Active,
            scopes: ScopeSet::all(),
            created_at: Timestamp::EARLIEST,
            expires_at: None,
            bounds: Bounds::default(),
        });
        let recognised = Recognised { caller: Arc::clone(&caller), good_until };
        let entry = credentials.entry(mark, recognised, &[Subject::Key(KEY), Subject::Project(PROJECT)]);
        let membership = credentials.entry(mark, (), &[Subject::Member(PROJECT, USER)]);
        let need = Need::Scoped { scopes: EVENTS, kinds: ANY_KIND, itself: Itself::AsOthers, owner: false };
        let authenticator = Authenticator::new(Arc::clone(node), clock.clone());
        let request = Arc::new(RequestContext::new(None, None));
        let mut watch = Watch::new(&authenticator, &request, (EVENTS, need), PROJECT);
        watch.proof = Some(Proof { seen: Seen { caller, entry }, membership });
        watch
    }

    #[tokio::test]
    async fn right_is_valid_until_something_it_depends_on_is_invalidated() {
        for subject in [Subject::Key(KEY), Subject::Project(PROJECT), Subject::Member(PROJECT, USER)] {
            let (node, clock) = (node(), Clock::system());
            let mut watch = judged(&node, &clock, None);
            assert!(watch.holds());
            node.credentials.as_ref().unwrap().recall(Subject::User(USER), 8);
            assert!(watch.holds(), "a different user was invalidated");
            // Immediately, before any notification.
            node.credentials.as_ref().unwrap().recall(subject, 9);
            assert!(!watch.holds(), "{subject}");
            node.tell_of_recall();
            watch.recalled().await;
        }
    }

    #[tokio::test]
    async fn right_requires_a_lease_an_unexpired_credential_and_a_check() {
        let (node, clock) = (node(), Clock::system());
        let mut watch = judged(&node, &clock, Some(clock.now().plus(Duration::from_secs(60))));
        assert!(watch.holds());
        clock.advance(Duration::from_secs(61));
        assert!(!watch.holds());
        watch = judged(&node, &clock, None);
        assert!(watch.holds());
        node.credentials.as_ref().unwrap().lease().give_up();
        assert!(!watch.holds());
        watch.proof = None;
        assert!(!watch.holds());
    }

    #[tokio::test]
    async fn result_of_another_check_counts_only_if_it_began_after_the_request() {
        let (node, clock) = (node(), Clock::system());
        let proof = judged(&node, &clock, None).proof.unwrap();
        let about =
            (crate::base::secret::Secret::generate(crate::base::secret::SecretKind::Key).hash(), PROJECT, EVENTS);
        let all = Judged::default();
        let at = Duration::from_secs;
        assert!(all.since(at(0), &about).is_none());
        all.remember(about.clone(), at(5), proof.clone());
        assert!(all.since(at(5), &about).is_some() && all.since(at(6), &about).is_none());
        // A check that began earlier and ended later is not newer.
        all.remember(about.clone(), at(4), proof);
        assert!(all.since(at(5), &about).is_some());
    }
}
