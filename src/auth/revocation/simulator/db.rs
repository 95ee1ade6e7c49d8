//! A model of PostgreSQL that runs one statement after the other.

use std::collections::{BTreeMap, HashSet};

use super::ProtocolBug;
use crate::{auth::revocation::lease::LogPage, base::identity::subject::Subject, db::ServerId};

/// The tables of the protocol.
#[derive(Clone, Debug, Default)]
pub struct Db {
    /// `auth_clock`, and the sequence of stamps.
    clock: i64,
    stamps: i64,
    log: BTreeMap<i64, Subject>,
    /// `auth_nodes`: stamp and acknowledged number.
    nodes: BTreeMap<usize, (i64, i64)>,
    /// Revoked subjects.
    revoked: HashSet<Subject>,
    bug: Option<ProtocolBug>,
}

impl Db {
    pub fn new(bug: Option<ProtocolBug>) -> Self {
        Self { bug, ..Self::default() }
    }

    pub fn register(&mut self, node: usize) {
        let stamp = if self.bug == Some(ProtocolBug::StampRestarts) { 1 } else { self.next_stamp() };
        self.nodes.insert(node, (stamp, 0));
    }

    fn next_stamp(&mut self) -> i64 {
        self.stamps += 1;
        self.stamps
    }

    pub fn clock(&self) -> i64 {
        if self.bug == Some(ProtocolBug::SequenceForLog) {
            return self.log.keys().next_back().copied().unwrap_or_default();
        }
        self.clock
    }

    pub fn read_log(&self, server: &ServerId, after: i64) -> LogPage {
        let invalidations = self.log.range(after + 1..).map(|(seq, subject)| (*seq, *subject)).collect();
        LogPage { server: server.clone(), clock: self.clock(), invalidations }
    }

    /// Returns whether the node's row exists.
    pub fn acknowledge(&mut self, node: usize, up_to: i64) -> bool {
        let fresh = self.next_stamp();
        let by_itself = self.bug == Some(ProtocolBug::StampRestarts);
        let Some((stamp, acked)) = self.nodes.get_mut(&node) else { return false };
        (*stamp, *acked) = (if by_itself { *stamp + 1 } else { fresh }, up_to);
        true
    }

    /// Acknowledges `applied` if `is_same_server`, and reads the log after it. Also returns whether the node's row exists.
    pub fn renew(&mut self, node: usize, applied: i64, is_same_server: bool, server: &ServerId) -> (LogPage, bool) {
        let page = self.read_log(server, applied);
        let up_to = if self.bug == Some(ProtocolBug::RenewalAcknowledgesUnread) { page.clock } else { applied };
        let found = is_same_server && self.acknowledge(node, up_to);
        (page, found)
    }

    /// Takes a number for a transaction that commits later.
    pub fn next_number(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    /// Revokes a subject: the effect and the log entry, in one commit. The correct protocol takes the number under a
    /// lock that is held until the commit, which is equivalent to taking it here.
    pub fn revoke(&mut self, subject: Subject, number: Option<i64>) -> i64 {
        let seq = number.unwrap_or_else(|| self.next_number());
        self.revoked.insert(subject);
        self.log.insert(seq, subject);
        seq
    }

    pub fn is_revoked(&self, subject: Subject) -> bool {
        self.revoked.contains(&subject)
    }

    /// Whether every node except `own` has acknowledged `seq`.
    pub fn is_acknowledged(&self, seq: i64, own: Option<usize>) -> bool {
        self.nodes.iter().all(|(node, (_, acked))| Some(*node) == own || *acked >= seq)
    }

    pub fn rows(&self) -> Vec<(usize, i64)> {
        self.nodes.iter().map(|(node, (stamp, _))| (*node, *stamp)).collect()
    }

    pub fn remove(&mut self, node: usize, seen: i64) {
        if self.nodes.get(&node).is_some_and(|(stamp, _)| *stamp == seen) {
            self.nodes.remove(&node);
        }
    }

    /// Removes all log entries except the newest `keep`.
    pub fn prune(&mut self, keep: usize) {
        while self.log.len() > keep {
            self.log.pop_first();
        }
    }
}
