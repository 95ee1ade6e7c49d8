//! Every response is a success, or an error that says when to retry. Never 500.

use futures_util::future::LocalBoxFuture;

use super::{End, Invariant, Verdict};
use crate::http::Answer;

pub struct Answers;

impl Invariant for Answers {
    fn check<'a>(&'a self, end: &'a End<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = Verdict::default();
            let answers: Vec<(usize, &Answer)> =
                end.log.iter().filter_map(|entry| Some((entry.node, entry.answer.as_ref()?))).collect();
            for (node, answer) in &answers {
                verdict.require(is_fit(answer), || {
                    let id = answer.header("x-request-id").unwrap_or("no request ID");
                    let behind = end.world.log_lines(id).join("\n");
                    format!("node {node}: {} {}\nlog lines:\n{behind}", answer.status, answer.body)
                });
            }
            let with = |status: u16| answers.iter().filter(|(_, answer)| answer.status == status).count();
            verdict.figure("complete responses", answers.len());
            // Includes responses that report the outcome as unknown: the write may have committed, and is retried.
            let unknown = answers.iter().filter(|(_, answer)| answer.code() == "outcome_unknown").count();
            verdict.figure("outcome unknown", end.log.len() - answers.len() + unknown);
            verdict.figure("503 with Retry-After", with(503));
            verdict.figure("409 because another was in progress", with(409));
            verdict
        })
    }
}

/// Whether the client can proceed after this response.
pub fn is_fit(answer: &Answer) -> bool {
    let says_when = answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok());
    match answer.status {
        200..=202 => true,
        503 => says_when,
        409 => says_when && answer.code() == "idempotency_in_progress",
        _ => false,
    }
}
