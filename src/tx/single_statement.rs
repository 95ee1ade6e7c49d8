//! Writes that need no read first: claim, effect, stored response and audit entry are one statement, which is a
//! transaction and one round trip.

use std::sync::Arc;

use axum::response::IntoResponse;
use tokio::time::timeout;

use super::{
    BegunWrite, Change, Idempotent, Writes,
    idempotency::{ALREADY_EXECUTED, Claim, in_progress, response_expired},
    transaction::COMMIT_TIMEOUT,
};
use crate::{
    audit::model::Outcome,
    base::{
        error::{Error, Result},
        input::schema::Input,
        runtime::request::RequestContext,
    },
    db::{Call, sqlstate, unexpected_result},
    http::{describe::ApiResponse, request::extract::JsonBody},
};

/// A planned write.
#[derive(Debug)]
pub struct Effect<R> {
    /// SQL call that executes the write.
    pub call: Call,
    /// The change for the audit trail and the log.
    pub change: Change,
    /// Response if the write succeeds.
    pub response: R,
}

impl Writes {
    /// Executes the write that `plan` makes of the body, unless it was executed before. Returns the response.
    pub async fn execute_single<T: Input, R: IntoResponse + ApiResponse>(
        &self,
        request: &Arc<RequestContext>,
        body: JsonBody<T>,
        plan: impl FnOnce(T) -> Result<Effect<R>>,
    ) -> Result<Idempotent<R>> {
        let claim = Claim::from_request(request, Some(body.canonical_body()))?;
        match (body.validate().and_then(plan), claim) {
            (Ok(effect), claim) => self.execute(request, effect, claim).await,
            (Err(refused), None) => Err(refused),
            // A repeated request gets the stored response even if the plan would now fail, and a reused key is reported
            // first.
            (Err(refused), Some(claim)) => match self.begin_claimed(request, claim).await? {
                BegunWrite::Replay(response) => Ok(response.into()),
                BegunWrite::First(..) => Err(refused),
            },
        }
    }

    async fn execute<R: IntoResponse + ApiResponse>(
        &self,
        request: &Arc<RequestContext>,
        effect: Effect<R>,
        claim: Option<Claim>,
    ) -> Result<Idempotent<R>> {
        let Effect { call, change, response } = effect;
        let now = self.clock.now();
        let response = response.into_response();
        let (response, call, stored) = match claim {
            Some(claim) => {
                let guarded = claim.guard(call, now);
                let (response, stored) = claim.prepare_response(request, response, R::SHAPE.secrecy).await?;
                (response, stored.store_with(guarded, now), Some(stored))
            }
            None => (response, call, None),
        };
        let entry = change.into_entry(request, Outcome::Success, now);
        let text = entry.draft.to_text();
        let call = call.wrap_with("stage_entry", |call| call.bind(entry.chain()).bind(text));
        let mut db = self.node.db.acquire_for_write().await?;
        request.set_commit_sent(true);
        let done = match timeout(COMMIT_TIMEOUT, call.run(&mut db)).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => match sqlstate::database_cause(&error) {
                Some(cause) if sqlstate::may_have_committed(cause) => {
                    self.node.db.handle_error(&error);
                    self.node.db.pulse().notify_staged();
                    return Err(Error::outcome_unknown(stored.is_some()).caused_by(error));
                }
                _ => {
                    request.set_commit_sent(false);
                    return Err(error);
                }
            },
            Err(_) => {
                db.close_in_background();
                return Err(super::outcome_unknown(&self.node, request, false, None));
            }
        };
        drop(db);
        self.node.db.writes().record_success();
        self.node.db.pulse().notify_staged();
        match (done, stored) {
            (Ok(()), _) => {
                entry.log(request);
                Ok(Idempotent::new(response))
            }
            (Err(word), Some(stored)) if word == ALREADY_EXECUTED => {
                match self.begin_claimed(request, stored.claim).await? {
                    BegunWrite::Replay(response) => Ok(response.into()),
                    BegunWrite::First(..) => Err(response_expired()),
                }
            }
            (Err(_), Some(_)) => Err(in_progress()),
            (Err(word), None) => Err(unexpected_result(&word)),
        }
    }
}
