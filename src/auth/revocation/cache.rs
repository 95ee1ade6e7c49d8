//! The credential cache: permissions of credentials as last read from the database. An entry is valid while the node's
//! [`Lease`] is valid and nothing that the entry depends on was invalidated.
//!
//! An invalidation removes no entries. Each subject that entries depend on has one [`InvalidationStamp`], which records
//! when the subject was last invalidated, and every lookup checks an entry together with its stamps. An invalidation is
//! therefore one map operation, however many entries depend on the subject, and an entry that is inserted late is as
//! invalid as one that was there before: there is no race between the two.

use std::{
    hash::Hash,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
};

use dashmap::DashMap;

use super::lease::{Lease, LeaseGuard, ReadVersion, has_bug};
use crate::base::{
    identity::{caller::Caller, secret::SecretHash, subject::Subject},
    runtime::clock::Timestamp,
};

/// An authenticated credential.
#[derive(Clone, Debug)]
pub struct AuthenticatedCredential {
    /// Caller of the credential.
    pub caller: Arc<Caller>,
    /// Expiration time, if it has one. After this time, the database decides whether the credential has expired.
    pub valid_until: Option<Timestamp>,
}

/// The credentials that a node has authenticated, by hash of the secret.
pub type Credentials = Cache<SecretHash, AuthenticatedCredential>;

/// Maximum number of cached credentials. The least recently used ones are evicted.
pub const CAPACITY: usize = 250_000;

/// Initial capacity.
const INITIAL_CAPACITY: usize = 4096;

/// Cache of entries by `K`, valid under a lease.
#[derive(Debug)]
pub struct Cache<K: Eq + Hash, V> {
    lease: Arc<Lease>,
    entries: quick_cache::sync::Cache<K, Arc<Entry<V>>>,
    stamps: DashMap<Subject, Arc<InvalidationStamp>>,
    /// Invalidations up to this number may have been pruned, so results that were read before it are not inserted.
    pruned: AtomicI64,
    /// Log number at the previous sweep.
    last_sweep: AtomicI64,
    /// Lookups with and without a result.
    hits: AtomicU64,
    misses: AtomicU64,
}

/// A subject that entries depend on.
#[derive(Debug)]
struct InvalidationStamp {
    /// Log number of its last invalidation, 0 if there was none.
    last_invalidation: AtomicI64,
}

/// A cached result, with the circumstances under which it was read.
#[derive(Debug)]
pub struct Entry<V> {
    /// The value read from the database.
    pub value: V,
    version: ReadVersion,
    stamps: Box<[Arc<InvalidationStamp>]>,
}

impl<V> Entry<V> {
    /// Whether nothing that the entry depends on was invalidated since it was read. Requires a fresh guard.
    pub fn is_valid(&self, guard: &LeaseGuard) -> bool {
        self.version.epoch == guard.epoch
            && self.stamps.iter().all(|stamp| stamp.last_invalidation.load(Ordering::Acquire) <= self.version.applied)
    }
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// An empty cache of at most `capacity` entries, valid under `lease`.
    pub fn new(capacity: usize, lease: Arc<Lease>) -> Self {
        Self {
            lease,
            // Starts small and grows: the full capacity would be allocated immediately.
            entries: quick_cache::sync::Cache::with_weighter(
                capacity.min(INITIAL_CAPACITY),
                capacity as u64,
                quick_cache::UnitWeighter,
            ),
            stamps: DashMap::new(),
            pruned: AtomicI64::new(0),
            last_sweep: AtomicI64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
        }
    }

    /// The lease.
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// The valid entry of `key`, if there is one.
    pub fn find(&self, guard: &LeaseGuard, key: &K) -> Option<Arc<Entry<V>>> {
        let found = self.entries.get(key).filter(|entry| entry.is_valid(guard));
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Inserts a value that was read after `version` was taken and that depends on `subjects`. Returns the entry.
    pub fn fill(&self, version: ReadVersion, key: K, value: V, subjects: &[Subject]) -> Option<Arc<Entry<V>>> {
        let entry = self.entry(version, value, subjects)?;
        self.entries.insert(key, Arc::clone(&entry));
        Some(entry)
    }

    /// Like [`Cache::fill`], for a value of another type that the caller stores.
    pub fn entry<T>(&self, version: ReadVersion, value: T, subjects: &[Subject]) -> Option<Arc<Entry<T>>> {
        let version = self.version_with_bugs(version);
        let count = if has_bug!(self.lease, TombstoneOnCredentialAlone) { 1 } else { subjects.len() };
        let stamps = subjects.iter().take(count).map(|subject| self.invalidation_stamp(*subject)).collect();
        // Checked while the stamps are held, so that none of them can be pruned in between.
        let is_late = version.applied < self.pruned.load(Ordering::Acquire);
        (!is_late).then(|| Arc::new(Entry { value, version, stamps }))
    }

    fn version_with_bugs(&self, version: ReadVersion) -> ReadVersion {
        let now = || self.lease.read_version().unwrap_or(version);
        if has_bug!(self.lease, FillWithoutTombstones) {
            return ReadVersion { applied: now().applied, ..version };
        }
        if has_bug!(self.lease, FillAcrossEpochs) {
            return ReadVersion { epoch: now().epoch, ..version };
        }
        version
    }

    /// Invalidates entries that depend on `subject` and were read before log number `seq`.
    pub fn invalidate(&self, subject: Subject, seq: i64) {
        self.invalidation_stamp(subject).last_invalidation.fetch_max(seq, Ordering::AcqRel);
    }

    fn invalidation_stamp(&self, subject: Subject) -> Arc<InvalidationStamp> {
        if let Some(known) = self.stamps.get(&subject) {
            return Arc::clone(&known);
        }
        let new = || Arc::new(InvalidationStamp { last_invalidation: AtomicI64::new(0) });
        Arc::clone(&self.stamps.entry(subject).or_insert_with(new))
    }

    /// Prunes stamps without dependent entries whose last invalidation is older than the previous sweep. Must be called
    /// periodically. Results of reads that began before the previous call are not inserted.
    pub fn sweep(&self) {
        let Some(applied) = self.lease.applied() else { return };
        let old = self.last_sweep.swap(applied, Ordering::AcqRel);
        self.pruned.fetch_max(old, Ordering::AcqRel);
        self.stamps.retain(|_, stamp| {
            // No other thread can clone the ground meanwhile, because this shard of the map is locked.
            Arc::strong_count(stamp) > 1 || stamp.last_invalidation.load(Ordering::Acquire) > old
        });
        self.stamps.shrink_to_fit();
    }

    /// Numbers of hits, misses and entries.
    pub fn stats(&self) -> (u64, u64, usize) {
        (self.hits.load(Ordering::Relaxed), self.misses.load(Ordering::Relaxed), self.entries.len())
    }
}

#[cfg(test)]
impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    /// A cache with a deliberate protocol error.
    pub(crate) fn with_bug(bug: Option<super::simulator::ProtocolBug>) -> Self {
        Self::new(100, Arc::new(Lease::with_bug(bug)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        auth::revocation::lease::{Follower, LeaseStep, LogPage, Timing},
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
        let mut follower = Follower::new(Timing::DEFAULT);
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), LeaseStep::Register);
        assert_eq!(cache.lease().read_version(), None, "nothing is inserted before the node is registered");
        follower.on_registered(server());
        follower.on_clock_read(cache.lease(), Stamp { server: server(), seq: 7 });
        renew(&cache, &mut follower, 7, &[]);
        (cache, follower)
    }

    fn renew(cache: &Cache<u8, &'static str>, follower: &mut Follower, clock: i64, invalidations: &[(i64, Subject)]) {
        follower.wake();
        assert!(matches!(follower.next(cache.lease(), Duration::ZERO), LeaseStep::ReadLog { .. }));
        let page = LogPage { server: server(), clock, invalidations: invalidations.to_vec() };
        follower.on_log_read(cache.lease(), &page, |subject, seq| cache.invalidate(subject, seq));
        follower.on_acknowledged(cache.lease(), true, Duration::ZERO);
    }

    fn find(cache: &Cache<u8, &'static str>) -> Option<&'static str> {
        let guard = cache.lease().guard(Duration::from_secs(1))?;
        cache.find(&guard, &1).map(|entry| entry.value)
    }

    #[test]
    fn entry_is_valid_until_something_it_depends_on_is_invalidated() {
        let (cache, mut follower) = with_lease();
        cache.fill(cache.lease().read_version().unwrap(), 1, "a", &[KEY, PROJECT]);
        assert_eq!(find(&cache), Some("a"));
        renew(&cache, &mut follower, 8, &[(8, PROJECT)]);
        assert_eq!(find(&cache), None);
        cache.fill(cache.lease().read_version().unwrap(), 1, "b", &[KEY, PROJECT]);
        assert_eq!(find(&cache), Some("b"));
    }

    #[test]
    fn value_read_before_an_invalidation_is_invalid_after_it() {
        let (cache, mut follower) = with_lease();
        let version = cache.lease().read_version().unwrap();
        renew(&cache, &mut follower, 8, &[(8, KEY)]);
        cache.fill(version, 1, "a", &[KEY, PROJECT]);
        assert_eq!(find(&cache), None);
    }

    #[test]
    fn cache_grows_to_its_capacity_and_not_beyond() {
        let cache: Cache<usize, ()> = Cache::new(20_000, Arc::default());
        let version = ReadVersion { epoch: 0, applied: 0 };
        for key in 0..15_000 {
            cache.fill(version, key, (), &[KEY]);
        }
        assert_eq!(cache.stats().2, 15_000);
        for key in 15_000..60_000 {
            cache.fill(version, key, (), &[KEY]);
        }
        let len = cache.stats().2;
        assert!((15_000..=20_000).contains(&len), "{len}");
    }

    #[test]
    fn lease_expires() {
        let (cache, _) = with_lease();
        cache.fill(cache.lease().read_version().unwrap(), 1, "a", &[KEY]);
        assert!(cache.lease().guard(Duration::from_millis(2999)).is_some());
        assert!(cache.lease().guard(Duration::from_millis(3000)).is_none());
    }

    #[test]
    fn gap_in_the_log_begins_a_new_epoch() {
        let (cache, mut follower) = with_lease();
        cache.fill(cache.lease().read_version().unwrap(), 1, "a", &[KEY]);
        let old = cache.lease().read_version().unwrap();
        follower.wake();
        follower.next(cache.lease(), Duration::ZERO);
        let page = LogPage { server: server(), clock: 9, invalidations: vec![(9, PROJECT)] };
        follower.on_log_read(cache.lease(), &page, |_, _| panic!("a page with a gap must not be applied"));
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), LeaseStep::Register);
        follower.on_registered(server());
        follower.on_clock_read(cache.lease(), Stamp { server: server(), seq: 9 });
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
        let requirement = cache.lease().read_requirement(second).unwrap();
        assert!(requirement.is_met_by(&stamp("a", 7)) && requirement.is_met_by(&stamp("a", 8)));
        assert!(!requirement.is_met_by(&stamp("a", 6)), "an older snapshot");
        assert!(!requirement.is_met_by(&stamp("b", 7)), "another server");
        assert_eq!(cache.lease().read_requirement(Duration::from_secs(3)), None, "without a lease");
        renew(&cache, &mut follower, 8, &[(8, KEY)]);
        assert!(!cache.lease().read_requirement(second).unwrap().is_met_by(&stamp("a", 7)));
    }

    #[test]
    fn heartbeat_on_another_server_begins_a_new_epoch_before_any_acknowledgment_there() {
        let (cache, mut follower) = with_lease();
        cache.fill(cache.lease().read_version().unwrap(), 1, "a", &[KEY]);
        follower.wake();
        follower.next(cache.lease(), Duration::ZERO);
        let page = LogPage { server: "b".to_owned().into(), clock: 7, invalidations: Vec::new() };
        follower.on_log_read(cache.lease(), &page, |_, _| {});
        assert_eq!(find(&cache), None);
        assert_eq!((cache.lease().read_requirement(Duration::ZERO), cache.lease().read_version()), (None, None));
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), LeaseStep::Register);
        // The node registers on one server, and the clock is read on another.
        follower.on_registered("b".to_owned().into());
        follower.on_clock_read(cache.lease(), Stamp { server: server(), seq: 7 });
        assert_eq!(follower.next(cache.lease(), Duration::ZERO), LeaseStep::Register);
    }

    #[test]
    fn sweep_prunes_unused_grounds_and_older_reads_are_not_inserted() {
        let (cache, mut follower) = with_lease();
        let old = cache.lease().read_version().unwrap();
        renew(&cache, &mut follower, 8, &[(8, KEY)]);
        cache.sweep();
        assert_eq!(cache.stamps.len(), 1);
        cache.fill(cache.lease().read_version().unwrap(), 1, "a", &[KEY, PROJECT]);
        cache.entries.clear();
        cache.sweep();
        assert_eq!(cache.stamps.len(), 0);
        cache.fill(old, 1, "a", &[KEY, PROJECT]);
        assert_eq!(find(&cache), None);
        cache.fill(cache.lease().read_version().unwrap(), 1, "b", &[KEY, PROJECT]);
        assert_eq!(find(&cache), Some("b"));
    }
}
