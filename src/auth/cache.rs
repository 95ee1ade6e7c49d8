//! The credential cache: permissions of credentials as last read from the database. An entry is valid while the node's
//! [`Lease`] is valid and nothing that the entry depends on was invalidated.
//!
//! An invalidation removes no entries. Each subject that entries depend on has one [`Ground`], which records when the
//! subject was last invalidated, and every lookup checks an entry together with its grounds. An invalidation is therefore
//! one map operation, however many entries depend on the subject, and an entry that is inserted late is as invalid as
//! one that was there before: there is no race between the two.

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

/// An authenticated credential.
#[derive(Clone, Debug)]
pub struct Recognised {
    /// Caller of the credential.
    pub caller: Arc<Caller>,
    /// Expiration time, if it has one. After this time, the database decides whether the credential has expired.
    pub good_until: Option<Timestamp>,
}

/// The credentials that a node has authenticated, by hash of the secret.
pub type Credentials = Cache<SecretHash, Recognised>;

/// Maximum number of cached credentials. The least recently used ones are evicted.
pub const CAPACITY: usize = 250_000;

/// Initial capacity.
const ROOM_AT_FIRST: usize = 4096;

/// Cache of entries by `K`, valid under a lease.
#[derive(Debug)]
pub struct Cache<K: Eq + Hash, V> {
    lease: Arc<Lease>,
    entries: quick_cache::sync::Cache<K, Arc<Entry<V>>>,
    grounds: DashMap<Subject, Arc<Ground>>,
    /// Invalidations up to this number may have been pruned, so results that were read before it are not inserted.
    forgotten: AtomicI64,
    /// Log number at the previous sweep.
    swept: AtomicI64,
    /// Lookups with and without a result.
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A subject that entries depend on.
#[derive(Debug)]
struct Ground {
    /// Log number of its last invalidation, 0 if there was none.
    recalled: AtomicI64,
}

/// A cached result, with the circumstances under which it was read.
#[derive(Debug)]
pub struct Entry<V> {
    /// The value read from the database.
    pub value: V,
    mark: Mark,
    grounds: Box<[Arc<Ground>]>,
}

impl<V> Entry<V> {
    /// Whether nothing that the entry depends on was invalidated since it was read. Requires a fresh pass.
    pub fn is_good(&self, pass: &Pass) -> bool {
        self.mark.epoch == pass.epoch
            && self.grounds.iter().all(|ground| ground.recalled.load(Ordering::Acquire) <= self.mark.applied)
    }
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// An empty cache of at most `capacity` entries, valid under `lease`.
    pub fn new(capacity: usize, lease: Arc<Lease>) -> Self {
        Self {
            lease,
            // Starts small and grows: the full capacity would be allocated immediately.
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

    /// The valid entry of `key`, if there is one.
    pub fn find(&self, pass: &Pass, key: &K) -> Option<Arc<Entry<V>>> {
        let found = self.entries.get(key).filter(|entry| entry.is_good(pass));
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Inserts a value that was read after `mark` was taken and that depends on `subjects`. Returns the entry.
    pub fn fill(&self, mark: Mark, key: K, value: V, subjects: &[Subject]) -> Option<Arc<Entry<V>>> {
        let entry = self.entry(mark, value, subjects)?;
        self.entries.insert(key, Arc::clone(&entry));
        Some(entry)
    }

    /// Like [`Cache::fill`], for a value of another type that the caller stores.
    pub fn entry<T>(&self, mark: Mark, value: T, subjects: &[Subject]) -> Option<Arc<Entry<T>>> {
        let mark = self.mark_with_mistakes(mark);
        let alone = if mistaken!(self.lease, TombstoneOnCredentialAlone) { 1 } else { subjects.len() };
        let grounds = subjects.iter().take(alone).map(|subject| self.ground(*subject)).collect();
        // Checked while the grounds are held, so that none of them can be pruned in between.
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

    /// Invalidates entries that depend on `subject` and were read before log number `seq`.
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

    /// Prunes grounds without dependent entries whose last invalidation is older than the previous sweep. Must be called
    /// periodically. Results of reads that began before the previous call are not inserted.
    pub fn sweep(&self) {
        let Some(applied) = self.lease.applied() else { return };
        let old = self.swept.swap(applied, Ordering::AcqRel);
        self.forgotten.fetch_max(old, Ordering::AcqRel);
        self.grounds.retain(|_, ground| {
            // No other thread can clone the ground meanwhile, because this shard of the map is locked.
            Arc::strong_count(ground) > 1 || ground.recalled.load(Ordering::Acquire) > old
        });
        self.grounds.shrink_to_fit();
    }

    /// Numbers of hits, misses and entries.
    pub fn figures(&self) -> (u64, u64, usize) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed), self.entries.len())
    }
}

#[cfg(test)]
impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// A cache with a deliberate protocol error.
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
        assert_eq!(cache.lease().mark(), None, "nothing is inserted before the node is registered");
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
    fn entry_is_valid_until_something_it_depends_on_is_invalidated() {
        let (cache, mut follower) = with_lease();
        cache.fill(cache.lease().mark().unwrap(), 1, "a", &[KEY, PROJECT]);
        assert_eq!(find(&cache), Some("a"));
        renew(&cache, &mut follower, 8, &[(8, PROJECT)]);
        assert_eq!(find(&cache), None);
        cache.fill(cache.lease().mark().unwrap(), 1, "b", &[KEY, PROJECT]);
        assert_eq!(find(&cache), Some("b"));
    }

    #[test]
    fn value_read_before_an_invalidation_is_invalid_after_it() {
        let (cache, mut follower) = with_lease();
        let mark = cache.lease().mark().unwrap();
        renew(&cache, &mut follower, 8, &[(8, KEY)]);
        cache.fill(mark, 1, "a", &[KEY, PROJECT]);
        assert_eq!(find(&cache), None);
    }

    #[test]
    fn cache_grows_to_its_capacity_and_not_beyond() {
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
    fn lease_expires() {
        let (cache, _) = with_lease();
        cache.fill(cache.lease().mark().unwrap(), 1, "a", &[KEY]);
        assert!(cache.lease().pass(Duration::from_millis(2999)).is_some());
        assert!(cache.lease().pass(Duration::from_millis(3000)).is_none());
    }

    #[test]
    fn gap_in_the_log_begins_a_new_epoch() {
        let (cache, mut follower) = with_lease();
        cache.fill(cache.lease().mark().unwrap(), 1, "a", &[KEY]);
        let old = cache.lease().mark().unwrap();
        follower.woken();
        follower.next(cache.lease(), Duration::ZERO);
        let page = LogPage { server: server(), clock: 9, recalls: vec![(9, PROJECT)] };
        follower.read(cache.lease(), &page, |_, _| panic!("a page with a gap must not be applied"));
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), Step::Register);
        follower.registered(server());
        follower.began(cache.lease(), Stamp { server: server(), seq: 9 });
        renew(&cache, &mut follower, 9, &[]);
        assert_eq!(find(&cache), None);
        cache.fill(old, 1, "a", &[KEY]);
        assert_eq!(find(&cache), None, "a read in progress belongs to the old epoch");
    }

    #[test]
    fn read_counts_only_with_a_lease_on_its_server_and_everything_applied() {
        let (cache, mut follower) = with_lease();
        let (second, stamp) =
            (Duration::from_secs(1), |server: &str, seq| Stamp { server: server.to_owned().into(), seq });
        let version = cache.lease().read_version(second).unwrap();
        assert!(version.admits(&stamp("a", 7)) && version.admits(&stamp("a", 8)));
        assert!(!version.admits(&stamp("a", 6)), "an older snapshot");
        assert!(!version.admits(&stamp("b", 7)), "another server");
        assert_eq!(cache.lease().read_version(Duration::from_secs(3)), None, "without a lease");
        renew(&cache, &mut follower, 8, &[(8, KEY)]);
        assert!(!cache.lease().read_version(second).unwrap().admits(&stamp("a", 7)));
    }

    #[test]
    fn heartbeat_on_another_server_begins_a_new_epoch_before_any_acknowledgment_there() {
        let (cache, mut follower) = with_lease();
        cache.fill(cache.lease().mark().unwrap(), 1, "a", &[KEY]);
        follower.woken();
        follower.next(cache.lease(), Duration::ZERO);
        let page = LogPage { server: "b".to_owned().into(), clock: 7, recalls: Vec::new() };
        follower.read(cache.lease(), &page, |_, _| {});
        assert_eq!(find(&cache), None);
        assert_eq!((cache.lease().read_version(Duration::ZERO), cache.lease().mark()), (None, None));
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), Step::Register);
        // The node registers on one server, and the clock is read on another.
        follower.registered("b".to_owned().into());
        follower.began(cache.lease(), Stamp { server: server(), seq: 7 });
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), Step::Register);
    }

    #[test]
    fn sweep_prunes_unused_grounds_and_older_reads_are_not_inserted() {
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
