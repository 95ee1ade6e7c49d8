//! Results of revocations. Each is judged as soon as it is over: there are too many responses to keep.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::{
    Verdict,
    victim::{Said, Victim},
};
use crate::{client::Asked, http::Answer, invariants::answers::is_fit};

/// One check whether a node accepts a victim.
pub struct Sample {
    sign: usize,
    said: Option<Said>,
    asked: Asked<Option<Answer>>,
}

impl Sample {
    pub fn new(victim: &Victim, sign: usize, asked: Asked<Option<Answer>>) -> Self {
        let said = asked.answer.as_ref().map(|answer| victim.signs[sign].read(answer));
        Self { sign, said, asked }
    }
}

/// One revocation, from before its request until after its response.
pub struct Revocation {
    pub victim: Victim,
    /// When the revocation was first requested.
    pub asked_for: Instant,
    /// The response that acknowledges it.
    pub answered: Asked<Answer>,
    pub samples: Vec<Sample>,
}

/// How many victims are checked once more at the end.
const REMEMBERED: usize = 100;

#[derive(Default)]
pub struct Tally {
    pub verdict: Verdict,
    /// The latest victims.
    pub remembered: Vec<Victim>,
    kinds: BTreeMap<&'static str, usize>,
    /// How long the acknowledged requests took, and the longest revocation including all retries.
    answers: Vec<Duration>,
    slowest: Duration,
    /// Counts by the time of the request and its result.
    accepted_before: usize,
    accepted_meanwhile: usize,
    refused_after: usize,
    unable_after: usize,
    unknown_after: usize,
}

impl Tally {
    pub fn count(&self) -> usize {
        self.kinds.values().sum()
    }

    pub fn add(&mut self, revocation: Revocation) {
        let Revocation { victim, asked_for, answered, samples } = revocation;
        self.verdict.require(answered.answer.is_success(), || {
            format!("{} returned {:?}: {:?}", victim.kind, answered.answer, victim.end)
        });
        let done = answered.over;
        for sample in &samples {
            self.count_sample(sample, asked_for, done);
            self.verdict.require(is_kept(sample, asked_for, done), || {
                let since = |at: Instant| match at.checked_duration_since(done) {
                    Some(later) => format!("{later:?} after"),
                    None => format!("{:?} before", done.duration_since(at)),
                };
                let Asked { node, begun, over, answer, .. } = &sample.asked;
                format!(
                    "{}: node {} responded after {:?} with {}. Node {node} was asked {}, responded {} that response, \
                     with {:?} to {:?}: {answer:?}",
                    victim.kind,
                    answered.node,
                    done - answered.begun,
                    answered.answer.status,
                    since(*begun),
                    since(*over),
                    sample.said,
                    victim.signs[sample.sign].request,
                )
            });
        }
        self.answers.push(done - answered.begun);
        self.slowest = self.slowest.max(done - asked_for);
        *self.kinds.entry(victim.kind).or_default() += 1;
        if self.remembered.len() == REMEMBERED {
            self.remembered.remove(0);
        }
        self.remembered.push(victim);
    }

    fn count_sample(&mut self, sample: &Sample, asked_for: Instant, done: Instant) {
        let counter = match sample.said {
            Some(Said::Accepted) if sample.asked.over < asked_for => &mut self.accepted_before,
            Some(Said::Accepted) if sample.asked.begun <= done => &mut self.accepted_meanwhile,
            Some(Said::Refused) if sample.asked.begun > done => &mut self.refused_after,
            Some(Said::Unable) if sample.asked.begun > done => &mut self.unable_after,
            None if sample.asked.begun > done => &mut self.unknown_after,
            _ => return,
        };
        *counter += 1;
    }

    pub fn into_verdict(mut self) -> Verdict {
        let verdict = &mut self.verdict;
        verdict.figure("revocations", self.kinds.values().sum::<usize>());
        for (kind, count) in &self.kinds {
            verdict.figure(kind, count);
        }
        verdict.figure("accepted before the revocation's request", self.accepted_before);
        verdict.figure("accepted before the revocation's response", self.accepted_meanwhile);
        verdict.figure("refused after the revocation's response", self.refused_after);
        verdict.figure("503 after the revocation's response", self.unable_after);
        verdict.figure("no response after the revocation's response", self.unknown_after);
        verdict.figure("response time of revocations", spread(&mut self.answers));
        verdict.figure("longest revocation, with all retries", format!("{} ms", self.slowest.as_millis()));
        self.verdict
    }
}

/// Whether a sample satisfies the guarantee.
fn is_kept(sample: &Sample, asked_for: Instant, done: Instant) -> bool {
    let Asked { begun, over, answer, .. } = &sample.asked;
    match sample.said {
        Some(Said::Accepted) => *begun <= done,
        Some(Said::Refused) => *over >= asked_for,
        Some(Said::Unable) => answer.as_ref().is_some_and(is_fit),
        Some(Said::Odd) => false,
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
