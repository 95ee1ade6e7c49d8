//! The lease protocol as a state machine without I/O: when a node may trust its cache (docs/revocation.md).
//!
//! - [`Lease`]: checked by each request, including requests that read the database.
//! - [`Follower`]: keeps the lease by following the log of invalidations on one PostgreSQL server.
//! - [`Timing`]: tells the node that invalidates something how long a silent node may still trust its cache.
//!
//! All times are intervals on a local clock that counts suspension ([`crate::base::runtime::clock::since_boot`]). The wall clock is
//! not used. `simulator` runs the protocol against faulty clocks, networks and processes.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

#[cfg(test)]
use super::simulator::ProtocolBug;
use crate::{
    base::identity::subject::Subject,
    db::{ServerId, Stamp},
};

/// Whether the simulator has enabled this deliberate protocol error, to verify that it is detected. Always false in builds
/// without tests.
macro_rules! has_bug {
    ($lease:expr, $bug:ident) => {{
        #[cfg(test)]
        let is_enabled = $lease.bug == Some($crate::auth::revocation::simulator::ProtocolBug::$bug);
        #[cfg(not(test))]
        let is_enabled = false;
        is_enabled
    }};
}
pub(crate) use has_bug;

/// Durations of the lease protocol.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// L: duration of a lease.
    pub lease: Duration,
    /// Interval between renewals.
    pub renewal: Duration,
    /// W: time after an invalidation's COMMIT after which no node trusts a cache without that invalidation. Longer than L,
    /// because the clocks of two machines can run at different speeds.
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
    /// The server that commits the heartbeats of this epoch. Cache hits do not read it. A new epoch begins under this lock.
    server: Mutex<Option<ServerId>>,
    /// The latest revocation that this node committed on that server and confirms without its own acknowledgment, or
    /// [`UNKNOWN_POSITION`]. Reads must see it even if the node has not read that part of the log yet. Written under the lock of
    /// `server`.
    own_revocation: AtomicI64,
    #[cfg(test)]
    pub(crate) bug: Option<ProtocolBug>,
}

const UNKNOWN_POSITION: i64 = -1;

/// Proof that the lease was valid. The cache requires it, so the lease is checked before the cache is read. In the reverse
/// order, an invalidation could happen between the two.
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
    /// Whether a read with this stamp saw every revocation that was confirmed before the version was taken: it ran on the
    /// server of the heartbeats and saw everything that the node had applied or committed.
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
        // The epoch first: if a new one begins in between, entries with this mark are invalid.
        let epoch = self.epoch.load(Ordering::Acquire);
        let applied = self.applied.load(Ordering::Acquire);
        (applied != UNKNOWN_POSITION).then_some(ReadVersion { epoch, applied })
    }

    /// The condition for a read that begins after `now`. None if no heartbeat was committed within the lease time, because
    /// then no read proves anything.
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

    /// Whether this epoch's heartbeats are committed on the server that committed `invalidation`, a revocation by this node. If
    /// so, every later read must see the revocation, and it does not have to wait for this node's own acknowledgment.
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

/// Next step to keep the lease.
#[derive(Debug, PartialEq, Eq)]
pub enum LeaseStep {
    /// Write the node into `auth_nodes`, with a new stamp and nothing acknowledged, and commit. Then call
    /// [`Follower::on_registered`].
    Register,
    /// Only then read `auth_clock` on the same server. Then call [`Follower::on_clock_read`].
    ReadClock,
    /// Read the log after this number, and the clock, in one snapshot. Then call [`Follower::on_log_read`].
    ReadLog {
        /// Last applied number.
        after: i64,
    },
    /// Write a new stamp and this number into the node's own row, on this server only. Then call
    /// [`Follower::on_acknowledged`].
    Acknowledge {
        /// Number up to which invalidations were applied.
        up_to: i64,
        /// Server of this epoch.
        server: ServerId,
    },
    /// Wait until this time, or call [`Follower::wake`] after an invalidation.
    Wait {
        /// Time on the node's clock.
        until: Duration,
    },
}

/// The log after a number, as of one snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// Server that the log was read on.
    pub server: ServerId,
    /// Number of the clock.
    pub clock: i64,
    /// Invalidations, in order.
    pub invalidations: Vec<(i64, Subject)>,
}

impl LogPage {
    /// Whether no entry is missing between `after` and the clock, for example because it was pruned.
    fn has_no_gaps(&self, after: i64) -> bool {
        let mut at = after;
        for (seq, _) in &self.invalidations {
            if *seq != at && *seq != at + 1 {
                return false;
            }
            at = *seq;
        }
        at == self.clock
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not in `auth_nodes`.
    Unregistered,
    Registered,
    /// The log may have new entries.
    Due,
    Waiting {
        until: Duration,
    },
    /// Between two steps of a renewal that began at `t0`.
    Reading {
        t0: Duration,
    },
    Read {
        t0: Duration,
    },
}

/// Follows the log and keeps the lease. A node has one follower. Its driver executes the steps that [`Follower::next`]
/// returns, and reports the result of each step, or [`Follower::on_failed`].
#[derive(Debug)]
pub struct Follower {
    timing: Timing,
    state: State,
    /// Server that the node is registered on.
    server: Option<ServerId>,
}

impl Follower {
    /// A follower in its initial state.
    pub fn new(timing: Timing) -> Self {
        Self { timing, state: State::Unregistered, server: None }
    }

    /// The next step.
    pub fn next(&mut self, lease: &Lease, now: Duration) -> LeaseStep {
        match self.state {
            State::Unregistered => {
                self.leave(lease);
                LeaseStep::Register
            }
            State::Registered => LeaseStep::ReadClock,
            State::Waiting { until } if now < until => LeaseStep::Wait { until },
            State::Due | State::Waiting { .. } | State::Reading { .. } => {
                // The lease counts from before the log is read, because it does not cover later invalidations.
                self.state = State::Reading { t0: now };
                LeaseStep::ReadLog { after: lease.applied.load(Ordering::Acquire) }
            }
            State::Read { .. } => match self.server.clone() {
                Some(server) => LeaseStep::Acknowledge { up_to: lease.applied.load(Ordering::Acquire), server },
                None => {
                    self.leave(lease);
                    LeaseStep::Register
                }
            },
        }
    }

    /// Ends the epoch before the node writes anything to another server: what it acknowledges there must not confirm a
    /// revocation while reads of the old server still count.
    fn leave(&mut self, lease: &Lease) {
        lease.begin_epoch();
        self.server = None;
        self.state = State::Unregistered;
    }

    /// The node was written into `auth_nodes` on `server`.
    pub fn on_registered(&mut self, server: ServerId) {
        self.server = Some(server);
        self.state = State::Registered;
    }

    /// The clock had this number after the node was registered: later invalidations wait for the node.
    pub fn on_clock_read(&mut self, lease: &Lease, clock: Stamp) {
        if self.is_other_server(lease, &clock.server) {
            return self.leave(lease);
        }
        *lease.server() = Some(clock.server);
        lease.applied.store(clock.seq, Ordering::Release);
        self.state = State::Due;
    }

    /// Whether a response came from another server than the node is registered on. That server may not know the node, and
    /// its numbers may have a different meaning.
    fn is_other_server(&mut self, lease: &Lease, server: &ServerId) -> bool {
        if has_bug!(lease, EpochAcrossServers) {
            *lease.server() = Some(server.clone());
            self.server = Some(server.clone());
        }
        self.server.as_ref() != Some(server)
    }

    /// The log was read. Calls `drop` for each invalidation, which must invalidate the cache entries.
    pub fn on_log_read(&mut self, lease: &Lease, page: &LogPage, mut drop: impl FnMut(Subject, i64)) {
        let State::Reading { t0 } = self.state else { return };
        if self.is_other_server(lease, &page.server) {
            return self.leave(lease);
        }
        let sees_all = has_bug!(lease, SequenceForLog) || page.has_no_gaps(lease.applied.load(Ordering::Acquire));
        if !sees_all {
            self.state = State::Unregistered;
            return;
        }
        for (seq, subject) in &page.invalidations {
            drop(*subject, *seq);
        }
        lease.applied.store(page.clock, Ordering::Release);
        self.state = State::Read { t0 };
    }

    /// The node's row was written and committed, if it was `found` on the server of this epoch. The lease then counts from
    /// the start of the renewal.
    pub fn on_acknowledged(&mut self, lease: &Lease, found: bool, now: Duration) {
        let State::Read { t0 } = self.state else { return };
        if !found {
            // Other nodes have removed this one, and do not wait for it any more.
            self.state = State::Unregistered;
            return;
        }
        let from = if has_bug!(lease, LeaseFromReply) { now } else { t0 };
        lease.until.store(nanos(from + self.timing.lease), Ordering::Release);
        self.state = State::Waiting { until: t0 + self.timing.renewal };
    }

    /// There was an invalidation, or one may have been missed.
    pub fn wake(&mut self) {
        if let State::Waiting { .. } = self.state {
            self.state = State::Due;
        }
    }

    /// The step failed or its outcome is unknown. The lease remains valid until it expires.
    pub fn on_failed(&mut self) {
        match self.state {
            State::Reading { .. } | State::Read { .. } => self.state = State::Due,
            State::Unregistered | State::Registered | State::Due | State::Waiting { .. } => {}
        }
    }
}
