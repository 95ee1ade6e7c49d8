//! Simulated time, nodes and network. Every event is a closure in one queue. Events of a node are delayed while the node
//! is paused, and lost when it is killed.

use std::{cell::RefCell, collections::BTreeMap, rc::Rc, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    Mistake,
    db::Db,
    servers::{Connection, Kind, Servers},
};
use crate::{
    auth::{
        cache::Cache,
        janitor::Janitor,
        lease::{Follower, Timing},
    },
    base::subject::Subject,
    db::ServerId,
};

pub const NODES: usize = 3;
pub const MILLI: u64 = 1000;
pub const SECOND: u64 = 1000 * MILLI;
/// Duration of a run, in microseconds.
pub const LENGTH: u64 = 25 * SECOND;
/// Timeout of a database statement.
const PATIENCE: u64 = SECOND;

type Act = Box<dyn FnOnce(&mut World)>;
/// A node and the number of its incarnation. Events of an earlier incarnation are dropped.
type Whose = Option<(usize, u32)>;

/// One run.
pub struct World {
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), (Whose, Act)>,
    pub(super) entered: u64,
    pub(super) random: StdRng,
    pub(super) timing: Timing,
    pub(super) mistake: Option<Mistake>,
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
    pub(super) life: u32,
    /// Speed of the clock, and its initial value.
    pub(super) rate: f64,
    pub(super) offset: u64,
    pub(super) paused_until: u64,
    /// Times until which messages from the node and to the node are lost.
    pub(super) mute_until: u64,
    pub(super) deaf_until: u64,
    /// Time until which messages from the node are slow.
    pub(super) slow_until: u64,
    pub(super) follower: Follower,
    /// Current rest, if the node rests, and whether a notification arrived while it did not.
    pub(super) rest: Option<u64>,
    pub(super) has_news: bool,
    pub(super) cache: Arc<Cache<usize, bool>>,
    pub(super) janitor: Janitor<usize>,
    /// For [`Mistake::FlagClearedByTimer`].
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

impl World {
    /// Simulates one run.
    pub fn run(seed: u64, mistake: Option<Mistake>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut timing = Timing::USUAL;
        if mistake == Some(Mistake::WaitTooShort) {
            timing.wait = timing.lease / 2;
        }
        let nodes = (0..NODES)
            .map(|_| Node {
                life: 0,
                rate: random.random_range(0.98..1.02),
                offset: random.random_range(0..1000 * SECOND),
                paused_until: 0,
                mute_until: 0,
                deaf_until: 0,
                slow_until: 0,
                follower: Follower::new(timing),
                rest: None,
                has_news: false,
                cache: Arc::new(Cache::mistaken(mistake)),
                janitor: Janitor::new(timing),
                flag: false,
                keeper: None,
                keeper_route: 0,
                pool: Default::default(),
                pool_route: 0,
            })
            .collect();
        let mut world = Self {
            now: 0,
            queue: BTreeMap::new(),
            entered: 0,
            random,
            timing,
            mistake,
            servers: Servers::new(mistake),
            nodes,
            confirmations: Vec::new(),
            violations: Vec::new(),
            accepted: 0,
            hits: 0,
            confirmed: 0,
            confirmed_by_time: 0,
            rejected: 0,
        };
        world.plan();
        while let Some(((at, _), (whose, act))) = world.queue.pop_first() {
            if at > LENGTH {
                break;
            }
            world.now = at;
            match whose {
                Some((node, life)) if world.nodes[node].life != life => {}
                Some((node, _)) if world.nodes[node].paused_until > at => {
                    // Delayed events happen when the node continues, in any order.
                    let late = if world.random.random_bool(0.2) { 200 * MILLI } else { 200 };
                    let again = world.nodes[node].paused_until + world.random.random_range(0..late);
                    world.enter(again, whose, act);
                }
                _ => act(&mut world),
            }
        }
        world
    }

    pub(super) fn kill(&mut self, node: usize) {
        let (timing, mistake) = (self.timing, self.mistake);
        let dead = &mut self.nodes[node];
        dead.life += 1;
        dead.paused_until = 0;
        dead.follower = Follower::new(timing);
        (dead.rest, dead.has_news) = (None, false);
        dead.cache = Arc::new(Cache::mistaken(mistake));
        dead.janitor = Janitor::new(timing);
        dead.flag = false;
        dead.keeper = None;
        for connection in 0..2 {
            self.reconnect(node, connection);
        }
        let down = self.random.random_range(0..2 * SECOND);
        self.act(node, down, move |world| world.boot(node));
    }

    pub(super) fn boot(&mut self, node: usize) {
        self.act(node, 0, move |world| world.follow(node));
        self.act(node, SECOND, move |world| world.clean(node));
        self.act(node, SECOND, move |world| world.sweep(node));
    }

    pub(super) fn enter(&mut self, at: u64, whose: Whose, act: Act) {
        self.entered += 1;
        self.queue.insert((at, self.entered), (whose, act));
    }

    /// Schedules an event of a node.
    pub(super) fn act(&mut self, node: usize, after: u64, act: impl FnOnce(&mut Self) + 'static) {
        let (at, life) = (self.now + after, self.nodes[node].life);
        self.enter(at, Some((node, life)), Box::new(act));
    }

    /// Schedules a node's next step: a short time later, or much later if the node is paused just then.
    pub(super) fn soon(&mut self, node: usize, act: impl FnOnce(&mut Self) + 'static) {
        let after = self.moment();
        if self.random.random_bool(0.004) {
            let pause = self.random.random_range(10 * MILLI..5 * SECOND);
            self.nodes[node].paused_until = self.nodes[node].paused_until.max(self.now + pause);
        }
        self.act(node, after, act);
    }

    /// Time until a thread's next step. Some threads are delayed while others run.
    pub(super) fn moment(&mut self) -> u64 {
        match self.random.random_range(0..30) {
            0 => self.random.random_range(1..150 * MILLI),
            _ => self.random.random_range(1..100),
        }
    }

    /// A random connection of the pool.
    pub(super) fn any_connection(&mut self) -> usize {
        self.random.random_range(0..2)
    }

    /// Sends a statement to the database. `then` receives the response, or nothing after the timeout. A statement without
    /// a response may still be executed, even late. A connection without a response is closed.
    pub(super) fn ask<A: 'static>(
        &mut self,
        node: usize,
        via: Via,
        kind: Kind,
        ask: impl FnOnce(&mut Db, &ServerId) -> A + 'static,
        then: impl FnOnce(&mut Self, Option<A>) + 'static,
    ) {
        let then = move |world: &mut Self, answer: Option<A>| {
            if answer.is_none() {
                match via {
                    Via::Keeper => world.nodes[node].keeper = None,
                    Via::Pool(connection) => world.reconnect(node, connection),
                }
            }
            then(world, answer);
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
        let in_vain = Rc::clone(&then);
        self.act(node, PATIENCE, move |world| {
            let then = in_vain.borrow_mut().take();
            if let Some(then) = then {
                then(world, None);
            }
        });
        if self.nodes[node].mute_until > self.now {
            return;
        }
        let (life, way, back) = (self.nodes[node].life, self.way(node), self.way(node));
        self.enter(
            self.now + way,
            None,
            Box::new(move |world| {
                let is_canceled = world.random.random_bool(0.6);
                let ask = |db: &mut Db, id: &ServerId| match snapshot {
                    Some(mut snapshot) => ask(&mut snapshot, id),
                    None => ask(db, id),
                };
                let Some(answer) = world.servers.run(server, kind, is_canceled, ask) else { return };
                if world.nodes[node].deaf_until > world.now || world.nodes[node].life != life {
                    return;
                }
                world.act(node, back, move |world| {
                    let then = then.borrow_mut().take();
                    if let Some(then) = then {
                        then(world, Some(answer));
                    }
                });
            }),
        );
    }

    pub(super) fn way(&mut self, node: usize) -> u64 {
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
