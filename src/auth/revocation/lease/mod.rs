//! The lease protocol as a state machine without I/O: when a node may trust its cache (docs/revocation.md).
//!
//! - [`Lease`]: checked by each request, including requests that read the database.
//! - [`Follower`]: keeps the lease by following the log of invalidations on one PostgreSQL server.
//! - [`Timing`]: tells the node that invalidates something how long a silent node may still trust its cache.
//!
//! All times are intervals on a local clock that counts suspension ([`crate::base::runtime::clock::since_boot`]). The
//! wall clock is not used. `simulator` runs the protocol against faulty clocks, networks and processes.

mod follower;

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

#[cfg(test)]
use super::simulator::ProtocolBug;
use crate::db::{ServerId, Stamp};

/// Whether the simulator has enabled this deliberate protocol error, to verify that it is detected. Always false in
/// builds without tests.
macro_rules! has_bug {
    ($lease:expr, $bug:ident) => {{
        #[cfg(test)]
        let is_enabled = $lease.bug == Some($crate::auth::revocation::simulator::ProtocolBug::$bug);
        #[cfg(not(test))]
        let is_enabled = false;
        is_enabled
    }};
}
pub use follower::{Follower, LeaseStep, LogPage};
pub(crate) use has_bug;

/// Durations of the lease protocol.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// L: duration of a lease.
    pub lease: Duration,
    /// Interval between renewals.
    pub renewal: Duration,
    /// W: time after an invalidation's COMMIT after which no node trusts a cache without that invalidation. Longer than
    /// L, because the clocks of two machines can run at different speeds.
    pub wait: Duration,
}

impl Timing {
    /// L = 3 s, renewed each second. For clocks that run at most ε = 2 % fast or slow, W = L (1 + ε) / (1 − ε) + 50 ms.
    pub const DEFAULT: Self = Self {
        lease: Duration::from_millis(3000),
        renewal: Duration::from_millis(1000),
        wait: Duration::from_millis(3000 * 102 / 98 + 1 + 50),
    };
}

/// A node's lease: whether the cache may be trusted now, and which database reads count.
#[derive(Debug)]
pub struct Lease {
    /// End of the lease, in nanoseconds since boot. Stored after everything that the lease covers.
    until: AtomicU64,
    /// Current epoch. Cache entries of older epochs are invalid.
    epoch: AtomicU64,
    /// Log number up to which invalidations were applied, or [`UNKNOWN_POSITION`].
    applied: AtomicI64,
    /// The server that commits the heartbeats of this epoch. Cache hits do not read it. A new epoch begins under this
    /// lock.
    server: Mutex<Option<ServerId>>,
    /// The latest revocation that this node committed on that server and confirms without its own acknowledgment, or
    /// [`UNKNOWN_POSITION`]. Reads must see it even if the node has not read that part of the log yet. Written under
    /// the lock of `server`.
    own_revocation: AtomicI64,
    #[cfg(test)]
    pub(crate) bug: Option<ProtocolBug>,
}

const UNKNOWN_POSITION: i64 = -1;

/// Proof that the lease was valid. The cache requires it, so the lease is checked before the cache is read. In the
/// reverse order, an invalidation could happen between the two.
#[derive(Debug)]
pub struct LeaseGuard {
    pub(crate) epoch: u64,
}

/// Epoch and log number that a node had applied when a database read began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadVersion {
    pub(crate) epoch: u64,
    pub(crate) applied: i64,
}

/// Condition that a database read must meet to decide whether a request is accepted. Taken before the read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadRequirement {
    /// Epoch and log number that the node had applied.
    pub(crate) version: ReadVersion,
    /// Number of the latest revocation that the read must see.
    min_seq: i64,
    /// Server that commits the node's heartbeats.
    server: ServerId,
}

impl ReadRequirement {
    /// Whether a read with this stamp saw every revocation that was confirmed before the version was taken: it ran on
    /// the server of the heartbeats and saw everything that the node had applied or committed.
    pub fn is_met_by(&self, stamp: &Stamp) -> bool {
        self.is_on_server(&stamp.server) && stamp.seq >= self.min_seq
    }

    /// Whether the node's heartbeats are committed on `server`.
    pub fn is_on_server(&self, server: &ServerId) -> bool {
        self.server == *server
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            until: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            applied: AtomicI64::new(UNKNOWN_POSITION),
            server: Mutex::default(),
            own_revocation: AtomicI64::new(UNKNOWN_POSITION),
            #[cfg(test)]
            bug: None,
        }
    }
}

impl Lease {
    /// Returns proof that the lease is valid at `now`.
    pub fn guard(&self, now: Duration) -> Option<LeaseGuard> {
        let is_valid = nanos(now) < self.until.load(Ordering::Acquire);
        is_valid.then(|| LeaseGuard { epoch: self.epoch.load(Ordering::Acquire) })
    }

    /// Taken before a database read whose result is to be cached. None while nothing may be cached.
    pub fn read_version(&self) -> Option<ReadVersion> {
        // The epoch first: if a new one begins in between, entries with this version are invalid.
        let epoch = self.epoch.load(Ordering::Acquire);
        let applied = self.applied.load(Ordering::Acquire);
        (applied != UNKNOWN_POSITION).then_some(ReadVersion { epoch, applied })
    }

    /// The condition for a read that begins after `now`. None if no heartbeat was committed within the lease time,
    /// because then no read proves anything.
    pub fn read_requirement(&self, now: Duration) -> Option<ReadRequirement> {
        // The lock prevents a new epoch meanwhile.
        let server = self.server();
        let is_valid = nanos(now) < self.until.load(Ordering::Acquire);
        let (version, server) = (self.read_version()?, server.clone()?);
        let min_seq = match has_bug!(self, OwnRevocationNotRead) {
            true => version.applied,
            false => version.applied.max(self.own_revocation.load(Ordering::Acquire)),
        };
        is_valid.then_some(ReadRequirement { version, min_seq, server })
    }

    /// Whether this epoch's heartbeats are committed on the server that committed `invalidation`, a revocation by this
    /// node. If so, every later read must see the revocation, and it does not have to wait for this node's own
    /// acknowledgment.
    pub fn record_own_revocation(&self, invalidation: &Stamp) -> bool {
        let server = self.server();
        let is_own = server.as_ref() == Some(&invalidation.server);
        if is_own {
            self.own_revocation.fetch_max(invalidation.seq, Ordering::AcqRel);
        }
        is_own
    }

    fn server(&self) -> MutexGuard<'_, Option<ServerId>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new epoch without a lease. Cache entries and reads in progress belong to the old epoch.
    fn begin_epoch(&self) {
        let mut server = self.server();
        self.release();
        self.applied.store(UNKNOWN_POSITION, Ordering::Release);
        self.own_revocation.store(UNKNOWN_POSITION, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        *server = None;
    }

    /// Remaining time of the lease at `now`. None without a lease.
    pub fn remaining(&self, now: Duration) -> Option<Duration> {
        Duration::from_nanos(self.until.load(Ordering::Acquire)).checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Log number up to which invalidations were applied.
    pub fn applied(&self) -> Option<i64> {
        self.read_version().map(|version| version.applied)
    }

    /// A lease with a deliberate protocol error.
    #[cfg(test)]
    pub(crate) fn with_bug(bug: Option<ProtocolBug>) -> Self {
        Self { bug, ..Self::default() }
    }

    /// Ends the lease immediately.
    pub fn release(&self) {
        self.until.store(0, Ordering::Release);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
