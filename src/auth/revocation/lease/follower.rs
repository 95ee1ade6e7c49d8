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
    /// Write a new stamp and this number into the node's own row, on this server only, and read the log after this
    /// number and the clock, in one statement with one snapshot. Then call [`Follower::on_renewed`].
    Renew {
        /// Number up to which invalidations were applied.
        applied: i64,
        /// Server of this epoch.
        server: ServerId,
    },
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
            // The lease counts from before the log is read, because it does not cover later invalidations.
            State::Waiting { .. } if let Some(server) = self.server.clone() => {
                self.state = State::Renewing { t0: now };
                LeaseStep::Renew { applied: lease.applied.load(Ordering::Acquire), server }
            }
            // After a notification, the acknowledgment must not wait for the commit of an earlier heartbeat.
            State::Due | State::Waiting { .. } | State::Renewing { .. } | State::Reading { .. } => {
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

    /// The node's row was written and committed, if it was `found`, and the log was read, in one statement. If the log
    /// has no new entry, that row acknowledged everything. Otherwise, the entries are applied, as by
    /// [`Follower::on_log_read`], and must be acknowledged.
    pub fn on_renewed(
        &mut self,
        lease: &Lease,
        page: &LogPage,
        found: bool,
        now: Duration,
        drop: impl FnMut(Subject, i64),
    ) {
        let State::Renewing { t0 } = self.state else { return };
        if self.is_other_server(lease, &page.server) {
            return self.leave(lease);
        }
        if has_bug!(lease, RenewalSkipsEntries) {
            self.state = State::Read { t0 };
            return self.on_acknowledged(lease, found, now);
        }
        if !found {
            self.state = State::Unregistered;
            return;
        }
        self.state = State::Reading { t0 };
        self.on_log_read(lease, page, drop);
        if page.invalidations.is_empty() {
            self.on_acknowledged(lease, true, now);
        }
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
            State::Renewing { .. } | State::Reading { .. } | State::Read { .. } => self.state = State::Due,
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
    /// In a step of a renewal that began at `t0`, or between two.
    Renewing {
        t0: Duration,
    },
    Reading {
        t0: Duration,
    },
    Read {
        t0: Duration,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::KeyId;

    const KEY: Subject = Subject::Key(KeyId::from_u128(1));

    fn server(name: &str) -> ServerId {
        name.to_owned().into()
    }

    fn page(clock: i64, invalidations: &[(i64, Subject)]) -> LogPage {
        LogPage { server: server("a"), clock, invalidations: invalidations.to_vec() }
    }

    /// A follower whose renewal, of a lease that has just ended, is in progress.
    fn renewing() -> (Lease, Follower, Duration) {
        let (lease, mut follower) = (Lease::default(), Follower::new(Timing::DEFAULT));
        follower.next(&lease, Duration::ZERO);
        follower.on_registered(server("a"));
        follower.on_clock_read(&lease, Stamp { server: server("a"), seq: 7 });
        assert_eq!(follower.next(&lease, Duration::ZERO), LeaseStep::ReadLog { after: 7 });
        follower.on_log_read(&lease, &page(7, &[]), |_, _| {});
        follower.next(&lease, Duration::ZERO);
        follower.on_acknowledged(&lease, true, Duration::ZERO);
        let now = Timing::DEFAULT.lease;
        assert_eq!(lease.remaining(now), None);
        assert_eq!(follower.next(&lease, now), LeaseStep::Renew { applied: 7, server: server("a") });
        (lease, follower, now)
    }

    #[test]
    fn renewal_without_news_is_one_step_and_counts_from_its_start() {
        let (lease, mut follower, began) = renewing();
        follower.on_renewed(&lease, &page(7, &[]), true, began * 2, |_, _| panic!("nothing to apply"));
        assert_eq!(lease.remaining(began), Some(Timing::DEFAULT.lease));
        assert_eq!(follower.next(&lease, began), LeaseStep::Wait { until: began + Timing::DEFAULT.renewal });
    }

    #[test]
    fn renewal_with_news_extends_the_lease_only_when_it_is_acknowledged() {
        let (lease, mut follower, began) = renewing();
        let mut applied = Vec::new();
        follower.on_renewed(&lease, &page(8, &[(8, KEY)]), true, began, |subject, seq| applied.push((subject, seq)));
        assert_eq!((applied, lease.remaining(began)), (vec![(KEY, 8)], None));
        assert_eq!(follower.next(&lease, began), LeaseStep::Acknowledge { up_to: 8, server: server("a") });
        follower.on_acknowledged(&lease, true, began);
        assert_eq!(lease.remaining(began), Some(Timing::DEFAULT.lease));
    }

    #[test]
    fn renewal_that_finds_a_gap_or_no_row_or_another_server_ends_the_epoch() {
        let elsewhere = LogPage { server: server("b"), ..page(7, &[]) };
        for (page, found) in [(page(9, &[(9, KEY)]), true), (page(7, &[]), false), (elsewhere, false)] {
            let (lease, mut follower, now) = renewing();
            follower.on_renewed(&lease, &page, found, now, |_, _| panic!("nothing to apply"));
            assert_eq!(follower.next(&lease, now), LeaseStep::Register);
            assert_eq!((lease.remaining(now), lease.applied()), (None, None));
        }
    }

    #[test]
    fn notification_and_failure_lead_to_a_read_before_the_heartbeat() {
        let (lease, mut follower, now) = renewing();
        follower.on_failed();
        assert_eq!(follower.next(&lease, now), LeaseStep::ReadLog { after: 7 });
        let (lease, mut follower, now) = renewing();
        follower.on_renewed(&lease, &page(7, &[]), true, now, |_, _| {});
        follower.wake();
        assert_eq!(follower.next(&lease, now), LeaseStep::ReadLog { after: 7 });
    }
}
