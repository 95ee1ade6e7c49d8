//! Results of revocations. Each is evaluated as soon as it ends: there are too many responses to keep.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Verdict,
    victim::{ProbeResult, Victim},
};
use crate::{
    harness::{client::TimedResponse, http::Response},
    invariants::responses::is_acceptable,
};

/// One check whether a node accepts a victim.
pub struct Sample {
    probe: usize,
    result: Option<ProbeResult>,
    asked: TimedResponse<Option<Response>>,
}

impl Sample {
    pub fn new(victim: &Victim, probe: usize, asked: TimedResponse<Option<Response>>) -> Self {
        let result = asked.response.as_ref().map(|response| victim.probes[probe].read(response));
        Self { probe, result, asked }
    }
}

/// One revocation, from before its request until after its response.
pub struct Revocation {
    pub victim: Victim,
    /// When the revocation was first requested.
    pub asked_for: Instant,
    /// The response that acknowledges it.
    pub acknowledged: TimedResponse<Response>,
    pub samples: Vec<Sample>,
}

/// How many victims are checked once more at the end.
const MAX_REMEMBERED: usize = 100;

#[derive(Default)]
pub struct RevocationStats {
    pub verdict: Verdict,
    /// The latest victims.
    pub remembered: Vec<Victim>,
    kinds: BTreeMap<&'static str, usize>,
    /// How long the acknowledged requests took, and the longest revocation including all retries.
    responses: Vec<Duration>,
    slowest: Duration,
    /// Counts by the time of the request and its result.
    accepted_before: usize,
    accepted_meanwhile: usize,
    refused_after: usize,
    unavailable_after: usize,
    unknown_after: usize,
}

impl RevocationStats {
    pub fn count(&self) -> usize {
        self.kinds.values().sum()
    }

    pub fn add(&mut self, revocation: Revocation) {
        let Revocation { victim, asked_for, acknowledged, samples } = revocation;
        self.verdict.require(acknowledged.response.is_success(), || {
            format!("{} returned {:?}: {:?}", victim.kind, acknowledged.response, victim.end)
        });
        let done = acknowledged.received_at;
        for sample in &samples {
            self.count_sample(sample, asked_for, done);
            self.verdict.require(is_satisfied(sample, asked_for, done), || {
                let since = |at: Instant| match at.checked_duration_since(done) {
                    Some(later) => format!("{later:?} after"),
                    None => format!("{:?} before", done.duration_since(at)),
                };
                let TimedResponse { node, sent_at, received_at, response, .. } = &sample.asked;
                format!(
                    "{}: node {} responded after {:?} with {}. Node {node} was asked {}, responded {} that response, \
                     with {:?} to {:?}: {response:?}",
                    victim.kind,
                    acknowledged.node,
                    done - acknowledged.sent_at,
                    acknowledged.response.status,
                    since(*sent_at),
                    since(*received_at),
                    sample.result,
                    victim.probes[sample.probe].request,
                )
            });
        }
        self.responses.push(done - acknowledged.sent_at);
        self.slowest = self.slowest.max(done - asked_for);
        *self.kinds.entry(victim.kind).or_default() += 1;
        if self.remembered.len() == MAX_REMEMBERED {
            self.remembered.remove(0);
        }
        self.remembered.push(victim);
    }

    fn count_sample(&mut self, sample: &Sample, asked_for: Instant, done: Instant) {
        let counter = match sample.result {
            Some(ProbeResult::Accepted) if sample.asked.received_at < asked_for => &mut self.accepted_before,
            Some(ProbeResult::Accepted) if sample.asked.sent_at <= done => &mut self.accepted_meanwhile,
            Some(ProbeResult::Refused) if sample.asked.sent_at > done => &mut self.refused_after,
            Some(ProbeResult::Unavailable) if sample.asked.sent_at > done => &mut self.unavailable_after,
            None if sample.asked.sent_at > done => &mut self.unknown_after,
            _ => return,
        };
        *counter += 1;
    }

    pub fn into_verdict(mut self) -> Verdict {
        let verdict = &mut self.verdict;
        verdict.record("revocations", self.kinds.values().sum::<usize>());
        for (kind, count) in &self.kinds {
            verdict.record(kind, count);
        }
        verdict.record("accepted before the revocation's request", self.accepted_before);
        verdict.record("accepted before the revocation's response", self.accepted_meanwhile);
        verdict.record("refused after the revocation's response", self.refused_after);
        verdict.record("503 after the revocation's response", self.unavailable_after);
        verdict.record("no response after the revocation's response", self.unknown_after);
        verdict.record("response time of revocations", spread(&mut self.responses));
        verdict.record("longest revocation, with all retries", format!("{} ms", self.slowest.as_millis()));
        self.verdict
    }
}

/// Whether a sample satisfies the guarantee.
fn is_satisfied(sample: &Sample, asked_for: Instant, done: Instant) -> bool {
    let TimedResponse { sent_at, received_at, response, .. } = &sample.asked;
    match sample.result {
        Some(ProbeResult::Accepted) => *sent_at <= done,
        Some(ProbeResult::Refused) => *received_at >= asked_for,
        Some(ProbeResult::Unavailable) => response.as_ref().is_some_and(is_acceptable),
        Some(ProbeResult::Unexpected) => false,
        None => true,
    }
}

/// Median, 99th percentile and maximum.
pub fn spread(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |hundredth: usize| {
        let index = (times.len() * hundredth / 100).min(times.len().saturating_sub(1));
        times.get(index).copied().unwrap_or_default().as_secs_f64() * 1e3
    };
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms", at(50), at(99), at(100))
}
