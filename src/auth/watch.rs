//! Whether a caller may still do what was begun, for answers that last: an event stream goes on for hours, and must
//! end when its credential does. What lets it go on is what lets a request in: an entry of the node's cache whose
//! grounds have not been recalled, while the lease is good; else the database is read anew. So nothing is given to a
//! credential whose revocation was answered, and a good one costs no look into the database.

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

/// One caller's right to one of some scopes in one project, looked at again and again.
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

/// So many ask the database at a time.
const TURNS: usize = 8;
/// How many judgements are remembered.
const REMEMBERED: usize = 1024;

/// What was judged lately, for those who wait for their turn to ask the same: a thousand readers with one key ask the
/// database a few times and not a thousand when it is to be asked, whether or not anything may be cached.
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
    /// What was found by a look that began after `asked`: as good as one's own.
    fn since(&self, asked: Duration, about: &About) -> Option<Proof> {
        let lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        lately.get(about).filter(|(began, _)| *began >= asked).map(|(_, proof)| proof.clone())
    }

    fn remember(&self, about: About, began: Duration, proof: Proof) {
        let mut lately = self.lately.lock().unwrap_or_else(PoisonError::into_inner);
        if lately.len() >= REMEMBERED {
            lately.clear();
        }
        // Looks may end in another order than they began.
        if lately.get(&about).is_none_or(|(known, _)| *known < began) {
            lately.insert(about, (began, proof));
        }
    }
}

/// What shows that the caller still has it.
#[derive(Clone, Debug)]
struct Proof {
    seen: Seen,
    /// A session's right rests on its user's membership, too.
    membership: Option<Arc<Entry<()>>>,
}

impl Watch {
    /// Of the caller of `request`, who was let into `project` by what `need` asks for. Nothing is known yet.
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

    /// Returns when something was recalled since this was last asked. It need not have been this caller's.
    pub async fn recalled(&mut self) {
        if self.recalls.changed().await.is_err() {
            // The node has gone, and with it whoever could recall something.
            std::future::pending::<()>().await;
        }
    }

    /// Whether the caller certainly still has the right, without asking the database. Never true where nothing is
    /// cached.
    pub fn holds(&self) -> bool {
        let Authenticator { node, clock, .. } = &self.authenticator;
        let (Some(credentials), Some(proof)) = (&node.credentials, &self.proof) else { return false };
        // The pass before the entries, which it opens; see `lease`.
        let Some(pass) = credentials.lease().pass(since_boot()) else { return false };
        proof
            .seen
            .entry
            .as_ref()
            .is_some_and(|entry| entry.is_good(&pass) && entry.value.good_until.is_none_or(|end| clock.forward() < end))
            && proof.membership.as_ref().is_none_or(|entry| entry.is_good(&pass))
    }

    /// Whether nothing is known of it without asking the database.
    pub fn is_blind(&self) -> bool {
        self.authenticator.node.credentials.is_none()
    }

    /// Judges the caller as if the request came in now; refuses it as the request would be refused.
    pub async fn judge(&mut self) -> Result<()> {
        self.proof = None;
        let asked = since_boot();
        let secret = self.request.secret.get().ok_or_else(|| Error::internal("a watched request shows no secret"))?;
        let about = (secret.hash(), self.project, self.scopes);
        let judged = Arc::clone(&self.authenticator.judged);
        // Never closed; and more turns than there should be would do no harm.
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

    /// A node with a lease, which asks no database.
    fn node() -> Arc<Node> {
        let db = PgPoolOptions::new().connect_lazy("postgres://nobody@127.0.0.1:1/nothing").unwrap();
        let node = Node::new(db.into(), true);
        let credentials = node.credentials.as_ref().unwrap();
        // It does not end while a test is held up.
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

    /// A watch that was judged just now, and rests on a key and on a membership.
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
    async fn a_right_holds_until_something_that_it_rests_on_is_recalled() {
        for subject in [Subject::Key(KEY), Subject::Project(PROJECT), Subject::Member(PROJECT, USER)] {
            let (node, clock) = (node(), Clock::system());
            let mut watch = judged(&node, &clock, None);
            assert!(watch.holds());
            node.credentials.as_ref().unwrap().recall(Subject::User(USER), 8);
            assert!(watch.holds(), "that is another one's");
            // At once, before anybody is told.
            node.credentials.as_ref().unwrap().recall(subject, 9);
            assert!(!watch.holds(), "{subject}");
            node.tell_of_recall();
            watch.recalled().await;
        }
    }

    #[tokio::test]
    async fn a_right_does_not_hold_without_a_lease_nor_beyond_its_end_nor_before_it_is_judged() {
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
    async fn what_others_found_counts_if_they_looked_after_one_asked_and_not_before() {
        let (node, clock) = (node(), Clock::system());
        let proof = judged(&node, &clock, None).proof.unwrap();
        let about =
            (crate::base::secret::Secret::generate(crate::base::secret::SecretKind::Key).hash(), PROJECT, EVENTS);
        let all = Judged::default();
        let at = Duration::from_secs;
        assert!(all.since(at(0), &about).is_none());
        all.remember(about.clone(), at(5), proof.clone());
        assert!(all.since(at(5), &about).is_some() && all.since(at(6), &about).is_none());
        // One that began earlier and ended later is no news.
        all.remember(about.clone(), at(4), proof);
        assert!(all.since(at(5), &about).is_some());
    }
}
