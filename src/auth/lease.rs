//! When a node may trust what it has cached, as a state machine without I/O (docs/revocation.md).
//!
//! Three parts: the [`Lease`], which requests ask, those that read the database too; the [`Follower`], which keeps it by
//! following the log of recalls on one PostgreSQL server; and [`Timing`], from which whoever recalls something knows how long a node that says nothing may
//! still trust its cache. All times are intervals on a local clock that counts suspension
//! ([`crate::base::clock::since_boot`]); what the wall clock says plays no part. `simulator` runs all of it
//! against clocks, networks and processes that misbehave.

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

/// Whether the simulator wants a known mistake to be made, to see that it notices. Elsewhere never.
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

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// L: how long a lease lasts.
    pub lease: Duration,
    /// How often it is renewed.
    pub renewal: Duration,
    /// W: how long after a recall's COMMIT no node trusts a cache that has not heard of it. Longer than L,
    /// because the clocks of two machines need not run equally fast.
    pub wait: Duration,
}

impl Timing {
    /// L = 3 s, renewed each second; with clocks that run at most ε = 2 % fast or slow,
    /// W = L (1 + ε) / (1 − ε) + 50 ms.
    pub const USUAL: Self = Self {
        lease: Duration::from_millis(3000),
        renewal: Duration::from_millis(1000),
        wait: Duration::from_millis(3000 * 102 / 98 + 1 + 50),
    };
}

/// What requests ask: whether the cache may be trusted now, and what a look into the database will be worth.
#[derive(Debug)]
pub struct Lease {
    /// Until when it lasts, in nanoseconds since boot. Stored after everything that it vouches for.
    until: AtomicU64,
    /// What was cached in an older epoch counts for nothing.
    epoch: AtomicU64,
    /// Up to where the log was followed, or [`NOWHERE`].
    applied: AtomicI64,
    /// The server that the heartbeats of this epoch are committed on. Requests that hit the cache do not read it. A new
    /// epoch begins under its lock.
    server: Mutex<Option<ServerId>>,
    /// The latest revocation that this node committed on that server and confirms without its own acknowledgment, or
    /// [`NOWHERE`]. Reads must see it, although the log may not have been followed so far yet. Written under the lock of
    /// `server`.
    own: AtomicI64,
    #[cfg(test)]
    pub(super) mistake: Option<Mistake>,
}

const NOWHERE: i64 = -1;

/// Says that the lease was good. It opens the cache: so the lease is read first and the cache after it. The
/// other way round, a recall could come between the two.
#[derive(Debug)]
pub struct Pass {
    pub(super) epoch: u64,
}

/// How much was known when a look into the database began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    pub(super) epoch: u64,
    pub(super) applied: i64,
}

/// What a read of the database must match to decide whether a request is accepted. Taken before the read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadVersion {
    /// How much the node had applied.
    pub(super) mark: Mark,
    /// The number of the latest revocation that the read must see.
    at_least: i64,
    /// The server that commits the node's heartbeats.
    server: ServerId,
}

impl ReadVersion {
    /// Whether a read with this stamp saw every revocation that was answered before the version was taken: it ran on
    /// the server of the heartbeats and saw all that the node had applied or committed itself.
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
    /// Whether it is good at `now`.
    pub fn pass(&self, now: Duration) -> Option<Pass> {
        let is_good = nanos(now) < self.until.load(Ordering::Acquire);
        is_good.then(|| Pass { epoch: self.epoch.load(Ordering::Acquire) })
    }

    /// To be remembered before the database is read for something to be cached; none while nothing may be.
    pub fn mark(&self) -> Option<Mark> {
        // The epoch first: should a new one begin in between, what comes of the mark is dropped.
        let epoch = self.epoch.load(Ordering::Acquire);
        let applied = self.applied.load(Ordering::Acquire);
        (applied != NOWHERE).then_some(Mark { epoch, applied })
    }

    /// What a read that begins after `now` must match; none without a heartbeat that was committed within the lease
    /// time, because then no read proves anything.
    pub fn read_version(&self, now: Duration) -> Option<ReadVersion> {
        // No other epoch begins meanwhile.
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
    /// so, every read from now on must see it, and it need not wait for this node's own acknowledgment.
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

    /// Begins a new epoch, in which nothing is known yet: what is cached and what is being read belongs to the old one.
    fn begin_epoch(&self) {
        let mut server = self.server();
        self.give_up();
        self.applied.store(NOWHERE, Ordering::Release);
        self.own.store(NOWHERE, Ordering::Release);
        self.epoch.fetch_add(1, Ordering::AcqRel);
        *server = None;
    }

    /// How much longer it lasts at `now`; none if it does not.
    pub fn remaining(&self, now: Duration) -> Option<Duration> {
        Duration::from_nanos(self.until.load(Ordering::Acquire)).checked_sub(now).filter(|left| !left.is_zero())
    }

    /// Up to where the log was followed.
    pub fn applied(&self) -> Option<i64> {
        self.mark().map(|mark| mark.applied)
    }

    /// One under which a known mistake is made.
    #[cfg(test)]
    pub(super) fn mistaken(mistake: Option<Mistake>) -> Self {
        Self { mistake, ..Self::default() }
    }

    /// Ends it now.
    pub fn give_up(&self) {
        self.until.store(0, Ordering::Release);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What is to be done next to keep the lease.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Put the node into `auth_nodes`, with a fresh stamp and nothing acknowledged, and commit. Then
    /// [`Follower::registered`].
    Register,
    /// Only then read `auth_clock`, on the same server; [`Follower::began`].
    ReadClock,
    /// Read what the log has after this number, and the clock, in one snapshot; [`Follower::read`].
    ReadLog {
        /// The last one that was heard of.
        after: i64,
    },
    /// Write a fresh stamp and this number into the node's own row, if it is this server that does so;
    /// [`Follower::acknowledged`].
    Acknowledge {
        /// All up to it is dropped from the cache.
        up_to: i64,
        /// The server of this epoch.
        server: ServerId,
    },
    /// Do nothing until this time, unless something was recalled: [`Follower::woken`].
    Rest {
        /// On the node's clock.
        until: Duration,
    },
}

/// The log after some number, as one snapshot has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// The server that it was read on.
    pub server: ServerId,
    /// What the clock stands at.
    pub clock: i64,
    /// What was recalled, in order.
    pub recalls: Vec<(i64, Subject)>,
}

impl LogPage {
    /// Whether nothing is missing between `after` and the clock, because it was removed long ago, say.
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
    /// Something may be in the log.
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

/// Follows the log, and thereby keeps the lease. One for a node; whoever drives it does what
/// [`Follower::next`] says and tells what came of it, or [`Follower::failed`].
#[derive(Debug)]
pub struct Follower {
    timing: Timing,
    state: State,
    /// The server that the node is registered on.
    server: Option<ServerId>,
}

impl Follower {
    /// One that has done nothing yet.
    pub fn new(timing: Timing) -> Self {
        Self { timing, state: State::Out, server: None }
    }

    /// What is to be done.
    pub fn next(&mut self, lease: &Lease, now: Duration) -> Step {
        match self.state {
            State::Out => {
                self.leave(lease);
                Step::Register
            }
            State::Registered => Step::ReadClock,
            State::Resting { until } if now < until => Step::Rest { until },
            State::Due | State::Resting { .. } | State::Reading { .. } => {
                // The lease counts from before the log is read: what is recalled after that read is not
                // vouched for.
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

    /// Ends the epoch at once, before the node says anything to another server: what it acknowledges there must not
    /// confirm a revocation while reads of the old server still count.
    fn leave(&mut self, lease: &Lease) {
        lease.begin_epoch();
        self.server = None;
        self.state = State::Out;
    }

    /// The node is in `auth_nodes`, on `server`.
    pub fn registered(&mut self, server: ServerId) {
        self.server = Some(server);
        self.state = State::Registered;
    }

    /// The clock stood at this number after the node was registered: who recalls something later knows of the node.
    pub fn began(&mut self, lease: &Lease, clock: Stamp) {
        if self.is_elsewhere(lease, &clock.server) {
            return self.leave(lease);
        }
        *lease.server() = Some(clock.server);
        lease.applied.store(clock.seq, Ordering::Release);
        self.state = State::Due;
    }

    /// Whether an answer came from another server than the node is registered on. That server need not know the node,
    /// and its numbers need not mean the same.
    fn is_elsewhere(&mut self, lease: &Lease, server: &ServerId) -> bool {
        if mistaken!(lease, EpochAcrossServers) {
            *lease.server() = Some(server.clone());
            self.server = Some(server.clone());
        }
        self.server.as_ref() != Some(server)
    }

    /// The log was read. `drop` is told each thing recalled, and to forget what is cached of it.
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

    /// The node's row was written and committed, if it was `found` on the server of this epoch: then the lease lasts
    /// from when the renewal began.
    pub fn acknowledged(&mut self, lease: &Lease, found: bool, now: Duration) {
        let State::Read { t0 } = self.state else { return };
        if !found {
            // Others have counted the node out, and wait for it no more.
            self.state = State::Out;
            return;
        }
        let from = if mistaken!(lease, LeaseFromReply) { now } else { t0 };
        lease.until.store(nanos(from + self.timing.lease), Ordering::Release);
        self.state = State::Resting { until: t0 + self.timing.renewal };
    }

    /// Something was recalled, or nobody can say that nothing was.
    pub fn woken(&mut self) {
        if let State::Resting { .. } = self.state {
            self.state = State::Due;
        }
    }

    /// The step failed, or nobody knows what became of it. The lease runs on until its end.
    pub fn failed(&mut self) {
        match self.state {
            State::Reading { .. } | State::Read { .. } => self.state = State::Due,
            State::Out | State::Registered | State::Due | State::Resting { .. } => {}
        }
    }
}
