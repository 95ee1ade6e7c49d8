//! Usage: each acknowledged request is counted, and each received request at most once, for its project and its
//! credential, in one month.

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
use super::{Invariant, RunEnd, Verdict};
use crate::{
    harness::{
        client::Client,
        http::{Request, Response},
    },
    proxy::{Flushes, Proxy},
    servers::cluster::Cluster,
};

/// How often, and at which interval, an incomplete report is read again: counts that a killed server left behind may be
/// flushed later than its current ones.
const READINGS: usize = 10;
const BETWEEN_READINGS: Duration = Duration::from_millis(500);

/// Enough requests to notice a lost or duplicate one.
const MIN_REQUESTS: u64 = 300;

/// Bounds for how many requests may have been counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bounds {
    /// Requests with a complete response that counts.
    acknowledged: u64,
    /// Requests with a complete response that does not count.
    refused: u64,
    /// Requests with a valid credential of which at least one byte was sent.
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

    /// The outcome of the others is unknown.
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
    /// Bounds of each caller.
    stats: Mutex<Vec<Bounds>>,
    /// Unexpected responses.
    violations: Mutex<Verdict>,
    flushes: Vec<Arc<Flushes>>,
}

impl Counted {
    /// Also makes every proxy send every flush twice.
    pub async fn new(cluster: &Cluster, clients: usize) -> Self {
        let (callers, asked) = Callers::make(cluster).await;
        let flushes = cluster.proxies.iter().map(Proxy::double_flushes).collect();
        Self { callers, clients, stats: Mutex::new(asked), violations: Mutex::default(), flushes }
    }

    /// Sends a request as one of the callers, and records the outcome.
    async fn send(&self, client: &mut Client, node: usize, caller: usize, request: &Request) -> Option<Response> {
        let asked = client.send_unlogged(node, request).await;
        let bounds = &mut self.stats.lock().unwrap()[caller];
        bounds.received += u64::from(asked.was_sent);
        if let Some(response) = &asked.response {
            *(if counts(response) { &mut bounds.acknowledged } else { &mut bounds.refused }) += 1;
        }
        asked.response
    }

    /// The sum of the bounds of the callers for which `belongs` is true.
    fn bounds(&self, belongs: impl Fn(&Caller) -> bool) -> Bounds {
        let stats = self.stats.lock().unwrap();
        Bounds::of(self.callers.all.iter().zip(&*stats).filter(|(caller, _)| belongs(caller)).map(|(_, bounds)| bounds))
    }

    /// How many flushes of each server PostgreSQL has committed that were sent twice.
    fn doubled(&self) -> Vec<usize> {
        self.flushes.iter().map(|flushes| flushes.doubled()).collect()
    }

    /// Reads the report of a project until it contains all requests that were acknowledged before, or the readings run
    /// out. Returns it with its bounds.
    async fn read_report(&self, client: &mut Client, project: usize) -> (Report, Bounds) {
        let of_project = |caller: &Caller| caller.project == project;
        let acknowledged = self.bounds(of_project).acknowledged;
        let mut readings = 0;
        loop {
            // A report cannot contain the request that asks for it.
            let bounds = Bounds { acknowledged, ..self.bounds(of_project) };
            let report = self.by_month(client, project).await;
            readings += 1;
            if report.requests() >= acknowledged || readings == READINGS {
                return (report, bounds);
            }
            tokio::time::sleep(BETWEEN_READINGS).await;
        }
    }

    /// The same for each credential. `before` holds the acknowledged requests before the check read anything.
    async fn check_callers(
        &self,
        client: &mut Client,
        project: usize,
        (whole, before): (&Report, &[Bounds]),
        verdict: &mut Verdict,
    ) {
        let after = self.stats.lock().unwrap().clone();
        let (by_caller, others) = self.by_caller(client, project, whole).await;
        verdict.require(others == 0, || format!("{others} requests were counted for unused credentials"));
        for (caller, counted) in by_caller {
            let bounds = Bounds { acknowledged: before[caller].acknowledged, ..after[caller] };
            let Caller { kind, id, .. } = &self.callers.all[caller];
            verdict.require(bounds.hold(counted), || format!("{kind:?} {id:?}: {bounds}; {counted} were counted"));
        }
    }
}

/// Whether a request with a valid credential counts if this is its response.
fn counts(response: &Response) -> bool {
    !matches!(response.status, 401 | 429 | 500..)
}

impl Invariant for Counted {
    fn clients(&self) -> usize {
        self.clients
    }

    fn act<'a>(&'a self, client: &'a mut Client) -> BoxFuture<'a, ()> {
        Box::pin(async {
            let (node, next_request) = (client.any_node(), self.callers.next_request(client));
            let response = match next_request.caller {
                Some(caller) => self.send(client, node, caller, &next_request.request).await,
                None => client.send_unlogged(node, &next_request.request).await.response,
            };
            if let Some(response) = response {
                let fits = response.status == 503 || next_request.expected.contains(&response.status);
                self.violations
                    .lock()
                    .unwrap()
                    .require(fits, || format!("{:?} returned {response:?}", next_request.request));
            }
            tokio::time::sleep(client.random.millis(1, 8)).await;
        })
    }

    fn is_exercised(&self) -> bool {
        self.doubled().iter().all(|doubled| *doubled > 0) && self.bounds(|_| true).acknowledged >= MIN_REQUESTS
    }

    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = std::mem::take(&mut *self.violations.lock().unwrap());
            reports::all_flushed(end.cluster).await;
            let before = self.stats.lock().unwrap().clone();
            let mut client = end.cluster.client(0);
            let (mut all, mut counted, mut late, mut months) = (Bounds::default(), 0, 0, BTreeMap::new());
            for (project, id) in self.callers.projects.iter().enumerate() {
                let (report, bounds) = self.read_report(&mut client, project).await;
                verdict.require(bounds.hold(report.requests()), || {
                    format!("project {id}: {bounds}; {} were counted: {report:?}", report.requests())
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
            verdict.require(months.len() > 1, || format!("requests were counted in only these months: {months:?}"));
            let doubled = self.doubled();
            verdict.require(doubled.iter().all(|doubled| *doubled > 0), || format!("flushes sent twice: {doubled:?}"));
            verdict.record("acknowledged", all.acknowledged);
            verdict.record("counted", counted);
            verdict.record("received and not known to be refused", all.most());
            verdict.record("received", all.received);
            verdict.record("counted after their month was final", late);
            verdict.record("flushes committed without a response and sent again", doubled.iter().sum::<usize>());
            for (month, requests) in months {
                verdict.record("counted in a month", format!("{month}: {requests}"));
            }
            verdict
        })
    }
}
