//! Heavy work, at most one piece of it at a time for each core, and a short queue in front.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

use crate::base::error::{Code, Error, Result};

/// How many pieces of work may wait for each core. One takes some 25 ms, so none waits long, and a flood
/// is turned away before it costs memory.
const WAITING_PER_CORE: usize = 8;

/// Where heavy work is done.
#[derive(Debug)]
pub struct Cores {
    cores: Arc<Semaphore>,
    /// One for each piece that works or waits.
    places: Arc<Semaphore>,
    limits: Load,
    present: Arc<Gauge>,
    working: Arc<Gauge>,
}

/// How much there is of what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Pieces of work that are being done or wait.
    pub present: usize,
    /// Pieces of work that are being done.
    pub working: usize,
}

impl Cores {
    /// As many as the machine has.
    pub fn of_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from), WAITING_PER_CORE)
    }

    fn new(cores: usize, waiting_per_core: usize) -> Self {
        let limits = Load { present: cores * (1 + waiting_per_core), working: cores };
        Self {
            cores: Arc::new(Semaphore::new(limits.working)),
            places: Arc::new(Semaphore::new(limits.present)),
            limits,
            present: Arc::default(),
            working: Arc::default(),
        }
    }

    /// Does `work` when a core is free; refuses it at once when too much is waiting already. Whoever
    /// stops waiting gives up their place.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            Error::new(
                Code::Overloaded,
                "More passwords are waiting to be checked than the server takes on; retry in a moment",
            )
        })?;
        let present = self.present.enter();
        let core = Arc::clone(&self.cores)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(Code::Overloaded, "The server is shutting down; retry elsewhere"))?;
        let working = self.working.enter();
        tokio::task::spawn_blocking(move || {
            // Held by the work, not by whoever waits for it: a client that goes frees no core.
            let _held = (working, core, present, place);
            work()
        })
        .await
        .map_err(Error::internal)?
    }

    /// What there is now.
    pub fn load(&self) -> Load {
        Load { present: self.present.now(), working: self.working.now() }
    }

    /// The most that there has been at once.
    pub fn peak(&self) -> Load {
        Load { present: self.present.most(), working: self.working.most() }
    }

    /// The most that there can be.
    pub fn limits(&self) -> Load {
        self.limits
    }
}

/// Counts those who are in some place.
#[derive(Debug, Default)]
pub struct Gauge {
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gauge {
    /// One more, until what it gives is dropped.
    pub fn enter(self: &Arc<Self>) -> Present {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(now, Ordering::Relaxed);
        Present(Arc::clone(self))
    }

    /// How many there are.
    pub fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// How many there have been at once.
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }
}

/// One of those whom a [`Gauge`] counts.
#[derive(Debug)]
pub struct Present(Arc<Gauge>);

impl Drop for Present {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, sync::mpsc, task::Poll};

    use super::*;

    /// Lets a future come as far as it can by itself.
    async fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }

    #[tokio::test]
    async fn beyond_the_queue_work_is_refused_at_once_and_who_goes_frees_their_place() {
        let cores = Cores::new(1, 2);
        let (finish, finished) = mpsc::channel::<()>();
        let mut first = Box::pin(cores.run(move || finished.recv().map_err(Error::internal)));
        let mut second = Box::pin(cores.run(|| Ok(())));
        let mut third = Box::pin(cores.run(|| Ok(())));
        for waiting in [poll(&mut first).await, poll(&mut second).await, poll(&mut third).await] {
            assert!(waiting.is_pending());
        }
        let full = Load { present: 3, working: 1 };
        assert_eq!((cores.load(), cores.limits()), (full, full));

        let refused = cores.run(|| Ok(())).await.unwrap_err();
        assert_eq!(refused.code(), Code::Overloaded);

        drop(second);
        assert_eq!(cores.load(), Load { present: 2, working: 1 });
        let mut fourth = Box::pin(cores.run(|| Ok(())));
        assert!(poll(&mut fourth).await.is_pending());

        finish.send(()).unwrap();
        for done in [first.await, third.await, fourth.await] {
            assert!(done.is_ok());
        }
        assert_eq!((cores.load(), cores.peak()), (Load { present: 0, working: 0 }, full));
    }

    #[tokio::test]
    async fn work_under_way_keeps_its_core_when_nobody_waits_for_it_any_more() {
        let cores = Cores::new(1, 1);
        let (finish, finished) = mpsc::channel::<()>();
        let mut abandoned = Box::pin(cores.run(move || finished.recv().map_err(Error::internal)));
        assert!(poll(&mut abandoned).await.is_pending());
        drop(abandoned);
        assert_eq!(cores.load(), Load { present: 1, working: 1 });
        let mut next = Box::pin(cores.run(|| Ok(())));
        assert!(poll(&mut next).await.is_pending());
        finish.send(()).unwrap();
        assert!(next.await.is_ok());
    }
}
