//! Heartbeat of a background worker: reports progress to `server::supervision`, and tells the worker to stop.

use std::{
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::clock::Clock;

/// The worker is working and must report progress.
const WORKING: u64 = 0;
/// The worker is waiting for an event that may never occur.
const WAITING: u64 = u64::MAX;

/// Heartbeat of one worker. Clones share their state.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    stop: CancellationToken,
    started: Instant,
    count: AtomicU64,
    last_unix_millis: AtomicI64,
    /// [`WORKING`], [`WAITING`], or the end of the worker's pause, in milliseconds after `started`.
    idle_until: AtomicU64,
}

impl Heartbeat {
    /// Creates the heartbeat of a worker that ends when `stop` is canceled.
    pub fn new(clock: Clock, stop: CancellationToken) -> Self {
        let last_unix_millis = AtomicI64::new(clock.now().unix_millis());
        let (count, idle_until) = (AtomicU64::new(0), AtomicU64::new(WORKING));
        Self(Arc::new(Inner { clock, stop, started: Instant::now(), count, last_unix_millis, idle_until }))
    }

    /// Token that is canceled when the worker must end.
    pub fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// Reports progress. Call it in each iteration of the worker's loop, and within long iterations.
    pub fn progress(&self) {
        self.0.idle_until.store(WORKING, Relaxed);
        self.0.last_unix_millis.store(self.0.clock.now().unix_millis(), Relaxed);
        self.0.count.fetch_add(1, Relaxed);
    }

    /// Reports progress and sleeps. Returns false, without delay, if the worker must stop.
    pub async fn pause(&self, time: Duration) -> bool {
        self.progress();
        let until = self.0.started.elapsed() + time;
        let until = u64::try_from(until.as_millis()).unwrap_or(WAITING).max(1);
        self.0.idle_until.store(until, Relaxed);
        let is_running = self.0.stop.run_until_cancelled(sleep(time)).await.is_some();
        self.progress();
        is_running
    }

    /// Waits for `event`, for an unlimited time. Returns false, without delay, if the worker must stop.
    pub async fn pause_until(&self, event: impl Future<Output = ()>) -> bool {
        self.wait_for(self.0.stop.run_until_cancelled(event)).await.is_some()
    }

    /// Waits for `event`, for an unlimited time.
    pub async fn wait_for<T>(&self, event: impl Future<Output = T>) -> T {
        self.progress();
        self.0.idle_until.store(WAITING, Relaxed);
        let event = event.await;
        self.progress();
        event
    }

    /// Number of progress reports.
    pub fn count(&self) -> u64 {
        self.0.count.load(Relaxed)
    }

    /// Returns whether the worker sleeps or waits, so that no progress is due.
    pub fn is_idle(&self) -> bool {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(WAITING);
        now < self.0.idle_until.load(Relaxed)
    }

    /// Time of the last progress report, since 1970. The current time while the worker is idle.
    pub fn last_progress(&self) -> Duration {
        let now = || self.0.clock.now().unix_millis();
        let millis = if self.is_idle() { now() } else { self.0.last_unix_millis.load(Relaxed) };
        Duration::from_millis(u64::try_from(millis).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn worker_is_idle_only_until_its_pause_is_due_to_end() {
        let heartbeat = Heartbeat::new(Clock::system(), CancellationToken::new());
        assert!(!heartbeat.is_idle());
        let pausing = heartbeat.pause(Duration::from_secs(1));
        let mut pausing = std::pin::pin!(pausing);
        assert!(futures_util::poll!(pausing.as_mut()).is_pending());
        assert!(heartbeat.is_idle());
        // No longer polled, as in a stalled worker.
        while heartbeat.is_idle() {
            tokio::task::yield_now().await;
        }
        let count = heartbeat.count();
        assert!(pausing.await);
        assert_eq!(heartbeat.count(), count + 1);
    }

    #[tokio::test]
    async fn pause_ends_immediately_when_the_worker_must_stop() {
        let heartbeat = Heartbeat::new(Clock::system(), CancellationToken::new());
        heartbeat.stop().cancel();
        assert!(!heartbeat.pause(Duration::from_secs(3600)).await);
    }
}
