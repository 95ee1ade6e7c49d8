//! The node's side of the protocol: follows the log of invalidations on one PostgreSQL server and renews the lease.

use std::{sync::atomic::Ordering, time::Duration};

use super::{Lease, Timing, has_bug, nanos};
use crate::{
    base::identity::subject::Subject,
    db::{ServerId, Stamp},
};

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

    /// Whether a response came from another server than the node is registered on. That server may not know the node,
    /// and its numbers may have a different meaning.
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

    /// The node's row was written and committed, if it was `found` on the server of this epoch. The lease then counts
    /// from the start of the renewal.
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
