//! Behavior of a node: it follows the log, serves requests and invalidates credentials.

use std::{sync::Arc, time::Duration};

use rand::RngExt;

use super::{
    Mistake,
    db::Db,
    servers::Kind,
    world::{MILLI, NODES, SECOND, Via, World},
};
use crate::{
    auth::lease::{Pass, ReadVersion, Step},
    base::{
        id::{KeyId, ProjectId, TokenId},
        subject::Subject,
    },
    db::Stamp,
};

/// Number of connections on which a lookup is tried, and of checks for a heartbeat before a request is rejected.
const ATTEMPTS: u32 = 3;
const HEARTBEATS: u32 = 4;

/// A request with a credential.
#[derive(Clone, Copy)]
pub struct Request {
    node: usize,
    credential: usize,
    began: u64,
}

impl World {
    /// The node's loop.
    pub(super) fn follow(&mut self, node: usize) {
        let now = self.clock(node);
        let cache = Arc::clone(&self.nodes[node].cache);
        let step = self.nodes[node].follower.next(cache.lease(), now);
        let done = move |world: &mut Self, is_done: bool| {
            if !is_done {
                world.nodes[node].follower.failed();
            }
            world.soon(node, move |world| world.follow(node));
        };
        match step {
            Step::Register => {
                self.nodes[node].flag = false;
                self.ask(
                    node,
                    Via::Keeper,
                    Kind::Write,
                    move |db, server| {
                        db.register(node);
                        server.clone()
                    },
                    move |world, answer| {
                        let is_done = answer.is_some();
                        if let Some(server) = answer {
                            world.nodes[node].follower.registered(server);
                        }
                        done(world, is_done);
                    },
                );
            }
            Step::ReadClock => self.ask(
                node,
                Via::Keeper,
                Kind::Read,
                |db, server| Stamp { server: server.clone(), seq: db.clock() },
                move |world, answer| {
                    let is_done = answer.is_some();
                    if let Some(clock) = answer {
                        world.nodes[node].follower.began(cache.lease(), clock);
                    }
                    done(world, is_done);
                },
            ),
            Step::ReadLog { after } => self.ask(
                node,
                Via::Keeper,
                Kind::Read,
                move |db, server| db.read_log(server, after),
                move |world, answer| {
                    if let Some(page) = &answer {
                        let recall = |subject, seq| cache.recall(subject, seq);
                        world.nodes[node].follower.read(cache.lease(), page, recall);
                    }
                    done(world, answer.is_some());
                },
            ),
            Step::Acknowledge { up_to, server } => {
                self.ask(
                    node,
                    Via::Keeper,
                    Kind::Write,
                    move |db, here| server == *here && db.acknowledge(node, up_to),
                    move |world, answer| {
                        if let Some(found) = answer {
                            let now = world.clock(node);
                            world.nodes[node].follower.acknowledged(cache.lease(), found, now);
                            world.set_flag(node, found);
                        }
                        done(world, answer.is_some());
                    },
                );
            }
            Step::Rest { .. } if std::mem::take(&mut self.nodes[node].has_news) => self.wake(node),
            Step::Rest { until } => {
                let (after, rest) = (self.until(node, until), self.entered);
                self.nodes[node].rest = Some(rest);
                self.act(node, after, move |world| {
                    if world.nodes[node].rest == Some(rest) {
                        world.nodes[node].rest = None;
                        world.follow(node);
                    }
                });
            }
        }
    }

    pub(super) fn wake(&mut self, node: usize) {
        self.nodes[node].follower.woken();
        self.follow(node);
    }

    pub(super) fn set_flag(&mut self, node: usize, found: bool) {
        self.nodes[node].flag = found;
        let lease = self.timing.lease.as_micros() as u64;
        self.act(node, lease, move |world| {
            // The flag stays set if the lease was renewed meanwhile.
            let now = world.clock(node);
            if world.nodes[node].cache.lease().pass(now).is_none() {
                world.nodes[node].flag = false;
            }
        });
    }

    /// The node's janitor.
    pub(super) fn clean(&mut self, node: usize) {
        let via = Via::Pool(self.any_connection());
        self.ask(
            node,
            via,
            Kind::Read,
            |db, server| (db.rows(), server.clone()),
            move |world, answer| {
                let now = world.clock(node);
                if let Some((rows, server)) = answer {
                    for (gone, stamp) in world.nodes[node].janitor.look(now, &rows) {
                        // On the same connection, because two servers can have equal stamps.
                        let same = server.clone();
                        let remove = move |db: &mut Db, here: &_| {
                            if same == *here {
                                db.remove(gone, stamp);
                            }
                        };
                        world.ask(node, via, Kind::Write, remove, |_, _| {});
                    }
                }
                world.act(node, SECOND, move |world| world.clean(node));
            },
        );
    }

    pub(super) fn sweep(&mut self, node: usize) {
        self.nodes[node].cache.sweep();
        self.act(node, 3 * SECOND, move |world| world.sweep(node));
    }

    /// Starts a request with a credential.
    pub(super) fn request(&mut self, node: usize, credential: usize) {
        let request = Request { node, credential, began: self.now };
        self.soon(node, move |world| world.look(request));
    }

    pub(super) fn look(&mut self, request: Request) {
        let Request { node, credential, began } = request;
        let cache = Arc::clone(&self.nodes[node].cache);
        let forged = Pass { epoch: cache.lease().mark().map_or(0, |mark| mark.epoch) };
        if self.mistake == Some(Mistake::CacheBeforeLease) {
            let entry = cache.find(&forged, &credential);
            self.soon(node, move |world| {
                let is_good = cache.lease().pass(world.clock(node)).is_some();
                match entry.filter(|_| is_good) {
                    Some(entry) => world.judge(credential, began, entry.value, true),
                    None => world.ask_database(request, HEARTBEATS),
                }
            });
            return;
        }
        let pass = match self.mistake {
            Some(Mistake::FlagClearedByTimer) => self.nodes[node].flag.then_some(forged),
            _ => cache.lease().pass(self.clock(node)),
        };
        self.soon(node, move |world| match pass.and_then(|pass| cache.find(&pass, &credential)) {
            Some(entry) => world.judge(credential, began, entry.value, true),
            None => world.ask_database(request, HEARTBEATS),
        });
    }

    /// Continues a request that missed the cache: waits for a heartbeat if there is none, and reads.
    fn ask_database(&mut self, request: Request, heartbeats: u32) {
        let lease = Arc::clone(&self.nodes[request.node].cache);
        match lease.lease().read_version(self.clock(request.node)) {
            None if self.mistake == Some(Mistake::FallbackWithoutHeartbeat) => self.read(request, None, ATTEMPTS),
            None if heartbeats == 0 => {}
            None => self.act(request.node, 400 * MILLI, move |world| world.ask_database(request, heartbeats - 1)),
            version => self.soon(request.node, move |world| world.read(request, version, ATTEMPTS)),
        }
    }

    fn read(&mut self, request: Request, version: Option<ReadVersion>, attempts: u32) {
        let Request { node, credential, began } = request;
        let subjects = subjects(credential);
        let connection = self.any_connection();
        let cache = Arc::clone(&self.nodes[node].cache);
        let read = move |db: &mut Db, server: &_| {
            let is_live = subjects.iter().all(|subject| !db.has_ended(*subject));
            (is_live, Stamp { server: Clone::clone(server), seq: db.clock() })
        };
        self.ask(node, Via::Pool(connection), Kind::Read, read, move |world, answer| {
            let Some((is_live, stamp)) = answer else { return };
            let mark = version.as_ref().map(|version| version.mark);
            let is_admitted = version.is_none_or(|version| match world.mistake {
                Some(Mistake::NoSeqCheck) => version.is_of(&stamp.server),
                Some(Mistake::NoServerCheck) => stamp.seq >= version.mark.applied,
                _ => version.admits(&stamp),
            });
            if is_admitted {
                world.judge(credential, began, is_live, false);
            }
            // Credentials that are not valid are not cached.
            let is_kept = is_admitted || world.mistake == Some(Mistake::RejectedReadCached);
            if let (Some(mark), true) = (mark, is_live && is_kept) {
                world.soon(node, move |_| {
                    cache.fill(mark, credential, is_live, &subjects);
                });
            }
            if !is_admitted {
                world.rejected += 1;
                world.reconnect(node, connection);
                if attempts > 1 {
                    let version = world.nodes[node].cache.lease().read_version(world.clock(node));
                    if version.is_some() {
                        world.soon(node, move |world| world.read(request, version, attempts - 1));
                    }
                }
            }
        });
    }

    pub(super) fn judge(&mut self, credential: usize, began: u64, is_live: bool, is_hit: bool) {
        if !is_live {
            return;
        }
        self.accepted += 1;
        self.hits += u64::from(is_hit);
        let subjects = subjects(credential);
        for (subject, confirmed) in &self.confirmations {
            if subjects.contains(subject) && began > *confirmed {
                self.violations
                    .push(format!("{credential} accepted at {began}, invalidated by {subject} at {confirmed}"));
            }
        }
    }

    /// Revokes a subject, as a DELETE does.
    pub(super) fn recall(&mut self, node: usize, subject: Subject) {
        self.soon(node, move |world| {
            let mistake = world.mistake;
            let via = Via::Pool(world.any_connection());
            let ended = move |world: &mut Self, answer: Option<(Stamp, bool)>| {
                // Without a response, the revocation is unconfirmed.
                let Some((recall, again)) = answer else { return };
                world.nodes[node].cache.recall(subject, recall.seq);
                let committed = world.clock(node);
                if again && mistake == Some(Mistake::RepeatDoesNotWait) {
                    return world.confirm(subject);
                }
                world.soon(node, move |world| world.wait(node, subject, (recall, ATTEMPTS), committed));
            };
            if mistake == Some(Mistake::SequenceForLog) {
                // The number is taken when the statement runs, and is visible after the commit.
                let number = |db: &mut Db, _: &_| db.number();
                world.ask(node, via, Kind::Write, number, move |world, number| {
                    let Some(number) = number else { return };
                    let end = move |db: &mut Db, server: &_| {
                        (Stamp { server: Clone::clone(server), seq: db.end(subject, Some(number)) }, false)
                    };
                    world.ask(node, via, Kind::Write, end, ended);
                });
            } else {
                world.ask(
                    node,
                    via,
                    Kind::Write,
                    move |db, server| {
                        let again = db.has_ended(subject);
                        (Stamp { server: server.clone(), seq: db.end(subject, None) }, again)
                    },
                    ended,
                );
            }
            world.notify();
        });
    }

    /// Wakes the nodes that the notification reaches.
    pub(super) fn notify(&mut self) {
        for node in 0..NODES {
            let after = self.random.random_range(MILLI..20 * MILLI);
            if self.random.random_bool(0.7) {
                self.act(node, after, move |world| match world.nodes[node].rest.take() {
                    _ if world.nodes[node].deaf_until > world.now => {}
                    Some(_) => world.wake(node),
                    None => world.nodes[node].has_news = true,
                });
            }
        }
    }

    /// Waits for the acknowledgments, on a few connections that lead elsewhere, and then for the time to pass.
    pub(super) fn wait(&mut self, node: usize, subject: Subject, recall: (Stamp, u32), committed: Duration) {
        if self.clock(node).saturating_sub(committed) >= self.timing.wait {
            self.confirmed_by_time += 1;
            return self.confirm(subject);
        }
        let (recall, mut attempts) = recall;
        if attempts == 0 {
            return self.act(node, 40 * MILLI, move |world| world.wait(node, subject, (recall, 0), committed));
        }
        let (connection, seq) = (self.any_connection(), recall.seq);
        let is_own = self.nodes[node].cache.lease().vouch_for(&recall);
        let own = (is_own || self.mistake == Some(Mistake::OwnLeaseElsewhere)).then_some(node);
        let read = move |db: &mut Db, server: &_| {
            (db.is_acknowledged(seq, own), Stamp { server: Clone::clone(server), seq: db.clock() })
        };
        self.ask(node, Via::Pool(connection), Kind::Read, read, move |world, answer| {
            let believes_all = world.mistake == Some(Mistake::AcksFromAnotherServer);
            let proves = |stamp: &Stamp| stamp.server == recall.server && stamp.seq >= seq || believes_all;
            match answer {
                Some((true, stamp)) if proves(&stamp) => return world.confirm(subject),
                Some((false, stamp)) if proves(&stamp) => {}
                Some(_) => {
                    attempts -= 1;
                    world.reconnect(node, connection);
                }
                None => {}
            }
            world.act(node, 40 * MILLI, move |world| world.wait(node, subject, (recall, attempts), committed));
        });
    }

    pub(super) fn confirm(&mut self, subject: Subject) {
        self.confirmed += 1;
        self.confirmations.push((subject, self.now));
    }
}

/// The subjects that a credential depends on.
pub fn subjects(credential: usize) -> [Subject; 3] {
    let number = credential as u128;
    [
        Subject::Token(TokenId::from_u128(number + 1)),
        Subject::Key(KeyId::from_u128(number / 2 + 1)),
        Subject::Project(ProjectId::from_u128(number / 4 + 1)),
    ]
}
