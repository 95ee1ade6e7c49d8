//! What a node does: it follows the log, answers requests and recalls what it is told to.

use std::{sync::Arc, time::Duration};

use rand::RngExt;

use super::{
    Mistake,
    db::Db,
    world::{MILLI, NODES, SECOND, World},
};
use crate::{
    auth::lease::{Mark, Pass, Step},
    base::{
        id::{KeyId, ProjectId, TokenId},
        subject::Subject,
    },
};

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
                    move |db| db.register(node),
                    move |world, answer| {
                        if answer.is_some() {
                            world.nodes[node].follower.registered();
                        }
                        done(world, answer.is_some());
                    },
                );
            }
            Step::ReadClock => self.ask(
                node,
                |db| db.clock(),
                move |world, answer| {
                    if let Some(seq) = answer {
                        world.nodes[node].follower.began(cache.lease(), seq);
                    }
                    done(world, answer.is_some());
                },
            ),
            Step::ReadLog { after } => self.ask(
                node,
                move |db| db.read_log(after),
                move |world, answer| {
                    if let Some(page) = &answer {
                        let recall = |subject, seq| cache.recall(subject, seq);
                        world.nodes[node].follower.read(cache.lease(), page, recall);
                    }
                    done(world, answer.is_some());
                },
            ),
            Step::Acknowledge { up_to } => {
                self.ask(
                    node,
                    move |db| db.acknowledge(node, up_to),
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
            // A renewal has set it anew meanwhile, unless there was none.
            let now = world.clock(node);
            if world.nodes[node].cache.lease().pass(now).is_none() {
                world.nodes[node].flag = false;
            }
        });
    }

    /// The node's janitor.
    pub(super) fn clean(&mut self, node: usize) {
        self.ask(
            node,
            |db| db.rows(),
            move |world, rows| {
                let now = world.clock(node);
                for (gone, stamp) in rows.map(|rows| world.nodes[node].janitor.look(now, &rows)).unwrap_or_default() {
                    world.ask(node, move |db| db.remove(gone, stamp), |_, _| {});
                }
                world.act(node, SECOND, move |world| world.clean(node));
            },
        );
    }

    pub(super) fn sweep(&mut self, node: usize) {
        self.nodes[node].cache.sweep();
        self.act(node, 3 * SECOND, move |world| world.sweep(node));
    }

    /// A request that shows a credential.
    pub(super) fn request(&mut self, node: usize, credential: usize) {
        let began = self.now;
        self.soon(node, move |world| world.look(node, credential, began));
    }

    pub(super) fn look(&mut self, node: usize, credential: usize, began: u64) {
        let cache = Arc::clone(&self.nodes[node].cache);
        let forged = Pass { epoch: cache.lease().mark().map_or(0, |mark| mark.epoch) };
        if self.mistake == Some(Mistake::CacheBeforeLease) {
            let entry = cache.find(&forged, &credential);
            self.soon(node, move |world| {
                let is_good = cache.lease().pass(world.clock(node)).is_some();
                match entry.filter(|_| is_good) {
                    Some(entry) => world.judge(credential, began, entry.value, true),
                    None => world.ask_database(node, credential, began),
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
            None => world.ask_database(node, credential, began),
        });
    }

    pub(super) fn ask_database(&mut self, node: usize, credential: usize, began: u64) {
        let cache = Arc::clone(&self.nodes[node].cache);
        let mark: Option<Mark> = cache.lease().mark();
        self.soon(node, move |world| {
            let subjects = subjects(credential);
            let read = move |db: &mut Db| subjects.iter().all(|subject| !db.has_ended(*subject));
            world.ask(node, read, move |world, answer| {
                let Some(is_live) = answer else { return };
                world.judge(credential, began, is_live, false);
                // What is not live is not remembered.
                if let (Some(mark), true) = (mark, is_live) {
                    world.soon(node, move |_| {
                        cache.fill(mark, credential, is_live, &subjects);
                    });
                }
            });
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
                self.violations.push(format!("{credential} accepted at {began}, ended by {subject} at {confirmed}"));
            }
        }
    }

    /// A DELETE, say.
    pub(super) fn recall(&mut self, node: usize, subject: Subject) {
        self.soon(node, move |world| {
            let mistake = world.mistake;
            let ended = move |world: &mut Self, answer: Option<(i64, bool)>| {
                // Otherwise it is unconfirmed, and nobody was told anything.
                let Some((seq, again)) = answer else { return };
                world.nodes[node].cache.recall(subject, seq);
                let committed = world.clock(node);
                if again && mistake == Some(Mistake::RepeatDoesNotWait) {
                    return world.confirm(subject);
                }
                world.soon(node, move |world| world.wait(node, subject, seq, committed));
            };
            if mistake == Some(Mistake::SequenceForLog) {
                // Numbered when the statement ran, visible when it committed.
                world.ask(node, Db::number, move |world, number| {
                    let Some(number) = number else { return };
                    world.ask(node, move |db| (db.end(subject, Some(number)), false), ended);
                });
            } else {
                world.ask(
                    node,
                    move |db| {
                        let again = db.has_ended(subject);
                        (db.end(subject, None), again)
                    },
                    ended,
                );
            }
            world.notify();
        });
    }

    /// Wakes the nodes, if the news reaches them.
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

    pub(super) fn wait(&mut self, node: usize, subject: Subject, seq: i64, committed: Duration) {
        if self.clock(node).saturating_sub(committed) >= self.timing.wait {
            self.confirmed_by_time += 1;
            return self.confirm(subject);
        }
        self.ask(
            node,
            move |db| db.is_acknowledged(seq, node),
            move |world, answer| {
                if answer == Some(true) {
                    world.confirm(subject);
                } else {
                    world.act(node, 40 * MILLI, move |world| world.wait(node, subject, seq, committed));
                }
            },
        );
    }

    pub(super) fn confirm(&mut self, subject: Subject) {
        self.confirmed += 1;
        self.confirmations.push((subject, self.now));
    }
}

/// What a credential rests on.
pub fn subjects(credential: usize) -> [Subject; 3] {
    let number = credential as u128;
    [
        Subject::Token(TokenId::from_u128(number + 1)),
        Subject::Key(KeyId::from_u128(number / 2 + 1)),
        Subject::Project(ProjectId::from_u128(number / 4 + 1)),
    ]
}
