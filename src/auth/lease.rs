//! The lease protocol as a state machine without I/O: when a node may trust its cache (docs/revocation.md).
//!
//! - [`Lease`]: checked by each request, including requests that read the database.
//! - [`Follower`]: keeps the lease by following the log of invalidations on one PostgreSQL server.
//! - [`Timing`]: tells the node that invalidates something how long a silent node may still trust its cache.
//!
//! All times are intervals on a local clock that counts suspension ([`crate::base::clock::since_boot`]). The wall clock is
//! not used. `simulator` runs the protocol against faulty clocks, networks and processes.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

#[cfg(test)]
use super::simulator::Mistake;
use crate::{
    base::subject::Subject,
    db::{ServerId, Stamp},
};

/// Whether the simulator has enabled this deliberate protocol error, to verify that it is detected. Always false in builds
/// without tests.
macro_rules! mistaken {
    ($lease:expr, $mistake:ident) => {{
        #[cfg(test)]
        let is_wanted = $lease.mistake == Some($crate::auth::simulator::Mistake::$mistake);
        #[cfg(not(test))]
        let is_wanted = false;
        is_wanted
    }};
}
pub(super) use mistaken;

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
    pub const USUAL: Self = Self {
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
    /// Log number up to which invalidations were applied, or [`NOWHERE`].
    applied: AtomicI64,
    /// The server that commits the heartbeats of this epoch. Cache hits do not read it. A new epoch begins under this lock.
    server: Mutex<Option<ServerId>>,
    /// The latest revocation that this node committed on that server and confirms without its own acknowledgment, or
    /// [`NOWHERE`]. Reads must see it even if the node has not read that part of the log yet. Written under the lock of
    /// `server`.
    own: AtomicI64,
    #[cfg(test)]
    pub(super) mistake: Option<Mistake>,
}

const NOWHERE: i64 = -1;

/// Proof that the lease was valid. The cache requires it, so the lease is checked before the cache is read. In the reverse
/// order, an invalidation could happen between the two.
#[derive(Debug)]
pub struct Pass {
    pub(super) epoch: u64,
}

/// Epoch and log number that a node had applied when a database read began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(super) epoch: u64,
    pub(super) applied: i64,
}

/// Condition that a database read must meet to decide whether a request is accepted. Taken before the read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadVersion {
    /// Epoch and log number that the node had applied.
    pub(super) mark: Mark,
    /// Number of the latest revocation that the read must see.
    at_least: i64,
    /// Server that commits the node's heartbeats.
    server: ServerId,
}

impl ReadVersion {
    /// Whether a read with this stamp saw every revocation that was confirmed before the version was taken: it ran on the
    /// server of the heartbeats and saw everything that the node had applied or committed.
    pub fn admits(&self, stamp: &Stamp) -> bool {
        self.is_of(&stamp.server) && stamp.seq >= self.at_least
    }

    /// Whether the node's heartbeats are committed on `server`.
    pub fn is_of(&self, server: &ServerId) -> bool {
        self.server == *server
    }
}

impl Default for Lease {
    fn default() -> Self {
        Self {
            until: AtomicU64::new(0),
            epoch: AtomicU64::new(0),
            applied: AtomicI64::new(NOWHERE),
            server: Mutex::default(),
            own: AtomicI64::new(NOWHERE),
            #[cfg(test)]
            mistake: None,
        }
    }
}

impl Lease {
    /// Returns proof that the lease is valid at `now`.
    pub fn pass(&self, now: Duration) -> Option<Pass> {
        let is_good = nanos(now) < self.until.load(Ordering::Acquire);
        is_good.then(|| Pass { epoch: self.epoch.load(Ordering::Acquire) })
    }

    /// Taken before a database read whose result is to be cached. None while nothing may be cached.
    pub fn mark(&self) -> Option<Mark> {
        // The epoch first: if a new one begins in between, entries with this mark are invalid.
        let epoch = self.epoch.load(Ordering::Acquire);
        let applied = self.applied.load(Ordering::Acquire);
        (applied != NOWHERE).then_some(Mark { epoch, applied })
    }

    /// The condition for a read that begins after `now`. None if no heartbeat was committed within the lease time, because
    /// then no read proves anything.
    pub fn read_version(&self, now: Duration) -> Option<ReadVersion> {
        // The lock prevents a new epoch meanwhile.
        let server = self.server();
        let is_good = nanos(now) < self.until.load(Ordering::Acquire);
        let (mark, server) = (self.mark()?, server.clone()?);
        let at_least = match mistaken!(self, OwnRevocationNotRead) {
            true => mark.applied,
            false => mark.applied.max(self.own.load(Ordering::Acquire)),
        };
        is_good.then_some(ReadVersion { mark, at_least, server })
    }

    /// Whether this epoch's heartbeats are committed on the server that committed `recall`, a revocation by this node. If
    /// so, every later read must see the revocation, and it does not have to wait for this node's own acknowledgment.
    pub fn vouch_for(&self, recall: &Stamp) -> bool {
        let server = self.server();
        let is_own = server.as_ref() == Some(&recall.server);
        if is_own {
            self.own.fetch_max(recall.seq, Ordering::AcqRel);
        }
        is_own
    }

    fn server(&self) -> MutexGuard<'_, Option<ServerId>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a new epoch without a lease. Cache entries and reads in progress belong to the old epoch.
    fn begin_epoch(&self) {
        let mut server = self.server();
        self.give_up();
        self.applied.store(NOWHERE, Ordering::Release);
        self.own.store(NOWHERE, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        *server = None;
    }

    /// Remaining time of the lease at `now`. None without a lease.
    pub fn remaining(&self, now: Duration) -> Option<Duration> {
        Duration::from_nanos(self.until.load(Ordering::Acquire)).checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Log number up to which invalidations were applied.
    pub fn applied(&self) -> Option<i64> {
        self.mark().map(|mark| mark.applied)
    }

    /// A lease with a deliberate protocol error.
    #[cfg(test)]
    pub(super) fn mistaken(mistake: Option<Mistake>) -> Self {
        Self { mistake, ..Self::default() }
    }

    /// Ends the lease immediately.
    pub fn give_up(&self) {
        self.until.store(0, Ordering::Release);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// Next step to keep the lease.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Write the node into `auth_nodes`, with a new stamp and nothing acknowledged, and commit. Then call
    /// [`Follower::registered`].
    Register,
    /// Only then read `auth_clock` on the same server. Then call [`Follower::began`].
    ReadClock,
    /// Read the log after this number, and the clock, in one snapshot. Then call [`Follower::read`].
    ReadLog {
        /// Last applied number.
        after: i64,
    },
    /// Write a new stamp and this number into the node's own row, on this server only. Then call
    /// [`Follower::acknowledged`].
    Acknowledge {
        /// Number up to which invalidations were applied.
        up_to: i64,
        /// Server of this epoch.
        server: ServerId,
    },
    /// Wait until this time, or call [`Follower::woken`] after an invalidation.
    Rest {
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
    pub recalls: Vec<(i64, Subject)>,
}

impl LogPage {
    /// Whether no entry is missing between `after` and the clock, for example because it was pruned.
    fn is_whole(&self, after: i64) -> bool {
        let mut at = after;
        for (seq, _) in &self.recalls {
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
    Out,
    Registered,
    /// The log may have new entries.
    Due,
    Resting {
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
/// returns, and reports the result of each step, or [`Follower::failed`].
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
        Self { timing, state: State::Out, server: None }
    }

    /// The next step.
    pub fn next(&mut self, lease: &Lease, now: Duration) -> Step {
        match self.state {
            State::Out => {
                self.leave(lease);
                Step::Register
            }
            State::Registered => Step::ReadClock,
            State::Resting { until } if now < until => Step::Rest { until },
            State::Due | State::Resting { .. } | State::Reading { .. } => {
                // The lease counts from before the log is read, because it does not cover later invalidations.
                self.state = State::Reading { t0: now };
                Step::ReadLog { after: lease.applied.load(Ordering::Acquire) }
            }
            State::Read { .. } => match self.server.clone() {
                Some(server) => Step::Acknowledge { up_to: lease.applied.load(Ordering::Acquire), server },
                None => {
                    self.leave(lease);
                    Step::Register
                }
            },
        }
    }

    /// Ends the epoch before the node writes anything to another server: what it acknowledges there must not confirm a
    /// revocation while reads of the old server still count.
    fn leave(&mut self, lease: &Lease) {
        lease.begin_epoch();
        self.server = None;
        self.state = State::Out;
    }

    /// The node was written into `auth_nodes` on `server`.
    pub fn registered(&mut self, server: ServerId) {
        self.server = Some(server);
        self.state = State::Registered;
    }

    /// The clock had this number after the node was registered: later invalidations wait for the node.
    pub fn began(&mut self, lease: &Lease, clock: Stamp) {
        if self.is_elsewhere(lease, &clock.server) {
            return self.leave(lease);
        }
        *lease.server() = Some(clock.server);
        lease.applied.store(clock.seq, Ordering::Release);
        self.state = State::Due;
    }

    /// Whether a response came from another server than the node is registered on. That server may not know the node, and
    /// its numbers may have a different meaning.
    fn is_elsewhere(&mut self, lease: &Lease, server: &ServerId) -> bool {
        if mistaken!(lease, EpochAcrossServers) {
            *lease.server() = Some(server.clone());
            self.server = Some(server.clone());
        }
        self.server.as_ref() != Some(server)
    }

    /// The log was read. Calls `drop` for each invalidation, which must invalidate the cache entries.
    pub fn read(&mut self, lease: &Lease, page: &LogPage, mut drop: impl FnMut(Subject, i64)) {
        let State::Reading { t0 } = self.state else { return };
        if self.is_elsewhere(lease, &page.server) {
            return self.leave(lease);
        }
        let sees_all = mistaken!(lease, SequenceForLog) || page.is_whole(lease.applied.load(Ordering::Acquire));
        if !sees_all {
            self.state = State::Out;
            return;
        }
        for (seq, subject) in &page.recalls {
            drop(*subject, *seq);
        }
        lease.applied.store(page.clock, Ordering::Release);
        self.state = State::Read { t0 };
    }

    /// The node's row was written and committed, if it was `found` on the server of this epoch. The lease then counts from
    /// the start of the renewal.
    pub fn acknowledged(&mut self, lease: &Lease, found: bool, now: Duration) {
        let State::Read { t0 } = self.state else { return };
        if !found {
            // Other nodes have removed this one, and do not wait for it any more.
            self.state = State::Out;
            return;
        }
        let from = if mistaken!(lease, LeaseFromReply) { now } else { t0 };
        lease.until.store(nanos(from + self.timing.lease), Ordering::Release);
        self.state = State::Resting { until: t0 + self.timing.renewal };
    }

    /// There was an invalidation, or one may have been missed.
    pub fn woken(&mut self) {
        if let State::Resting { .. } = self.state {
            self.state = State::Due;
        }
    }

    /// The step failed or its outcome is unknown. The lease remains valid until it expires.
    pub fn failed(&mut self) {
        match self.state {
            State::Reading { .. } | State::Read { .. } => self.state = State::Due,
            State::Out | State::Registered | State::Due | State::Resting { .. } => {}
        }
    }
}
