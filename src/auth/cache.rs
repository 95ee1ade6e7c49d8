//! What credentials may do, as the database said when it was last asked, for as long as nothing that they
//! rest on was recalled and the node's [`Lease`] is good.
//!
//! Nothing is removed when something is recalled: each thing that entries rest on has one [`Ground`], which
//! remembers when it was last recalled, and an entry is looked at together with its grounds. So a recall
//! costs one look-up, however many entries rest on it, and an entry that is put in late is as dead as one
//! that was there: there is no moment at which it could slip through.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use dashmap::DashMap;

use super::lease::{Lease, Mark, Pass, mistaken};
use crate::base::{caller::Caller, clock::Timestamp, secret::SecretHash, subject::Subject};

/// A credential as it was recognised.
#[derive(Clone, Debug)]
pub struct Recognised {
    /// Who calls with it.
    pub caller: Arc<Caller>,
    /// When it ends by itself, if it does; whether it really does then, the database is asked once more.
    pub good_until: Option<Timestamp>,
}

/// The credentials that a node has recognised, by their secrets' hashes.
pub type Credentials = Cache<SecretHash, Recognised>;

/// How many credentials are remembered at most; those that are asked about least go first.
pub const CAPACITY: usize = 250_000;

/// For how many there is room at first.
const ROOM_AT_FIRST: usize = 4096;

/// Entries by `K`, and the lease that they are good under.
#[derive(Debug)]
pub struct Cache<K: Eq + Hash, V> {
    lease: Arc<Lease>,
    entries: quick_cache::sync::Cache<K, Arc<Entry<V>>>,
    grounds: DashMap<Subject, Arc<Ground>>,
    /// Recalls up to this one may be forgotten, so what was read before it is not taken any more.
    forgotten: AtomicI64,
    /// Where the log was at the sweep before.
    swept: AtomicI64,
    /// Looks that found what they sought, and those that did not.
    hits: AtomicU64,
    misses: AtomicU64,
}

/// Something that entries rest on.
#[derive(Debug)]
struct Ground {
    /// When it was last recalled: a number of the log, 0 for never.
    recalled: AtomicI64,
}

/// What was found, and under which circumstances.
#[derive(Debug)]
pub struct Entry<V> {
    /// What the database said.
    pub value: V,
    mark: Mark,
    grounds: Box<[Arc<Ground>]>,
}

impl<V> Entry<V> {
    /// Whether nothing that it rests on was recalled since it was read. To be asked with a pass that is fresh.
    pub fn is_good(&self, pass: &Pass) -> bool {
        self.mark.epoch == pass.epoch
            && self.grounds.iter().all(|ground| ground.recalled.load(Ordering::Acquire) <= self.mark.applied)
    }
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// An empty one, for at most so many entries, that is good under `lease`.
    pub fn new(capacity: usize, lease: Arc<Lease>) -> Self {
        Self {
            lease,
            // Sized for few, because room for all that it may hold would be taken at once; it grows.
            entries: quick_cache::sync::Cache::with_weighter(
                capacity.min(ROOM_AT_FIRST),
                capacity as u64,
                quick_cache::UnitWeighter,
            ),
            grounds: DashMap::new(),
            forgotten: AtomicI64::new(0),
            swept: AtomicI64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// What is remembered under `key`, if that is still good.
    pub fn find(&self, pass: &Pass, key: &K) -> Option<Arc<Entry<V>>> {
        let found = self.entries.get(key).filter(|entry| entry.is_good(pass));
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Remembers what the database has said after `mark` was taken; it rests on `subjects`. Gives what is remembered.
    pub fn fill(&self, mark: Mark, key: K, value: V, subjects: &[Subject]) -> Option<Arc<Entry<V>>> {
        let entry = self.entry(mark, value, subjects)?;
        self.entries.insert(key, Arc::clone(&entry));
        Some(entry)
    }

    /// As [`Cache::fill`], for whoever keeps it themselves: something else that the database has said.
    pub fn entry<T>(&self, mark: Mark, value: T, subjects: &[Subject]) -> Option<Arc<Entry<T>>> {
        let mark = self.mark_with_mistakes(mark);
        let alone = if mistaken!(self.lease, TombstoneOnCredentialAlone) { 1 } else { subjects.len() };
        let grounds = subjects.iter().take(alone).map(|subject| self.ground(*subject)).collect();
        // Looked at after the grounds are held, so that none of them is forgotten between this and that.
        let is_late = mark.applied < self.forgotten.load(Ordering::Acquire);
        (!is_late).then(|| Arc::new(Entry { value, mark, grounds }))
    }

    fn mark_with_mistakes(&self, mark: Mark) -> Mark {
        let now = || self.lease.mark().unwrap_or(mark);
        if mistaken!(self.lease, FillWithoutTombstones) {
            return Mark { applied: now().applied, ..mark };
        }
        if mistaken!(self.lease, FillAcrossEpochs) {
            return Mark { epoch: now().epoch, ..mark };
        }
        mark
    }

    /// Whatever rests on `subject` and was read before recall number `seq` is good no more.
    pub fn recall(&self, subject: Subject, seq: i64) {
        self.ground(subject).recalled.fetch_max(seq, Ordering::AcqRel);
    }

    fn ground(&self, subject: Subject) -> Arc<Ground> {
        if let Some(known) = self.grounds.get(&subject) {
            return Arc::clone(&known);
        }
        let new = || Arc::new(Ground { recalled: AtomicI64::new(0) });
        Arc::clone(&self.grounds.entry(subject).or_insert_with(new))
    }

    /// Forgets grounds that nothing rests on and whose recall is older than the sweep before. To be called
    /// now and then; what was under way since the call before is not taken.
    pub fn sweep(&self) {
        let Some(applied) = self.lease.applied() else { return };
        let old = self.swept.swap(applied, Ordering::AcqRel);
        self.forgotten.fetch_max(old, Ordering::AcqRel);
        self.grounds.retain(|_, ground| {
            // Nobody can get hold of it meanwhile: this part of the map is locked.
            Arc::strong_count(ground) > 1 || ground.recalled.load(Ordering::Acquire) > old
        });
        self.grounds.shrink_to_fit();
    }

    /// Looks that found what they sought, looks that did not, and entries.
    pub fn figures(&self) -> (u64, u64, usize) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed), self.entries.len())
    }
}

#[cfg(test)]
impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// One that makes a known mistake.
    pub(super) fn mistaken(mistake: Option<super::simulator::Mistake>) -> Self {
        Self::new(100, Arc::new(Lease::mistaken(mistake)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        auth::lease::{Follower, LogPage, Step, Timing},
        base::id::{KeyId, ProjectId},
        db::{ServerId, Stamp},
    };

    const KEY: Subject = Subject::Key(KeyId::from_u128(1));
    const PROJECT: Subject = Subject::Project(ProjectId::from_u128(2));

    fn server() -> ServerId {
        "a".to_owned().into()
    }

    fn with_lease() -> (Cache<u8, &'static str>, Follower) {
        let cache = Cache::new(10, Arc::default());
        let mut follower = Follower::new(Timing::USUAL);
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), Step::Register);
        assert_eq!(cache.lease().mark(), None, "nothing is taken before the node is known to others");
        follower.registered(server());
        follower.began(cache.lease(), Stamp { server: server(), seq: 7 });
        renew(&cache, &mut follower, 7, &[]);
        (cache, follower)
    }

    fn renew(cache: &Cache<u8, &'static str>, follower: &mut Follower, clock: i64, recalls: &[(i64, Subject)]) {
        follower.woken();
        assert!(matches!(follower.next(cache.lease(), Duration::ZERO), Step::ReadLog { .. }));
        let page = LogPage { server: server(), clock, recalls: recalls.to_vec() };
        follower.read(cache.lease(), &page, |subject, seq| cache.recall(subject, seq));
        follower.acknowledged(cache.lease(), true, Duration::ZERO);
    }

    fn find(cache: &Cache<u8, &'static str>) -> Option<&'static str> {
        let pass = cache.lease().pass(Duration::from_secs(1))?;
        cache.find(&pass, &1).map(|entry| entry.value)
    }

    #[test]
    fn an_entry_is_good_until_something_that_it_rests_on_is_recalled() {
        let (cache, mut follower) = with_lease();
        cache.fill(cache.lease().mark().unwrap(), 1, "a", &[KEY, PROJECT]);
        assert_eq!(find(&cache), Some("a"));
        renew(&cache, &mut follower, 8, &[(8, PROJECT)]);
        assert_eq!(find(&cache), None);
        cache.fill(cache.lease().mark().unwrap(), 1, "b", &[KEY, PROJECT]);
        assert_eq!(find(&cache), Some("b"));
    }

    #[test]
    fn what_was_read_before_a_recall_is_good_for_nothing_after_it() {
        let (cache, mut follower) = with_lease();
        let mark = cache.lease().mark().unwrap();
        renew(&cache, &mut follower, 8, &[(8, KEY)]);
        cache.fill(mark, 1, "a", &[KEY, PROJECT]);
        assert_eq!(find(&cache), None);
    }

    #[test]
    fn it_holds_as_many_as_it_may_and_no_more() {
        let cache: Cache<usize, ()> = Cache::new(20_000, Arc::default());
        let mark = Mark { epoch: 0, applied: 0 };
        for key in 0..15_000 {
            cache.fill(mark, key, (), &[KEY]);
        }
        assert_eq!(cache.figures().2, 15_000);
        for key in 15_000..60_000 {
            cache.fill(mark, key, (), &[KEY]);
        }
        let held = cache.figures().2;
        assert!((15_000..=20_000).contains(&held), "{held}");
    }

    #[test]
    fn the_lease_ends_by_itself() {
        let (cache, _) = with_lease();
        cache.fill(cache.lease().mark().unwrap(), 1, "a", &[KEY]);
        assert!(cache.lease().pass(Duration::from_millis(2999)).is_some());
        assert!(cache.lease().pass(Duration::from_millis(3000)).is_none());
    }

    #[test]
    fn a_gap_in_the_log_begins_a_new_epoch() {
        let (cache, mut follower) = with_lease();
        cache.fill(cache.lease().mark().unwrap(), 1, "a", &[KEY]);
        let old = cache.lease().mark().unwrap();
        follower.woken();
        follower.next(cache.lease(), Duration::ZERO);
        let page = LogPage { server: server(), clock: 9, recalls: vec![(9, PROJECT)] };
        follower.read(cache.lease(), &page, |_, _| panic!("nothing of it is to be used"));
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), Step::Register);
        follower.registered(server());
        follower.began(cache.lease(), Stamp { server: server(), seq: 9 });
        renew(&cache, &mut follower, 9, &[]);
        assert_eq!(find(&cache), None);
        cache.fill(old, 1, "a", &[KEY]);
        assert_eq!(find(&cache), None, "what was under way belongs to the old epoch");
    }

    #[test]
    fn a_read_counts_only_with_a_lease_on_its_server_and_with_all_that_was_applied() {
        let (cache, mut follower) = with_lease();
        let (second, stamp) =
            (Duration::from_secs(1), |server: &str, seq| Stamp { server: server.to_owned().into(), seq });
        let version = cache.lease().read_version(second).unwrap();
        assert!(version.admits(&stamp("a", 7)) && version.admits(&stamp("a", 8)));
        assert!(!version.admits(&stamp("a", 6)), "a snapshot that is behind");
        assert!(!version.admits(&stamp("b", 7)), "another server");
        assert_eq!(cache.lease().read_version(Duration::from_secs(3)), None, "without a lease");
        renew(&cache, &mut follower, 8, &[(8, KEY)]);
        assert!(!cache.lease().read_version(second).unwrap().admits(&stamp("a", 7)));
    }

    #[test]
    fn a_heartbeat_that_reaches_another_server_begins_a_new_epoch_before_anything_is_acknowledged_there() {
        let (cache, mut follower) = with_lease();
        cache.fill(cache.lease().mark().unwrap(), 1, "a", &[KEY]);
        follower.woken();
        follower.next(cache.lease(), Duration::ZERO);
        let page = LogPage { server: "b".to_owned().into(), clock: 7, recalls: Vec::new() };
        follower.read(cache.lease(), &page, |_, _| {});
        assert_eq!(find(&cache), None);
        assert_eq!((cache.lease().read_version(Duration::ZERO), cache.lease().mark()), (None, None));
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), Step::Register);
        // Registered there, and the clock read elsewhere.
        follower.registered("b".to_owned().into());
        follower.began(cache.lease(), Stamp { server: server(), seq: 7 });
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), Step::Register);
    }

    #[test]
    fn sweeping_forgets_what_nothing_rests_on_and_takes_nothing_older() {
        let (cache, mut follower) = with_lease();
        let old = cache.lease().mark().unwrap();
        renew(&cache, &mut follower, 8, &[(8, KEY)]);
        cache.sweep();
        assert_eq!(cache.grounds.len(), 1);
        cache.fill(cache.lease().mark().unwrap(), 1, "a", &[KEY, PROJECT]);
        cache.entries.clear();
        cache.sweep();
        assert_eq!(cache.grounds.len(), 0);
        cache.fill(old, 1, "a", &[KEY, PROJECT]);
        assert_eq!(find(&cache), None);
        cache.fill(cache.lease().mark().unwrap(), 1, "b", &[KEY, PROJECT]);
        assert_eq!(find(&cache), Some("b"));
    }
}
