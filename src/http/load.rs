//! How many requests are served at a time. What is beyond that is refused at once: a queue would only
//! keep clients waiting for answers that they no longer want.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
        Ok(Slot(Arc::new(Place { load: self.clone(), permit: Mutex::new(Some(permit)), body_time })))
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

    /// How long this request's body may take to come.
    pub fn body_time(&self) -> Duration {
        self.0.body_time
    }

    fn set(&self, permit: Option<OwnedSemaphorePermit>) {
        *self.0.permit.lock().unwrap_or_else(PoisonError::into_inner) = permit;
    }
}
