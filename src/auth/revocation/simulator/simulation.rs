//! Simulated time, nodes and network. Every event is a closure in one queue. Events of a node are delayed while the
//! node is paused, and lost when it is killed.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    ProtocolBug,
    db::Db,
    servers::{Connection, Kind, Servers},
};
use crate::{
    auth::revocation::{
        cache::Cache,
        janitor::Janitor,
        lease::{Follower, Timing},
    },
    base::identity::subject::Subject,
    db::ServerId,
};

pub const NODES: usize = 3;
pub const MILLI: u64 = 1000;
pub const SECOND: u64 = 1000 * MILLI;
/// Duration of a run, in microseconds.
pub const DURATION: u64 = 25 * SECOND;
/// Timeout of a database statement.
const STATEMENT_TIMEOUT: u64 = SECOND;

type Action = Box<dyn FnOnce(&mut Simulation)>;
/// A node and the number of its incarnation. Events of an earlier incarnation are dropped.
type Owner = Option<(usize, u32)>;

/// One run.
pub struct Simulation {
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), (Owner, Action)>,
    pub(super) event_count: u64,
    pub(super) random: StdRng,
    pub(super) timing: Timing,
    pub(super) bug: Option<ProtocolBug>,
    pub(super) servers: Servers,
    pub(super) nodes: Vec<Node>,
    /// Time of the first confirmation of each invalidation.
    pub(super) confirmations: Vec<(Subject, u64)>,
    pub violations: Vec<String>,
    pub accepted: u64,
    pub hits: u64,
    pub confirmed: u64,
    pub confirmed_by_time: u64,
    /// Lookups whose results did not count.
    pub rejected: u64,
}

pub struct Node {
    /// Number of the incarnation.
    pub(super) incarnation: u32,
    /// Speed of the clock, and its initial value.
    pub(super) rate: f64,
    pub(super) offset: u64,
    pub(super) paused_until: u64,
    /// Times until which messages from the node and to the node are lost.
    pub(super) outbound_lost_until: u64,
    pub(super) inbound_lost_until: u64,
    /// Time until which messages from the node are slow.
    pub(super) slow_until: u64,
    pub(super) follower: Follower,
    /// Current rest, if the node rests, and whether a notification arrived while it did not.
    pub(super) rest: Option<u64>,
    pub(super) has_notification: bool,
    pub(super) cache: Arc<Cache<usize, bool>>,
    pub(super) janitor: Janitor<usize>,
    /// Whether a renewal has read the stamps since the janitor's last round.
    pub(super) has_stamps: bool,
    /// For [`ProtocolBug::FlagClearedByTimer`].
    pub(super) flag: bool,
    /// Server of the keeper's connection, if there is one, and of a new connection.
    pub(super) keeper: Option<usize>,
    pub(super) keeper_route: usize,
    /// The same for the pool.
    pub(super) pool: [Connection; 2],
    pub(super) pool_route: usize,
}

/// A connection of a node.
#[derive(Clone, Copy)]
pub enum Via {
    Keeper,
    Pool(usize),
}

impl Simulation {
    /// Simulates one run.
    pub fn run(seed: u64, bug: Option<ProtocolBug>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut timing = Timing::DEFAULT;
        if bug == Some(ProtocolBug::WaitTooShort) {
            timing.wait = timing.lease / 2;
        }
        let nodes = (0..NODES)
            .map(|_| Node {
                incarnation: 0,
                rate: random.random_range(0.98..1.02),
                offset: random.random_range(0..1000 * SECOND),
                paused_until: 0,
                outbound_lost_until: 0,
                inbound_lost_until: 0,
                slow_until: 0,
                follower: Follower::new(timing),
                rest: None,
                has_notification: false,
                cache: Arc::new(Cache::with_bug(bug)),
                janitor: Janitor::new(timing),
                has_stamps: false,
                flag: false,
                keeper: None,
                keeper_route: 0,
                pool: Default::default(),
                pool_route: 0,
            })
            .collect();
        let mut simulation = Self {
            now: 0,
            queue: BTreeMap::new(),
            event_count: 0,
            random,
            timing,
            bug,
            servers: Servers::new(bug),
            nodes,
            confirmations: Vec::new(),
            violations: Vec::new(),
            accepted: 0,
            hits: 0,
            confirmed: 0,
            confirmed_by_time: 0,
            rejected: 0,
        };
        simulation.plan();
        while let Some(((at, _), (owner, action))) = simulation.queue.pop_first() {
            if at > DURATION {
                break;
            }
            simulation.now = at;
            match owner {
                Some((node, incarnation)) if simulation.nodes[node].incarnation != incarnation => {}
                Some((node, _)) if simulation.nodes[node].paused_until > at => {
                    // Delayed events happen when the node continues, in any order.
                    let late = if simulation.random.random_bool(0.2) { 200 * MILLI } else { 200 };
                    let again = simulation.nodes[node].paused_until + simulation.random.random_range(0..late);
                    simulation.schedule_at(again, owner, action);
                }
                _ => action(&mut simulation),
            }
        }
        simulation
    }

    pub(super) fn kill(&mut self, node: usize) {
        let (timing, bug) = (self.timing, self.bug);
        let dead = &mut self.nodes[node];
        dead.incarnation += 1;
        dead.paused_until = 0;
        dead.follower = Follower::new(timing);
        (dead.rest, dead.has_notification) = (None, false);
        dead.cache = Arc::new(Cache::with_bug(bug));
        dead.janitor = Janitor::new(timing);
        dead.has_stamps = false;
        dead.flag = false;
        dead.keeper = None;
        for connection in 0..2 {
            self.reconnect(node, connection);
        }
        let down = self.random.random_range(0..2 * SECOND);
        self.schedule_in(node, down, move |simulation| simulation.boot(node));
    }

    pub(super) fn boot(&mut self, node: usize) {
        self.schedule_in(node, 0, move |simulation| simulation.run_lease_step(node));
        self.schedule_in(node, SECOND, move |simulation| simulation.run_janitor(node));
        self.schedule_in(node, SECOND, move |simulation| simulation.sweep(node));
    }

    pub(super) fn schedule_at(&mut self, at: u64, owner: Owner, action: Action) {
        self.event_count += 1;
        self.queue.insert((at, self.event_count), (owner, action));
    }

    /// Schedules an event of a node.
    pub(super) fn schedule_in(&mut self, node: usize, after: u64, action: impl FnOnce(&mut Self) + 'static) {
        let (at, incarnation) = (self.now + after, self.nodes[node].incarnation);
        self.schedule_at(at, Some((node, incarnation)), Box::new(action));
    }

    /// Schedules a node's next step: a short time later, or much later if the node is paused just then.
    pub(super) fn schedule_soon(&mut self, node: usize, action: impl FnOnce(&mut Self) + 'static) {
        let after = self.step_delay();
        if self.random.random_bool(0.004) {
            let pause = self.random.random_range(10 * MILLI..5 * SECOND);
            self.nodes[node].paused_until = self.nodes[node].paused_until.max(self.now + pause);
        }
        self.schedule_in(node, after, action);
    }

    /// Time until a thread's next step. Some threads are delayed while others run.
    pub(super) fn step_delay(&mut self) -> u64 {
        match self.random.random_range(0..30) {
            0 => self.random.random_range(1..150 * MILLI),
            _ => self.random.random_range(1..100),
        }
    }

    /// A random connection of the pool.
    pub(super) fn any_connection(&mut self) -> usize {
        self.random.random_range(0..2)
    }

    /// Sends a statement to the database. `then` receives the response, or nothing after the timeout. A statement
    /// without a response may still be executed, even late. A connection without a response is closed.
    pub(super) fn query<A: 'static>(
        &mut self,
        node: usize,
        via: Via,
        kind: Kind,
        ask: impl FnOnce(&mut Db, &ServerId) -> A + 'static,
        then: impl FnOnce(&mut Self, Option<A>) + 'static,
    ) {
        let then = move |simulation: &mut Self, response: Option<A>| {
            if response.is_none() {
                match via {
                    Via::Keeper => simulation.nodes[node].keeper = None,
                    Via::Pool(connection) => simulation.reconnect(node, connection),
                }
            }
            then(simulation, response);
        };
        let server = match via {
            Via::Keeper => {
                let route = self.nodes[node].keeper_route;
                *self.nodes[node].keeper.get_or_insert(route)
            }
            Via::Pool(connection) => self.nodes[node].pool[connection].to,
        };
        // The current snapshot: the connection may have been replaced when the statement runs.
        let snapshot = match via {
            Via::Pool(connection) if kind == Kind::Read => self.nodes[node].pool[connection].snapshot.clone(),
            _ => None,
        };
        let then = Rc::new(RefCell::new(Some(then)));
        let on_timeout = Rc::clone(&then);
        self.schedule_in(node, STATEMENT_TIMEOUT, move |simulation| {
            let then = on_timeout.borrow_mut().take();
            if let Some(then) = then {
                then(simulation, None);
            }
        });
        if self.nodes[node].outbound_lost_until > self.now {
            return;
        }
        let (incarnation, there, back) = (self.nodes[node].incarnation, self.latency(node), self.latency(node));
        self.schedule_at(
            self.now + there,
            None,
            Box::new(move |simulation| {
                let is_canceled = simulation.random.random_bool(0.6);
                let ask = |db: &mut Db, id: &ServerId| match snapshot {
                    Some(mut snapshot) => ask(&mut snapshot, id),
                    None => ask(db, id),
                };
                let Some(response) = simulation.servers.run(server, kind, is_canceled, ask) else { return };
                if simulation.nodes[node].inbound_lost_until > simulation.now
                    || simulation.nodes[node].incarnation != incarnation
                {
                    return;
                }
                simulation.schedule_in(node, back, move |simulation| {
                    let then = then.borrow_mut().take();
                    if let Some(then) = then {
                        then(simulation, Some(response));
                    }
                });
            }),
        );
    }

    pub(super) fn latency(&mut self, node: usize) -> u64 {
        if self.nodes[node].slow_until > self.now {
            return self.random.random_range(50 * MILLI..500 * MILLI);
        }
        match self.random.random_range(0..20) {
            0 => self.random.random_range(5 * MILLI..1500 * MILLI),
            _ => self.random.random_range(100..3 * MILLI),
        }
    }

    pub(super) fn clock(&self, node: usize) -> Duration {
        let Node { rate, offset, .. } = self.nodes[node];
        Duration::from_micros(offset + (self.now as f64 * rate) as u64)
    }

    /// Simulated time until a time on a node's clock.
    pub(super) fn until(&self, node: usize, time: Duration) -> u64 {
        let left = time.saturating_sub(self.clock(node)).as_micros() as f64;
        (left / self.nodes[node].rate) as u64 + 1
    }
}
