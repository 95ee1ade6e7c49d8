//! Usage: each acknowledged request is counted, each one that was received at most once, for the project and the
//! credential that it was made for, in some month.

mod callers;
mod reports;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures_util::future::{BoxFuture, LocalBoxFuture};

use self::{
    callers::{Caller, Callers},
    reports::Report,
};
use super::{End, Invariant, Verdict};
use crate::{
    client::Client,
    http::{Answer, Request},
    proxy::{Flushes, Proxy},
    world::World,
};

/// So often, and so long after each other, a report that lacks something is asked for again: what a killed server has
/// left behind may be written down later than what it counts now.
const READINGS: usize = 10;
const BETWEEN_READINGS: Duration = Duration::from_millis(500);

/// Enough to see that one was lost or doubled.
const ENOUGH: u64 = 300;

/// How many requests may have been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bounds {
    /// Those whose complete answer says that they count.
    acknowledged: u64,
    /// Those whose complete answer says that they do not.
    refused: u64,
    /// Those of which a first byte left with a valid credential.
    received: u64,
}

impl Bounds {
    fn of<'a>(parts: impl IntoIterator<Item = &'a Self>) -> Self {
        parts.into_iter().fold(Self::default(), |sum, part| Self {
            acknowledged: sum.acknowledged + part.acknowledged,
            refused: sum.refused + part.refused,
            received: sum.received + part.received,
        })
    }

    /// What became of the others is not known.
    fn most(self) -> u64 {
        self.received - self.refused
    }

    fn hold(self, counted: u64) -> bool {
        (self.acknowledged..=self.most()).contains(&counted)
    }
}

impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Self { acknowledged, refused, received } = self;
        write!(f, "{acknowledged} were acknowledged, {received} received and {refused} of those refused")
    }
}

pub struct Counted {
    callers: Callers,
    clients: usize,
    /// What each of the callers was answered.
    tally: Mutex<Vec<Bounds>>,
    /// Answers that nobody should get.
    odd: Mutex<Verdict>,
    flushes: Vec<Arc<Flushes>>,
}

impl Counted {
    /// Also lets every flush of every server be sent twice.
    pub async fn new(world: &World, clients: usize) -> Self {
        let (callers, asked) = Callers::make(world).await;
        let flushes = world.proxies.iter().map(Proxy::double_flushes).collect();
        Self { callers, clients, tally: Mutex::new(asked), odd: Mutex::default(), flushes }
    }

    /// Asks as one of the callers, and takes down that it was.
    async fn ask(&self, client: &mut Client, node: usize, caller: usize, request: &Request) -> Option<Answer> {
        let asked = client.ask_unlogged(node, request).await;
        let bounds = &mut self.tally.lock().unwrap()[caller];
        bounds.received += u64::from(asked.sent);
        if let Some(answer) = &asked.answer {
            *(if counts(answer) { &mut bounds.acknowledged } else { &mut bounds.refused }) += 1;
        }
        asked.answer
    }

    /// What there is so far of the callers for which `belongs` is true.
    fn bounds(&self, belongs: impl Fn(&Caller) -> bool) -> Bounds {
        let tally = self.tally.lock().unwrap();
        Bounds::of(self.callers.all.iter().zip(&*tally).filter(|(caller, _)| belongs(caller)).map(|(_, bounds)| bounds))
    }

    /// Whether PostgreSQL has committed something of each server's that was sent again.
    fn doubled(&self) -> Vec<usize> {
        self.flushes.iter().map(|flushes| flushes.doubled()).collect()
    }

    /// What is reported of a project, once nothing lacks that was acknowledged before, or some time later; and the
    /// bounds that it must be within.
    async fn read_report(&self, client: &mut Client, project: usize) -> (Report, Bounds) {
        let of_project = |caller: &Caller| caller.project == project;
        let acknowledged = self.bounds(of_project).acknowledged;
        let mut readings = 0;
        loop {
            // A report cannot hold the request that asks for it.
            let bounds = Bounds { acknowledged, ..self.bounds(of_project) };
            let report = self.by_month(client, project).await;
            readings += 1;
            if report.requests() >= acknowledged || readings == READINGS {
                return (report, bounds);
            }
            tokio::time::sleep(BETWEEN_READINGS).await;
        }
    }

    /// The same for each credential by itself. What each was acknowledged is `before` anything was read for the check.
    async fn check_callers(
        &self,
        client: &mut Client,
        project: usize,
        (whole, before): (&Report, &[Bounds]),
        verdict: &mut Verdict,
    ) {
        let after = self.tally.lock().unwrap().clone();
        let (by_caller, others) = self.by_caller(client, project, whole).await;
        verdict.require(others == 0, || format!("{others} were counted for credentials that nobody has used"));
        for (caller, counted) in by_caller {
            let bounds = Bounds { acknowledged: before[caller].acknowledged, ..after[caller] };
            let Caller { kind, id, .. } = &self.callers.all[caller];
            verdict.require(bounds.hold(counted), || {
                format!("of a {kind:?}'s requests ({id:?}) {bounds}; {counted} were counted")
            });
        }
    }
}

/// Whether a request with a valid credential counts when this is its answer.
fn counts(answer: &Answer) -> bool {
    !matches!(answer.status, 401 | 429 | 500..)
}

impl Invariant for Counted {
    fn clients(&self) -> usize {
        self.clients
    }

    fn act<'a>(&'a self, client: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(async {
            let (node, question) = (client.any_node(), self.callers.question(client));
            let answer = match question.caller {
                Some(caller) => self.ask(client, node, caller, &question.request).await,
                None => client.ask_unlogged(node, &question.request).await.answer,
            };
            if let Some(answer) = answer {
                let fits = answer.status == 503 || question.expected.contains(&answer.status);
                self.odd.lock().unwrap().require(fits, || format!("{:?} gave {answer:?}", question.request));
            }
            tokio::time::sleep(client.random.millis(1, 8)).await;
        })
    }

    fn is_tried(&self) -> bool {
        self.doubled().iter().all(|doubled| *doubled > 0) && self.bounds(|_| true).acknowledged >= ENOUGH
    }

    fn check<'a>(&'a self, end: &'a End<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = std::mem::take(&mut *self.odd.lock().unwrap());
            reports::all_flushed(end.world).await;
            let before = self.tally.lock().unwrap().clone();
            let mut client = end.world.client(0);
            let (mut all, mut counted, mut late, mut months) = (Bounds::default(), 0, 0, BTreeMap::new());
            for (project, id) in self.callers.projects.iter().enumerate() {
                let (report, bounds) = self.read_report(&mut client, project).await;
                verdict.require(bounds.hold(report.requests()), || {
                    format!("of {id}'s requests {bounds}; {} were counted: {report:?}", report.requests())
                });
                all = Bounds::of([&all, &bounds]);
                counted += report.requests();
                late += report.late;
                self.check_callers(&mut client, project, (&report, &before), &mut verdict).await;
                for (month, requests) in report.months {
                    *months.entry(month).or_insert(0) += requests;
                }
            }
            months.retain(|_, requests| *requests > 0);
            verdict.require(months.len() > 1, || format!("only in {months:?} requests were counted"));
            let doubled = self.doubled();
            verdict.require(doubled.iter().all(|doubled| *doubled > 0), || format!("flushes sent twice: {doubled:?}"));
            verdict.figure("acknowledged", all.acknowledged);
            verdict.figure("counted", counted);
            verdict.figure("received, and not known to be refused", all.most());
            verdict.figure("received", all.received);
            verdict.figure("counted when their month was final", late);
            verdict.figure("flushes committed unheard and sent again", doubled.iter().sum::<usize>());
            for (month, requests) in months {
                verdict.figure("counted in a month", format!("{month}: {requests}"));
            }
            verdict
        })
    }
}
