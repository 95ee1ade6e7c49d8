//! Keeps one worker running: restarts it when it panics, ends early or makes no progress. Leases, fences and row locks
//! in the database make it safe to abort a worker at any await.

use std::{any::Any, sync::Arc, time::Duration};

use tokio::{
    task::JoinError,
    time::{Instant, sleep},
};
use tokio_util::task::AbortOnDropHandle;

use super::status::{State, Status, WorkerOptions};

use crate::db::jobs::Backoff;

/// Number of checks per stall bound. Stalls are detected by counting checks, not by elapsed time, so that no worker
/// counts as stalled after the whole process was suspended.
const CHECKS_PER_BOUND: u32 = 4;
/// Time without a failure after which the backoff is reset.
const BACKOFF_RESET: Duration = Duration::from_secs(300);

/// Runs the worker until it must stop. Each call of `start` creates a new future.
pub async fn supervise<W>(status: Arc<Status>, options: WorkerOptions, start: impl Fn() -> W + Send)
where
    W: Future<Output = ()> + Send + 'static,
{
    let stop = status.heartbeat.stop().clone();
    let mut failures = 0;
    loop {
        let began = Instant::now();
        let (name, body) = (status.name, start());
        let mut task = AbortOnDropHandle::new(tokio::spawn(body));
        let ended = tokio::select! {
            ended = &mut task => Some(ended),
            () = stalled(&status) => None,
        };
        let reason = match ended {
            Some(Ok(())) if stop.is_cancelled() => break,
            Some(Ok(())) => "ended early".to_owned(),
            Some(Err(error)) => failure_reason(error),
            None => {
                status.set_state(State::Stalled);
                tracing::error!(worker = name, "worker stalled; aborting");
                task.abort();
                // Wait, because two instances must not run concurrently.
                let _ = task.await;
                format!("no progress for {} s", status.stall_after.as_secs())
            }
        };
        if stop.is_cancelled() {
            tracing::error!(worker = name, reason, "worker failed during shutdown");
            break;
        }
        failures = if began.elapsed() < BACKOFF_RESET { failures + 1 } else { 1 };
        status.record_restart();
        let pause = pause(&options, failures);
        let pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
        tracing::error!(worker = name, reason, pause_ms, restarts = status.restarts(), "worker failed; restarting");
        // A worker that must stop is started once more, because some have last work to do.
        stop.run_until_cancelled(sleep(pause)).await;
    }
    status.set_state(State::Stopped);
}

/// Returns when the worker has made no progress within its stall bound. A worker that must stop has no bound.
async fn stalled(status: &Status) {
    let (mut count, mut checks_without_progress) = (status.heartbeat.count(), 0);
    while checks_without_progress < CHECKS_PER_BOUND {
        sleep(status.stall_after / CHECKS_PER_BOUND).await;
        let now = status.heartbeat.count();
        let is_progressing = now != count || status.heartbeat.is_idle() || status.heartbeat.stop().is_cancelled();
        checks_without_progress = if is_progressing { 0 } else { checks_without_progress + 1 };
        count = now;
    }
}

/// Pause before the restart after this number of failures (from 1), with jitter in the upper half.
fn pause(options: &WorkerOptions, failures: u32) -> Duration {
    Backoff { initial: options.initial_backoff, max: options.max_backoff, jitter: 0.5..=1.0 }.pause(failures, None)
}

fn failure_reason(error: JoinError) -> String {
    match error.try_into_panic() {
        Ok(panic) => format!("panicked: {}", message(&*panic)),
        Err(error) => error.to_string(),
    }
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("for an unknown reason")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::base::runtime::{clock::Clock, heartbeat::Heartbeat};

    const BOUND: Duration = Duration::from_millis(400);

    fn fast_options() -> WorkerOptions {
        let pause = Duration::from_millis(1);
        WorkerOptions { initial_backoff: pause, max_backoff: pause, ..WorkerOptions::default() }
    }

    fn status() -> Arc<Status> {
        let heartbeat = Heartbeat::new(Clock::system(), CancellationToken::new());
        Arc::new(Status::new("tested", true, BOUND, heartbeat))
    }

    #[test]
    fn restart_backoff_doubles_up_to_a_bound() {
        let options = WorkerOptions::default();
        for (failures, least, most) in [(1, 125, 250), (2, 250, 500), (5, 2000, 4000), (60, 15_000, 30_000)] {
            let pause = pause(&options, failures).as_millis();
            assert!((least..=most).contains(&pause), "{failures}: {pause}");
        }
    }

    #[tokio::test]
    async fn worker_that_ends_early_is_restarted_until_shutdown() {
        let (status, starts) = (status(), Arc::new(AtomicU32::new(0)));
        let (counted, ended) = (Arc::clone(&starts), Arc::clone(&status));
        supervise(Arc::clone(&status), fast_options(), move || {
            let (start, status) = (counted.fetch_add(1, SeqCst) + 1, Arc::clone(&ended));
            async move {
                if start == 4 {
                    status.heartbeat.stop().cancel();
                }
            }
        })
        .await;
        assert_eq!((starts.load(SeqCst), status.restarts(), status.state()), (4, 3, State::Stopped));
    }

    #[tokio::test]
    async fn hanging_worker_is_aborted_but_sleeping_or_slow_worker_is_not() {
        let status = status();
        let started_at = Instant::now();
        let (starts, worker) = (Arc::new(AtomicU32::new(0)), Arc::clone(&status));
        supervise(Arc::clone(&status), fast_options(), move || {
            let (start, heartbeat) = (starts.fetch_add(1, SeqCst), worker.heartbeat.clone());
            async move {
                if start > 0 {
                    return heartbeat.stop().cancel();
                }
                heartbeat.pause(BOUND * 2).await;
                for _ in 0..8 {
                    heartbeat.progress();
                    sleep(BOUND / 4).await;
                }
                heartbeat.wait_for(sleep(BOUND * 2)).await;
                std::future::pending::<()>().await;
            }
        })
        .await;
        assert_eq!(status.restarts(), 1);
        let hung = started_at.elapsed().saturating_sub(BOUND * 6);
        assert!(hung >= BOUND / 2, "{hung:?}");
    }

    #[tokio::test]
    async fn worker_waiting_for_restart_runs_once_more_at_shutdown() {
        let status = status();
        let stop = status.heartbeat.stop().clone();
        let (starts, counted) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
        let last = Arc::clone(&counted);
        let options =
            WorkerOptions { initial_backoff: BOUND * 1000, max_backoff: BOUND * 1000, ..WorkerOptions::default() };
        let started_at = Instant::now();
        let supervised = supervise(Arc::clone(&status), options, move || {
            let (start, last) = (starts.fetch_add(1, SeqCst), Arc::clone(&last));
            async move {
                if start > 0 {
                    last.fetch_add(1, SeqCst);
                }
            }
        });
        tokio::join!(supervised, async {
            sleep(BOUND).await;
            stop.cancel();
        });
        assert_eq!(counted.load(SeqCst), 1);
        assert!(started_at.elapsed() < BOUND * 100);
    }
}
