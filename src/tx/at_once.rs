//! Writes that need no read first: claim, effect, stored response and audit entry are one statement, which is a
//! transaction and one round trip.

use std::sync::Arc;

use axum::response::IntoResponse;
use tokio::time::timeout;

use super::{
    Change, Once, Opened, Writes,
    idempotency::{AGAIN, Claim, in_progress, just_forgotten},
    open::COMMIT_TIME,
};
use crate::{
    audit::model::Outcome,
    base::{
        clock::Timestamp,
        error::{Error, Result},
        request::RequestContext,
        schema::Input,
    },
    db::{Call, sqlstate},
    http::extract::JsonBody,
};

/// A planned write.
#[derive(Debug)]
pub struct Effect<R> {
    /// SQL call that executes the write.
    pub call: Call,
    /// The change for the audit trail and the log.
    pub change: Change,
    /// Response if the write succeeds.
    pub reply: R,
}

impl Writes {
    /// Executes the write that `plan` makes of the body, unless it was executed before. Returns the response.
    pub async fn at_once<T: Input, R: IntoResponse>(
        &self,
        request: &Arc<RequestContext>,
        body: JsonBody<T>,
        plan: impl FnOnce(T) -> Result<Effect<R>>,
    ) -> Result<Once<R>> {
        let claim = Claim::of(request, Some(body.meaning()))?;
        match (body.validate().and_then(plan), claim) {
            (Ok(effect), claim) => self.take_effect(request, effect, claim).await,
            (Err(refused), None) => Err(refused),
            // A repeated request gets the stored response even if the plan would now fail, and a reused key is reported
            // first.
            (Err(refused), Some(claim)) => match self.open_claimed(request, claim).await? {
                Opened::Again(answer) => Ok(Once::kept(answer)),
                Opened::First(..) => Err(refused),
            },
        }
    }

    async fn take_effect<R: IntoResponse>(
        &self,
        request: &Arc<RequestContext>,
        effect: Effect<R>,
        claim: Option<Claim>,
    ) -> Result<Once<R>> {
        let Effect { call, change, reply } = effect;
        let now = self.clock.now();
        let answer = reply.into_response();
        let (answer, call, kept) = match claim {
            Some(claim) => {
                let guarded = claim.guard(call, now);
                let (answer, kept) = claim.keep(request, answer).await?;
                (answer, kept.kept_by(guarded, now), Some(kept))
            }
            None => (answer, call, None),
        };
        let call = if self.is_audited { staging(call, &change, request, now) } else { call };
        let mut db = self.node.db.acquire_for_write().await?;
        request.set_commit_sent(true);
        let done = match timeout(COMMIT_TIME, call.run(&mut db)).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => match sqlstate::cause_of(&error) {
                Some(cause) if sqlstate::may_have_committed(cause) => {
                    self.node.db.note(&error);
                    return Err(Error::outcome_unknown(kept.is_some()).caused_by(error));
                }
                _ => {
                    request.set_commit_sent(false);
                    return Err(error);
                }
            },
            Err(_) => {
                db.close_in_background();
                return Err(super::unknown(&self.node, request, false, None));
            }
        };
        drop(db);
        self.node.db.writes().succeeded();
        match (done, kept) {
            (Ok(()), _) => {
                change.log(request);
                Ok(Once::kept(answer))
            }
            (Err(word), Some(kept)) if word == AGAIN => match self.open_claimed(request, kept.claim).await? {
                Opened::Again(answer) => Ok(Once::kept(answer)),
                Opened::First(..) => Err(just_forgotten()),
            },
            (Err(_), Some(_)) => Err(in_progress()),
            (Err(word), None) => {
                Err(Error::internal(format!("a SQL function returned the unexpected result '{word}'")))
            }
        }
    }
}

/// Extends `call` so that it also stages the audit entry of `change`.
fn staging(call: Call, change: &Change, request: &RequestContext, now: Timestamp) -> Call {
    let entry = change.draft(request, Outcome::Success, now).to_text();
    call.then("stage_entry", |call| call.bind(change.chain()).bind(entry))
}
