//! How many requests are served at a time. What is beyond that is refused at once: a queue would only
//! keep clients waiting for answers that they no longer want.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{extract::FromRequestParts, http::request::Parts};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::Instant,
};

use super::describe::Argument;
use crate::base::error::{Code, Error, Result};

/// The bound on requests being served.
#[derive(Clone, Debug)]
pub struct Load(Arc<Semaphore>);

impl Load {
    /// At most `most` at a time.
    pub fn new(most: usize) -> Self {
        Self(Arc::new(Semaphore::new(most)))
    }

    /// A place among those being served, if there is one.
    pub fn admit(&self, body_time: Duration) -> Result<Slot> {
        let permit = self.take()?;
        Ok(Slot(Arc::new(Place {
            load: self.clone(),
            permit: Mutex::new(Some(permit)),
            body_time,
            more_time: Mutex::default(),
        })))
    }

    fn take(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            Error::new(Code::Overloaded, "The server is serving as many requests as it takes; retry in a moment")
        })
    }
}

/// One request's place. It is free again when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Slot(Arc<Place>);

#[derive(Debug)]
struct Place {
    load: Load,
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    body_time: Duration,
    /// How much longer the request may take than others, because it waits for something by its client's wish.
    more_time: Mutex<Duration>,
}

impl Slot {
    /// Awaits something that is up to the client, such as its body, and leaves the place to others in
    /// the meantime: slow clients are no load, and cannot crowd others out.
    pub async fn leave_for<T>(&self, something: impl Future<Output = T>) -> Result<T> {
        self.set(None);
        let done = something.await;
        self.set(Some(self.0.load.take()?));
        Ok(done)
    }

    /// Awaits something for as long as the client has asked for: meanwhile the place is left to others, and what is waited
    /// is not counted as time that the request takes.
    pub async fn wait<T>(&self, at_most: Duration, something: impl Future<Output = T>) -> Result<T> {
        *self.0.more_time.lock().unwrap_or_else(PoisonError::into_inner) += at_most;
        let began = Instant::now();
        let done = self.leave_for(something).await;
        let unused = at_most.saturating_sub(began.elapsed());
        let mut more = self.0.more_time.lock().unwrap_or_else(PoisonError::into_inner);
        *more = more.saturating_sub(unused);
        done
    }

    /// How much longer the request may take than others.
    pub(super) fn more_time(&self) -> Duration {
        *self.0.more_time.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long this request's body may take to come.
    pub fn body_time(&self) -> Duration {
        self.0.body_time
    }

    fn set(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.0.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Slot {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        let slot = parts.extensions.get().cloned();
        slot.ok_or_else(|| Error::internal("a request that the edge has not seen waits for something"))
    }
}

impl Argument for Slot {}
