//! Behavior of a node: it follows the log, serves requests and invalidates credentials.

use std::{sync::Arc, time::Duration};

use rand::RngExt;

use super::{
    ProtocolBug,
    db::Db,
    servers::Kind,
    simulation::{MILLI, NODES, SECOND, Simulation, Via},
};
use crate::{
    auth::revocation::lease::{LeaseGuard, LeaseStep, ReadRequirement},
    base::{
        id::{KeyId, ProjectId, TokenId},
        identity::subject::Subject,
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

impl Simulation {
    /// The node's loop.
    pub(super) fn run_lease_step(&mut self, node: usize) {
        let now = self.clock(node);
        let cache = Arc::clone(&self.nodes[node].cache);
        let step = self.nodes[node].follower.next(cache.lease(), now);
        let done = move |simulation: &mut Self, is_done: bool| {
            if !is_done {
                simulation.nodes[node].follower.on_failed();
            }
            simulation.schedule_soon(node, move |simulation| simulation.run_lease_step(node));
        };
        match step {
            LeaseStep::Register => {
                self.nodes[node].flag = false;
                self.query(
                    node,
                    Via::Keeper,
                    Kind::Write,
                    move |db, server| {
                        db.register(node);
                        server.clone()
                    },
                    move |simulation, response| {
                        let is_done = response.is_some();
                        if let Some(server) = response {
                            simulation.nodes[node].follower.on_registered(server);
                        }
                        done(simulation, is_done);
                    },
                );
            }
            LeaseStep::ReadClock => self.query(
                node,
                Via::Keeper,
                Kind::Read,
                |db, server| Stamp { server: server.clone(), seq: db.clock() },
                move |simulation, response| {
                    let is_done = response.is_some();
                    if let Some(clock) = response {
                        simulation.nodes[node].follower.on_clock_read(cache.lease(), clock);
                    }
                    done(simulation, is_done);
                },
            ),
            LeaseStep::Renew { applied, server } => self.query(
                node,
                Via::Keeper,
                Kind::Write,
                move |db, here| (db.renew(node, applied, server == *here, here), db.rows(), here.clone()),
                move |simulation, response| {
                    let is_done = response.is_some();
                    if let Some(((page, found), rows, server)) = response {
                        let now = simulation.clock(node);
                        let invalidate = |subject, seq| cache.invalidate(subject, seq);
                        simulation.nodes[node].follower.on_renewed(cache.lease(), &page, found, now, invalidate);
                        simulation.set_flag(node, found);
                        simulation.nodes[node].has_stamps = true;
                        simulation.remove_dead_nodes(node, &rows, server);
                    }
                    done(simulation, is_done);
                },
            ),
            LeaseStep::ReadLog { after } => self.query(
                node,
                Via::Keeper,
                Kind::Read,
                move |db, server| db.read_log(server, after),
                move |simulation, response| {
                    if let Some(page) = &response {
                        let invalidate = |subject, seq| cache.invalidate(subject, seq);
                        simulation.nodes[node].follower.on_log_read(cache.lease(), page, invalidate);
                    }
                    done(simulation, response.is_some());
                },
            ),
            LeaseStep::Acknowledge { up_to, server } => {
                self.query(
                    node,
                    Via::Keeper,
                    Kind::Write,
                    move |db, here| server == *here && db.acknowledge(node, up_to),
                    move |simulation, response| {
                        if let Some(found) = response {
                            let now = simulation.clock(node);
                            simulation.nodes[node].follower.on_acknowledged(cache.lease(), found, now);
                            simulation.set_flag(node, found);
                        }
                        done(simulation, response.is_some());
                    },
                );
            }
            LeaseStep::Wait { .. } if std::mem::take(&mut self.nodes[node].has_notification) => self.wake(node),
            LeaseStep::Wait { until } => {
                let (after, rest) = (self.until(node, until), self.event_count);
                self.nodes[node].rest = Some(rest);
                self.schedule_in(node, after, move |simulation| {
                    if simulation.nodes[node].rest == Some(rest) {
                        simulation.nodes[node].rest = None;
                        simulation.run_lease_step(node);
                    }
                });
            }
        }
    }

    pub(super) fn wake(&mut self, node: usize) {
        self.nodes[node].follower.wake();
        self.run_lease_step(node);
    }

    pub(super) fn set_flag(&mut self, node: usize, found: bool) {
        self.nodes[node].flag = found;
        let lease = self.timing.lease.as_micros() as u64;
        self.schedule_in(node, lease, move |simulation| {
            // The flag stays set if the lease was renewed meanwhile.
            let now = simulation.clock(node);
            if simulation.nodes[node].cache.lease().guard(now).is_none() {
                simulation.nodes[node].flag = false;
            }
        });
    }

    pub(super) fn sweep(&mut self, node: usize) {
        self.nodes[node].cache.sweep();
        self.schedule_in(node, 3 * SECOND, move |simulation| simulation.sweep(node));
    }

    /// Starts a request with a credential.
    pub(super) fn request(&mut self, node: usize, credential: usize) {
        let request = Request { node, credential, began: self.now };
        self.schedule_soon(node, move |simulation| simulation.check_cache(request));
    }

    pub(super) fn check_cache(&mut self, request: Request) {
        let Request { node, credential, began } = request;
        let cache = Arc::clone(&self.nodes[node].cache);
        let forged = LeaseGuard { epoch: cache.lease().read_version().map_or(0, |version| version.epoch) };
        if self.bug == Some(ProtocolBug::CacheBeforeLease) {
            let entry = cache.find(&forged, &credential);
            self.schedule_soon(node, move |simulation| {
                let is_valid = cache.lease().guard(simulation.clock(node)).is_some();
                match entry.filter(|_| is_valid) {
                    Some(entry) => simulation.record_outcome(credential, began, entry.value, true),
                    None => simulation.read_database(request, HEARTBEATS),
                }
            });
            return;
        }
        let guard = match self.bug {
            Some(ProtocolBug::FlagClearedByTimer) => self.nodes[node].flag.then_some(forged),
            _ => cache.lease().guard(self.clock(node)),
        };
        self.schedule_soon(node, move |simulation| match guard.and_then(|guard| cache.find(&guard, &credential)) {
            Some(entry) => simulation.record_outcome(credential, began, entry.value, true),
            None => simulation.read_database(request, HEARTBEATS),
        });
    }

    /// Continues a request that missed the cache: waits for a heartbeat if there is none, and reads.
    fn read_database(&mut self, request: Request, heartbeats: u32) {
        let lease = Arc::clone(&self.nodes[request.node].cache);
        match lease.lease().read_requirement(self.clock(request.node)) {
            None if self.bug == Some(ProtocolBug::FallbackWithoutHeartbeat) => self.read(request, None, ATTEMPTS),
            None if heartbeats == 0 => {}
            None => self.schedule_in(request.node, 400 * MILLI, move |simulation| {
                simulation.read_database(request, heartbeats - 1);
            }),
            requirement => {
                self.schedule_soon(request.node, move |simulation| simulation.read(request, requirement, ATTEMPTS));
            }
        }
    }

    fn read(&mut self, request: Request, requirement: Option<ReadRequirement>, attempts: u32) {
        let Request { node, credential, began } = request;
        let subjects = subjects(credential);
        let connection = self.any_connection();
        let cache = Arc::clone(&self.nodes[node].cache);
        let read = move |db: &mut Db, server: &_| {
            let is_live = subjects.iter().all(|subject| !db.is_revoked(*subject));
            (is_live, Stamp { server: Clone::clone(server), seq: db.clock() })
        };
        self.query(node, Via::Pool(connection), Kind::Read, read, move |simulation, response| {
            let Some((is_live, stamp)) = response else { return };
            let version = requirement.as_ref().map(|requirement| requirement.version);
            let is_admitted = requirement.is_none_or(|requirement| match simulation.bug {
                Some(ProtocolBug::NoSeqCheck) => requirement.is_on_server(&stamp.server),
                Some(ProtocolBug::NoServerCheck) => stamp.seq >= requirement.version.applied,
                _ => requirement.is_met_by(&stamp),
            });
            if is_admitted {
                simulation.record_outcome(credential, began, is_live, false);
            }
            // Credentials that are not valid are not cached.
            let is_cached = is_admitted || simulation.bug == Some(ProtocolBug::RejectedReadCached);
            if let (Some(version), true) = (version, is_live && is_cached) {
                simulation.schedule_soon(node, move |_| {
                    cache.fill(version, credential, is_live, &subjects);
                });
            }
            if !is_admitted {
                simulation.rejected += 1;
                simulation.reconnect(node, connection);
                if attempts > 1 {
                    let requirement = simulation.nodes[node].cache.lease().read_requirement(simulation.clock(node));
                    if requirement.is_some() {
                        simulation
                            .schedule_soon(node, move |simulation| simulation.read(request, requirement, attempts - 1));
                    }
                }
            }
        });
    }

    pub(super) fn record_outcome(&mut self, credential: usize, began: u64, is_live: bool, is_hit: bool) {
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
    pub(super) fn revoke(&mut self, node: usize, subject: Subject) {
        self.schedule_soon(node, move |simulation| {
            let bug = simulation.bug;
            let via = Via::Pool(simulation.any_connection());
            let ended = move |simulation: &mut Self, response: Option<(Stamp, bool)>| {
                // Without a response, the revocation is unconfirmed.
                let Some((revocation, again)) = response else { return };
                simulation.nodes[node].cache.invalidate(subject, revocation.seq);
                let committed = simulation.clock(node);
                if again && bug == Some(ProtocolBug::RepeatDoesNotWait) {
                    return simulation.confirm(subject);
                }
                simulation.schedule_soon(node, move |simulation| {
                    simulation.wait_for_acknowledgments(node, subject, (revocation, ATTEMPTS), committed);
                });
            };
            if bug == Some(ProtocolBug::SequenceForLog) {
                // The number is taken when the statement runs, and is visible after the commit.
                let number = |db: &mut Db, _: &_| db.next_number();
                simulation.query(node, via, Kind::Write, number, move |simulation, number| {
                    let Some(number) = number else { return };
                    let end = move |db: &mut Db, server: &_| {
                        (Stamp { server: Clone::clone(server), seq: db.revoke(subject, Some(number)) }, false)
                    };
                    simulation.query(node, via, Kind::Write, end, ended);
                });
            } else {
                simulation.query(
                    node,
                    via,
                    Kind::Write,
                    move |db, server| {
                        let again = db.is_revoked(subject);
                        (Stamp { server: server.clone(), seq: db.revoke(subject, None) }, again)
                    },
                    ended,
                );
            }
            simulation.notify();
        });
    }

    /// Wakes the nodes that the notification reaches.
    pub(super) fn notify(&mut self) {
        for node in 0..NODES {
            let after = self.random.random_range(MILLI..20 * MILLI);
            if self.random.random_bool(0.7) {
                self.schedule_in(node, after, move |simulation| match simulation.nodes[node].rest.take() {
                    _ if simulation.nodes[node].inbound_lost_until > simulation.now => {}
                    Some(_) => simulation.wake(node),
                    None => simulation.nodes[node].has_notification = true,
                });
            }
        }
    }

    /// Waits for the acknowledgments, on a few connections that lead elsewhere, and then for the time to pass.
    pub(super) fn wait_for_acknowledgments(
        &mut self,
        node: usize,
        subject: Subject,
        revocation: (Stamp, u32),
        committed: Duration,
    ) {
        if self.clock(node).saturating_sub(committed) >= self.timing.wait {
            self.confirmed_by_time += 1;
            return self.confirm(subject);
        }
        let (revocation, mut attempts) = revocation;
        if attempts == 0 {
            return self.schedule_in(node, 40 * MILLI, move |simulation| {
                simulation.wait_for_acknowledgments(node, subject, (revocation, 0), committed);
            });
        }
        let (connection, seq) = (self.any_connection(), revocation.seq);
        let is_own = self.nodes[node].cache.lease().record_own_revocation(&revocation);
        let own = (is_own || self.bug == Some(ProtocolBug::OwnLeaseElsewhere)).then_some(node);
        let read = move |db: &mut Db, server: &_| {
            (db.is_acknowledged(seq, own), Stamp { server: Clone::clone(server), seq: db.clock() })
        };
        self.query(node, Via::Pool(connection), Kind::Read, read, move |simulation, response| {
            let ignores_server = simulation.bug == Some(ProtocolBug::AcksFromAnotherServer);
            let proves = |stamp: &Stamp| stamp.server == revocation.server && stamp.seq >= seq || ignores_server;
            match response {
                Some((true, stamp)) if proves(&stamp) => return simulation.confirm(subject),
                Some((false, stamp)) if proves(&stamp) => {}
                Some(_) => {
                    attempts -= 1;
                    simulation.reconnect(node, connection);
                }
                None => {}
            }
            simulation.schedule_in(node, 40 * MILLI, move |simulation| {
                simulation.wait_for_acknowledgments(node, subject, (revocation, attempts), committed);
            });
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
