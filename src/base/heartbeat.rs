//! How a background worker reports that it makes progress, and how it learns that it must stop. `workers::supervisor`
//! reads it.

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

/// The worker works, and is bound to report progress.
const WORKING: u64 = 0;
/// The worker waits for an event that may never come.
const WAITING: u64 = u64::MAX;

/// The handle of one worker. Clones share their state.
#[derive(Clone, Debug)]
pub struct Heartbeat(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    clock: Clock,
    stop: CancellationToken,
    started: Instant,
    count: AtomicU64,
    last_unix_millis: AtomicI64,
    /// [`WORKING`], [`WAITING`], or the millisecond after `started` at which the worker goes on.
    idle_until: AtomicU64,
}

impl Heartbeat {
    /// The handle of a worker that ends when `stop` is canceled.
    pub fn new(clock: Clock, stop: CancellationToken) -> Self {
        let last_unix_millis = AtomicI64::new(clock.now().unix_millis());
        let (count, idle_until) = (AtomicU64::new(0), AtomicU64::new(WORKING));
        Self(Arc::new(Inner { clock, stop, started: Instant::now(), count, last_unix_millis, idle_until }))
    }

    /// Canceled when the worker must end.
    pub fn stop(&self) -> &CancellationToken {
        &self.0.stop
    }

    /// Reports progress. To be called once in each turn of the worker's loop, and within long turns.
    pub fn progress(&self) {
        self.0.idle_until.store(WORKING, Relaxed);
        self.0.last_unix_millis.store(self.0.clock.now().unix_millis(), Relaxed);
        self.0.count.fetch_add(1, Relaxed);
    }

    /// Reports progress and sleeps. Returns false, without delay, once the worker must stop.
    pub async fn pause(&self, time: Duration) -> bool {
        self.progress();
        let until = self.0.started.elapsed() + time;
        let until = u64::try_from(until.as_millis()).unwrap_or(WAITING).max(1);
        self.0.idle_until.store(until, Relaxed);
        let goes_on = self.0.stop.run_until_cancelled(sleep(time)).await.is_some();
        self.progress();
        goes_on
    }

    /// Waits for `event`, which may take any time.
    pub async fn wait_for<T>(&self, event: impl Future<Output = T>) -> T {
        self.progress();
        self.0.idle_until.store(WAITING, Relaxed);
        let event = event.await;
        self.progress();
        event
    }

    /// How often the worker has reported progress.
    pub fn count(&self) -> u64 {
        self.0.count.load(Relaxed)
    }

    /// Whether the worker sleeps or waits, so that no progress is due.
    pub fn is_idle(&self) -> bool {
        let now = u64::try_from(self.0.started.elapsed().as_millis()).unwrap_or(WAITING);
        now < self.0.idle_until.load(Relaxed)
    }

    /// When the worker last reported progress, since 1970; now, while it sleeps or waits as it should.
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
    async fn a_worker_is_idle_only_until_its_pause_should_end() {
        let heartbeat = Heartbeat::new(Clock::system(), CancellationToken::new());
        assert!(!heartbeat.is_idle());
        let pausing = heartbeat.pause(Duration::from_secs(1));
        let mut pausing = std::pin::pin!(pausing);
        assert!(futures_util::poll!(pausing.as_mut()).is_pending());
        assert!(heartbeat.is_idle());
        // Not polled any more, as in a hung worker.
        while heartbeat.is_idle() {
            tokio::task::yield_now().await;
        }
        let count = heartbeat.count();
        assert!(pausing.await);
        assert_eq!(heartbeat.count(), count + 1);
    }

    #[tokio::test]
    async fn a_pause_ends_at_once_when_the_worker_must_stop() {
        let heartbeat = Heartbeat::new(Clock::system(), CancellationToken::new());
        heartbeat.stop().cancel();
        assert!(!heartbeat.pause(Duration::from_secs(3600)).await);
    }
}
