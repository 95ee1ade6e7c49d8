//! Two PostgreSQL servers: a primary and its synchronous standby, which replays with a delay and can be promoted while
//! the old primary keeps running. A commit gets a response only if both servers have it.

use rand::RngExt;

use super::{
    ProtocolBug,
    db::Db,
    simulation::{MILLI, SECOND, Simulation},
};
use crate::db::ServerId;

pub const OLD_PRIMARY: usize = 0;
pub const STANDBY: usize = 1;

/// Both servers.
pub struct Servers {
    old_primary: Db,
    /// Visible state of the standby: what it has replayed, or its own state after the promotion.
    standby: Db,
    is_promoted: bool,
    /// Whether the old primary is running.
    is_old_primary_running: bool,
    /// Time until which the standby replays nothing.
    pub replay_stopped_until: u64,
    ids: [ServerId; 3],
}

/// Kind of a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Read,
    Write,
}

/// A connection of a pool.
#[derive(Default)]
pub struct Connection {
    pub to: usize,
    /// The old snapshot that the connection still reads, if a transaction was left open on it.
    pub snapshot: Option<Db>,
}

impl Servers {
    pub fn new(bug: Option<ProtocolBug>) -> Self {
        let ids = ["old", "standby/recovery", "standby"].map(|name| name.to_owned().into());
        let db = Db::new(bug);
        Self {
            standby: db.clone(),
            old_primary: db,
            is_promoted: false,
            is_old_primary_running: true,
            replay_stopped_until: 0,
            ids,
        }
    }

    fn id(&self, server: usize) -> ServerId {
        self.ids[if server == OLD_PRIMARY { 0 } else { 1 + usize::from(self.is_promoted) }].clone()
    }

    pub fn primary(&mut self) -> &mut Db {
        if self.is_promoted { &mut self.standby } else { &mut self.old_primary }
    }

    pub fn is_promoted(&self) -> bool {
        self.is_promoted
    }

    /// Runs a statement. None without a response. `is_canceled`: a commit that waits for the standby is canceled, so it
    /// becomes visible on the old primary only.
    pub fn run<A>(
        &mut self,
        server: usize,
        kind: Kind,
        is_canceled: bool,
        ask: impl FnOnce(&mut Db, &ServerId) -> A,
    ) -> Option<A> {
        let id = self.id(server);
        match (server, kind) {
            (OLD_PRIMARY, _) if !self.is_old_primary_running => None,
            (OLD_PRIMARY, Kind::Write) if self.is_promoted => {
                if is_canceled {
                    ask(&mut self.old_primary, &id);
                }
                None
            }
            (OLD_PRIMARY, _) => Some(ask(&mut self.old_primary, &id)),
            // A standby does not accept writes.
            (_, Kind::Write) if !self.is_promoted => None,
            _ => Some(ask(&mut self.standby, &id)),
        }
    }

    fn replay(&mut self, now: u64) {
        if !self.is_promoted && now >= self.replay_stopped_until {
            self.standby = self.old_primary.clone();
        }
    }
}

impl Simulation {
    /// Whether the standby was promoted.
    pub fn has_failed_over(&self) -> bool {
        self.servers.is_promoted
    }

    /// Lets the standby replay, periodically.
    pub(super) fn replay(&mut self) {
        self.servers.replay(self.now);
        let after = self.random.random_range(MILLI..200 * MILLI);
        self.schedule_at(self.now + after, None, Box::new(Self::replay));
    }

    /// Promotes the standby. Each node's connections follow on their own, some of them never.
    pub(super) fn fail_over(&mut self) {
        if self.servers.is_promoted {
            return;
        }
        // The standby replays everything that it has received before the promotion.
        self.servers.standby = self.servers.old_primary.clone();
        self.servers.is_promoted = true;
        self.servers.is_old_primary_running = self.random.random_bool(0.7);
        for node in 0..self.nodes.len() {
            if let Some(after) = self.reroute_delay() {
                self.schedule_at(self.now + after, None, Box::new(move |simulation| simulation.reroute_keeper(node)));
            }
            if let Some(after) = self.reroute_delay() {
                self.schedule_at(self.now + after, None, Box::new(move |simulation| simulation.reroute_pool(node)));
            }
        }
        if self.servers.is_old_primary_running {
            self.split_brain();
        }
    }

    fn reroute_delay(&mut self) -> Option<u64> {
        match self.random.random_range(0..10) {
            0..4 => Some(self.random.random_range(0..50 * MILLI)),
            4..8 => Some(self.random.random_range(0..4 * SECOND)),
            _ => None,
        }
    }

    fn reroute_keeper(&mut self, node: usize) {
        self.nodes[node].keeper_route = STANDBY;
        if self.random.random_bool(0.7) {
            self.nodes[node].keeper = None;
        }
    }

    fn reroute_pool(&mut self, node: usize) {
        self.nodes[node].pool_route = STANDBY;
        for connection in 0..self.nodes[node].pool.len() {
            if self.random.random_bool(0.5) {
                self.reconnect(node, connection);
            }
        }
    }

    /// Uses and revokes credentials on both servers, which do not know about each other.
    fn split_brain(&mut self) {
        for _ in 0..12 {
            let at = self.now + self.random.random_range(0..4 * SECOND);
            let credential = self.credential(at);
            let subject = super::protocol::subjects(credential)[self.random.random_range(0..3)];
            let node = self.random.random_range(0..self.nodes.len());
            self.schedule_at(at, None, Box::new(move |simulation| simulation.revoke(node, subject)));
            for _ in 0..10 {
                let around = self.now.max(at - self.random.random_range(0..SECOND.min(at)));
                let around = around + self.random.random_range(0..3 * SECOND);
                self.request_at(around, credential);
            }
        }
    }

    /// Makes the connections of a pool lead to the standby for a while, as if a name resolved to it.
    pub(super) fn misroute(&mut self, node: usize, until: u64) {
        self.nodes[node].pool_route = STANDBY;
        self.reconnect(node, 0);
        self.schedule_at(
            until,
            None,
            Box::new(move |simulation| {
                if !simulation.servers.is_promoted() {
                    simulation.nodes[node].pool_route = OLD_PRIMARY;
                }
            }),
        );
    }

    /// Leaves a transaction open on a connection, so that its reads keep the current snapshot.
    pub(super) fn hold_snapshot(&mut self, node: usize) {
        let connection = self.random.random_range(0..self.nodes[node].pool.len());
        let to = self.nodes[node].pool[connection].to;
        let snapshot = self.servers.run(to, Kind::Read, false, |db, _| db.clone());
        self.nodes[node].pool[connection].snapshot = snapshot;
    }

    /// Closes a connection of the pool and opens a new one, which follows the current route.
    pub(super) fn reconnect(&mut self, node: usize, connection: usize) {
        let to = self.nodes[node].pool_route;
        self.nodes[node].pool[connection] = Connection { to, snapshot: None };
    }
}
