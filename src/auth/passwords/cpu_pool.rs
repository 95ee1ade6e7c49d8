//! CPU-bound work: at most one job per core at a time, with a short queue.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::Semaphore;

use crate::base::error::{Code, Error, Result};

/// Maximum number of waiting jobs per core. A job takes about 25 ms, so the wait is short, and a flood is rejected
/// before it uses memory.
const WAITING_PER_CORE: usize = 8;

/// Executor for CPU-bound work.
#[derive(Debug)]
pub struct CpuPool {
    cores: Arc<Semaphore>,
    /// One permit for each running or waiting job.
    job_permits: Arc<Semaphore>,
    limits: JobCounts,
    total: Arc<Gauge>,
    running: Arc<Gauge>,
}

/// Number of jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobCounts {
    /// Running and waiting jobs.
    pub total: usize,
    /// Running jobs.
    pub running: usize,
}

impl CpuPool {
    /// An executor with as many cores as the machine has.
    pub fn for_this_machine() -> Self {
        Self::new(std::thread::available_parallelism().map_or(1, usize::from), WAITING_PER_CORE)
    }

    fn new(cores: usize, waiting_per_core: usize) -> Self {
        let limits = JobCounts { total: cores * (1 + waiting_per_core), running: cores };
        Self {
            cores: Arc::new(Semaphore::new(limits.running)),
            job_permits: Arc::new(Semaphore::new(limits.total)),
            limits,
            total: Arc::default(),
            running: Arc::default(),
        }
    }

    /// Runs `work` when a core is free. Fails immediately if the queue is full. A caller that stops waiting leaves the
    /// queue.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let job_permit = Arc::clone(&self.job_permits).try_acquire_owned().map_err(|_| {
            Error::new(Code::Overloaded, "Too many passwords are waiting to be checked; retry in a moment")
        })?;
        let total = self.total.enter();
        let core = Arc::clone(&self.cores)
            .acquire_owned()
            .await
            .map_err(|_| Error::new(Code::Overloaded, "The server is shutting down; retry elsewhere"))?;
        let running = self.running.enter();
        tokio::task::spawn_blocking(move || {
            // The job holds these, not its caller: a client that disconnects does not free a core.
            let _held = (running, core, total, job_permit);
            work()
        })
        .await
        .map_err(Error::internal)?
    }

    /// Current number of jobs.
    pub fn load(&self) -> JobCounts {
        JobCounts { total: self.total.current(), running: self.running.current() }
    }

    /// Highest number of jobs so far.
    pub fn peak(&self) -> JobCounts {
        JobCounts { total: self.total.max(), running: self.running.max() }
    }

    /// Maximum number of jobs.
    pub fn limits(&self) -> JobCounts {
        self.limits
    }
}

/// Counter with a current and a highest value.
#[derive(Debug, Default)]
pub struct Gauge {
    now: AtomicUsize,
    max: AtomicUsize,
}

impl Gauge {
    /// Adds one until the returned guard is dropped.
    pub fn enter(self: &Arc<Self>) -> GaugeGuard {
        let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.max.fetch_max(now, Ordering::Relaxed);
        GaugeGuard(Arc::clone(self))
    }

    /// Current value.
    pub fn current(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    /// Highest value so far.
    pub fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }
}

/// Guard that counts as one in its [`Gauge`].
#[derive(Debug)]
pub struct GaugeGuard(Arc<Gauge>);

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, pin::Pin, sync::mpsc, task::Poll};

    use super::*;

    /// Polls a future once.
    async fn poll<F: Future>(future: &mut Pin<Box<F>>) -> Poll<F::Output> {
        poll_fn(|context| Poll::Ready(future.as_mut().poll(context))).await
    }

    #[tokio::test]
    async fn full_queue_rejects_jobs_and_canceled_job_leaves_the_queue() {
        let cores = CpuPool::new(1, 2);
        let (finish, finished) = mpsc::channel::<()>();
        let mut first = Box::pin(cores.run(move || finished.recv().map_err(Error::internal)));
        let mut second = Box::pin(cores.run(|| Ok(())));
        let mut third = Box::pin(cores.run(|| Ok(())));
        for waiting in [poll(&mut first).await, poll(&mut second).await, poll(&mut third).await] {
            assert!(waiting.is_pending());
        }
        let full = JobCounts { total: 3, running: 1 };
        assert_eq!((cores.load(), cores.limits()), (full, full));

        let rejected = cores.run(|| Ok(())).await.unwrap_err();
        assert_eq!(rejected.code(), Code::Overloaded);

        drop(second);
        assert_eq!(cores.load(), JobCounts { total: 2, running: 1 });
        let mut fourth = Box::pin(cores.run(|| Ok(())));
        assert!(poll(&mut fourth).await.is_pending());

        finish.send(()).unwrap();
        for done in [first.await, third.await, fourth.await] {
            assert!(done.is_ok());
        }
        assert_eq!((cores.load(), cores.peak()), (JobCounts { total: 0, running: 0 }, full));
    }

    #[tokio::test]
    async fn running_job_keeps_its_core_after_its_caller_is_gone() {
        let cores = CpuPool::new(1, 1);
        let (finish, finished) = mpsc::channel::<()>();
        let mut abandoned = Box::pin(cores.run(move || finished.recv().map_err(Error::internal)));
        assert!(poll(&mut abandoned).await.is_pending());
        drop(abandoned);
        assert_eq!(cores.load(), JobCounts { total: 1, running: 1 });
        let mut next = Box::pin(cores.run(|| Ok(())));
        assert!(poll(&mut next).await.is_pending());
        finish.send(()).unwrap();
        assert!(next.await.is_ok());
    }
}
