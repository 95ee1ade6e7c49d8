//! Whatever fails: an answer is a success, or says that and when to try again. Never 500.

use futures_util::future::LocalBoxFuture;

use super::{End, Invariant, Verdict};
use crate::http::Answer;

pub struct Answers;

impl Invariant for Answers {
    fn check<'a>(&'a self, end: &'a End<'a>) -> LocalBoxFuture<'a, Verdict> {
        Box::pin(async {
            let mut verdict = Verdict::default();
            let answers: Vec<&Answer> = end.log.iter().filter_map(|entry| entry.answer.as_ref()).collect();
            for answer in &answers {
                verdict.require(is_fit(answer), || {
                    let id = answer.header("x-request-id").unwrap_or("no request id");
                    let behind = end.world.log_lines(id).join("\n");
                    format!("{} {}\nwas answered because of\n{behind}", answer.status, answer.body)
                });
            }
            let with = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
            verdict.figure("complete answers", answers.len());
            verdict.figure("outcome unknown", end.log.len() - answers.len());
            verdict.figure("503 with Retry-After", with(503));
            verdict.figure("409 while another was in progress", with(409));
            verdict
        })
    }
}

fn is_fit(answer: &Answer) -> bool {
    let says_when = answer.header("retry-after").is_some_and(|seconds| seconds.parse::<u32>().is_ok());
    match answer.status {
        200 | 201 => true,
        503 => says_when,
        409 => says_when && answer.code() == "idempotency_in_progress",
        _ => false,
    }
}
