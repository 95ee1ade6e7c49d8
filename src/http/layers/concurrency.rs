//! Limit on concurrent requests. Requests beyond the limit are rejected immediately: a queue would only delay responses
//! until clients no longer need them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{extract::FromRequestParts, http::request::Parts};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use crate::{
    base::error::{Code, Error, Result},
    http::describe::Argument,
};

/// Limit on concurrent requests.
#[derive(Clone, Debug)]
pub struct ConcurrencyLimit(Arc<Semaphore>);

impl ConcurrencyLimit {
    /// Creates a limit of `max` concurrent requests.
    pub fn new(max: usize) -> Self {
        Self(Arc::new(Semaphore::new(max)))
    }

    /// Returns a slot for a request, or an error if none is free.
    pub fn admit(&self, body_timeout: Duration) -> Result<Slot> {
        let permit = self.take()?;
        Ok(Slot(Arc::new(SlotState {
            load: self.clone(),
            permit: Mutex::new(Some(permit)),
            body_timeout,
            extra_time: Mutex::default(),
        })))
    }

    fn take(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            Error::new(Code::Overloaded, "The server is at its limit of concurrent requests; retry in a moment")
        })
    }
}

/// Slot of one request. It is released when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Slot(Arc<SlotState>);

#[derive(Debug)]
struct SlotState {
    load: ConcurrencyLimit,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    body_timeout: Duration,
    /// Additional time for the request, because its client asked to wait.
    extra_time: Mutex<Duration>,
}

impl Slot {
    /// Awaits something that depends on the client, such as its body. Releases the slot meanwhile, so that slow clients
    /// do not block others.
    pub async fn release_during<T>(&self, future: impl Future<Output = T>) -> Result<T> {
        self.set(None);
        let done = future.await;
        self.set(Some(self.0.load.take()?));
        Ok(done)
    }

    /// Awaits something for at most the time that the client asked to wait. Releases the slot meanwhile. The wait does
    /// not count towards the time limit of the request.
    pub async fn release_and_wait<T>(&self, at_most: Duration, future: impl Future<Output = T>) -> Result<T> {
        *self.0.extra_time.lock().unwrap_or_else(PoisonError::into_inner) += at_most;
        let began = Instant::now();
        let done = self.release_during(future).await;
        let unused = at_most.saturating_sub(began.elapsed());
        let mut more = self.0.extra_time.lock().unwrap_or_else(PoisonError::into_inner);
        *more = more.saturating_sub(unused);
        done
    }

    /// Additional time for the request.
    pub(crate) fn extra_time(&self) -> Duration {
        *self.0.extra_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time limit for receiving the request's body.
    pub fn body_timeout(&self) -> Duration {
        self.0.body_timeout
    }

    fn set(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.0.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Slot {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let slot = parts.extensions.get().cloned();
        slot.ok_or_else(|| Error::internal("the request has no slot, because it did not pass the edge"))
    }
}

impl Argument for Slot {}
