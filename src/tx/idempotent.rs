//! Writes that are executed once however often they are sent.

use std::{
    marker::PhantomData,
    ops::{Deref, DerefMut},
};

use axum::response::{IntoResponse, Response};

use super::{Change, Tx, idempotency::Claim};
use crate::{
    base::{error::Result, input::schema::Input},
    http::{
        describe::{ApiResponse, RequestEffect, ResponseShape},
        request::extract::JsonBody,
    },
};

/// A write that is executed once however often it is sent, after its claim.
#[derive(Debug)]
pub enum BegunWrite<T> {
    /// First request, or a request without a key.
    First(IdempotentTx, T),
    /// Repeated request, with the stored response.
    Replay(Replay),
}

impl BegunWrite<()> {
    pub(super) fn without_key(tx: Tx) -> Self {
        Self::First(IdempotentTx::new(tx, None), ())
    }

    pub(super) fn read<T: Input>(self, body: JsonBody<T>) -> Result<BegunWrite<T>> {
        match self {
            Self::First(tx, ()) => Ok(BegunWrite::First(tx, body.validate()?)),
            Self::Replay(response) => Ok(BegunWrite::Replay(response)),
        }
    }
}

/// A write in progress whose response is stored for repeated requests.
#[derive(Debug)]
pub struct IdempotentTx {
    tx: Tx,
    /// None for a write without a key.
    claim: Option<Claim>,
}

impl Deref for IdempotentTx {
    type Target = Tx;
    fn deref(&self) -> &Tx {
        &self.tx
    }
}

impl DerefMut for IdempotentTx {
    fn deref_mut(&mut self) -> &mut Tx {
        &mut self.tx
    }
}

impl IdempotentTx {
    pub(super) fn new(tx: Tx, claim: Option<Claim>) -> Self {
        Self { tx, claim }
    }

    /// Rolls the write back, including its claim. Returns a response that is not stored, such as a plan.
    pub fn discard<R: IntoResponse>(self, response: R) -> Idempotent<R> {
        Idempotent::new(response.into_response())
    }

    /// Commits the effect and the stored response, records `change`, and returns the response.
    pub async fn commit<R: IntoResponse + ApiResponse>(self, change: Change, response: R) -> Result<Idempotent<R>> {
        self.commit_stored(Some(change), response).await
    }

    /// Like [`IdempotentTx::commit`], for a write that changed nothing.
    pub async fn commit_unchanged<R: IntoResponse + ApiResponse>(self, response: R) -> Result<Idempotent<R>> {
        self.commit_stored(None, response).await
    }

    async fn commit_stored<R: IntoResponse + ApiResponse>(
        self,
        change: Option<Change>,
        response: R,
    ) -> Result<Idempotent<R>> {
        let Self { tx, claim } = self;
        let response = response.into_response();
        let response = match claim {
            Some(claim) => {
                // The record has the position of the invalidation, so one statement does both.
                let (response, stored) = claim.prepare_response(&tx.request, response, R::SHAPE.secrecy).await?;
                let store = stored.sql(&tx.invalidated, tx.clock.now());
                tx.commit_with(store, change).await?;
                response
            }
            None => {
                tx.finish(change).await?;
                response
            }
        };
        Ok(Idempotent::new(response))
    }
}

/// Response `R` of a write that is executed once: the first response, or its replay.
#[derive(Debug)]
pub struct Idempotent<R> {
    response: Response,
    of: PhantomData<fn() -> R>,
}

impl<R> Idempotent<R> {
    /// Wraps `response`, which is stored.
    pub(super) fn new(response: Response) -> Self {
        Self { response, of: PhantomData }
    }
}

/// Stored response to a repeated request. Only the recognition of the request creates one.
#[derive(Debug)]
pub struct Replay(pub(super) Response);

impl<R> From<Replay> for Idempotent<R> {
    fn from(Replay(response): Replay) -> Self {
        Self::new(response)
    }
}

impl<R> IntoResponse for Idempotent<R> {
    fn into_response(self) -> Response {
        self.response
    }
}

impl<R: ApiResponse> ApiResponse for Idempotent<R> {
    const SHAPE: ResponseShape = ResponseShape { effect: RequestEffect::Idempotent, ..R::SHAPE };
}

/// Continues in the handler if a write is sent for the first time. Otherwise returns the stored response from the
/// handler.
macro_rules! begin_or_replay {
    ($opened:expr) => {
        match $opened {
            $crate::tx::BegunWrite::First(tx, value) => (tx, value),
            $crate::tx::BegunWrite::Replay(response) => return Ok(response.into()),
        }
    };
}
pub(crate) use begin_or_replay;
