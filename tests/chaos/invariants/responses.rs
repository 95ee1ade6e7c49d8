//! Every response is a success, or an error that says when to retry. Never 500.

use futures_util::future::LocalBoxFuture;

use super::{Invariant, RunEnd, Verdict};
use crate::harness::http::Response;

pub struct Responses;

impl Invariant for Responses {
    fn check<'a>(&'a self, end: &'a RunEnd<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = Verdict::default();
            let responses: Vec<(usize, &Response)> =
                end.log.iter().filter_map(|entry| Some((entry.node, entry.response.as_ref()?))).collect();
            for (node, response) in &responses {
                verdict.require(is_acceptable(response), || {
                    let id = response.header("x-request-id").unwrap_or("no request ID");
                    let behind = end.cluster.log_lines(id).join("\n");
                    format!("node {node}: {} {}\nlog lines:\n{behind}", response.status, response.body)
                });
            }
            let with = |status: u16| responses.iter().filter(|(_, response)| response.status == status).count();
            verdict.record("complete responses", responses.len());
            // Includes responses that report the outcome as unknown: the write may have committed, and is retried.
            let unknown = responses.iter().filter(|(_, response)| response.code() == "outcome_unknown").count();
            verdict.record("outcome unknown", end.log.len() - responses.len() + unknown);
            verdict.record("503 with Retry-After", with(503));
            verdict.record("409 because another was in progress", with(409));
            verdict
        })
    }
}

/// Whether the client can proceed after this response.
pub fn is_acceptable(response: &Response) -> bool {
    let says_when = response.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok());
    match response.status {
        200..=202 => true,
        503 => says_when,
        409 => says_when && response.code() == "idempotency_in_progress",
        _ => false,
    }
}
