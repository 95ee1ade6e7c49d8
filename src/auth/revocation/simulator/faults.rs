//! The schedule of a run: requests, invalidations and faults.

use rand::RngExt;

use super::{
    protocol::subjects,
    simulation::{DURATION, MILLI, NODES, SECOND, Simulation},
};

const REQUESTS: usize = 150;
const REQUESTS_AROUND_REVOCATION: usize = 24;
const REVOCATIONS: usize = 10;
const FAULTS: usize = 14;
/// Number of credentials. Two share an issuer, and four share a project.
const CREDENTIALS: usize = 64;

impl Simulation {
    pub(super) fn plan(&mut self) {
        for node in 0..NODES {
            self.boot(node);
        }
        for _ in 0..REQUESTS {
            let at = self.random.random_range(0..DURATION);
            let credential = self.credential(at);
            self.request_at(at, credential);
        }
        for _ in 0..REVOCATIONS {
            let at = self.random.random_range(2 * SECOND..DURATION);
            let credential = self.credential(at);
            let subject = subjects(credential)[self.random.random_range(0..3)];
            let times = if self.random.random_bool(0.3) { 2 } else { 1 };
            for _ in 0..times {
                let node = self.random.random_range(0..NODES);
                let delay = self.random.random_range(0..300 * MILLI);
                self.schedule_at(at + delay, None, Box::new(move |simulation| simulation.revoke(node, subject)));
            }
            // Before, so that the credential is cached, and after, when the cache entry must not be valid.
            for _ in 0..REQUESTS_AROUND_REVOCATION {
                let around = self.random.random_range(at - 2 * SECOND..at + 6 * SECOND);
                self.request_at(around, credential);
            }
        }
        self.replay();
        if self.random.random_bool(0.5) {
            let at = self.random.random_range(2 * SECOND..DURATION - 5 * SECOND);
            self.schedule_at(at, None, Box::new(Self::fail_over));
        }
        for _ in 0..FAULTS {
            let at = self.random.random_range(0..DURATION);
            let node = self.random.random_range(0..NODES);
            self.schedule_at(at, None, Box::new(move |simulation| simulation.inject_fault(node)));
        }
    }

    /// A few credentials at a time, so that each is used repeatedly, also after its revocation.
    pub(super) fn credential(&mut self, at: u64) -> usize {
        let group = (at / (DURATION / 10)) as usize * 4;
        (group + self.random.random_range(0..8)) % CREDENTIALS
    }

    pub(super) fn request_at(&mut self, at: u64, credential: usize) {
        let node = self.random.random_range(0..NODES);
        self.schedule_at(at, None, Box::new(move |simulation| simulation.request(node, credential)));
    }

    pub(super) fn inject_fault(&mut self, node: usize) {
        let length = match self.random.random_range(0..10) {
            0..5 => self.random.random_range(MILLI..SECOND),
            5..9 => self.random.random_range(SECOND..5 * SECOND),
            _ => self.random.random_range(5 * SECOND..15 * SECOND),
        };
        let until = self.now + length;
        match self.random.random_range(0..18) {
            0..4 => self.nodes[node].paused_until = until,
            10 => self.pause_mid_request(node),
            12 => self.suspend_janitor(node),
            13 => self.misroute(node, until),
            14 => self.servers.replay_stopped_until = until,
            15 => self.hold_snapshot(node),
            17 => self.revoke_beside_old_snapshot(node),
            16 => {
                self.servers.replay_stopped_until = until;
                self.misroute(node, until);
            }
            11 => {
                // A network that becomes slow and then fails.
                let slow_until = self.now + self.random.random_range(200 * MILLI..3 * SECOND);
                self.nodes[node].slow_until = slow_until;
                self.schedule_at(
                    slow_until,
                    None,
                    Box::new(move |simulation| {
                        let until = simulation.now + 4 * SECOND;
                        (simulation.nodes[node].outbound_lost_until, simulation.nodes[node].inbound_lost_until) =
                            (until, until);
                    }),
                );
            }
            4 => self.nodes[node].outbound_lost_until = until,
            5 => self.nodes[node].inbound_lost_until = until,
            6 => (self.nodes[node].outbound_lost_until, self.nodes[node].inbound_lost_until) = (until, until),
            7 => self.servers.primary().prune(3),
            _ => self.kill(node),
        }
    }

    /// Pauses a node in the middle of its work until the other nodes remove it. Meanwhile, the credentials of its
    /// requests are revoked.
    pub(super) fn pause_mid_request(&mut self, node: usize) {
        let credential = self.credential(self.now);
        for _ in 0..12 {
            self.request(node, credential);
        }
        let begin = self.now + self.random.random_range(0..4 * MILLI);
        let until = self.now + self.random.random_range(7 * SECOND..10 * SECOND);
        self.schedule_at(begin, None, Box::new(move |simulation| simulation.nodes[node].paused_until = until));
        let other = (node + 1) % NODES;
        let subject = subjects(credential)[self.random.random_range(0..3)];
        self.schedule_at(self.now + SECOND, None, Box::new(move |simulation| simulation.revoke(other, subject)));
        for _ in 0..12 {
            let at = until + self.random.random_range(0..SECOND);
            self.schedule_at(at, None, Box::new(move |simulation| simulation.request(node, credential)));
        }
    }

    /// Revokes a credential at a node of which a connection keeps an old snapshot, and uses it there.
    fn revoke_beside_old_snapshot(&mut self, node: usize) {
        let credential = self.credential(self.now);
        let subject = subjects(credential)[self.random.random_range(0..3)];
        self.hold_snapshot(node);
        self.schedule_at(self.now + MILLI, None, Box::new(move |simulation| simulation.revoke(node, subject)));
        for _ in 0..12 {
            let at = self.now + self.random.random_range(MILLI..SECOND);
            self.schedule_at(at, None, Box::new(move |simulation| simulation.request(node, credential)));
        }
    }

    /// Suspends one node's janitor for a while, during which another node restarts.
    pub(super) fn suspend_janitor(&mut self, node: usize) {
        let (victim, third) = ((node + 1) % NODES, (node + 2) % NODES);
        let back = self.now + self.random.random_range(6600 * MILLI..9 * SECOND);
        (self.nodes[node].outbound_lost_until, self.nodes[node].inbound_lost_until) = (back, back);
        let killed = self.random.random_range(self.now..back);
        self.schedule_at(killed, None, Box::new(move |simulation| simulation.kill(victim)));
        for _ in 0..4 {
            let credential = self.credential(back);
            let at = back + self.random.random_range(0..2 * SECOND);
            let subject = subjects(credential)[0];
            self.schedule_at(at, None, Box::new(move |simulation| simulation.revoke(third, subject)));
            for _ in 0..8 {
                let around = self.random.random_range(at - SECOND..at + SECOND);
                self.schedule_at(around, None, Box::new(move |simulation| simulation.request(victim, credential)));
            }
        }
    }
}
