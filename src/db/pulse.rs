//! When the work of the deployment is due. One statement a second reads that for all workers of a server
//! (`server::background::pulse`), so that no worker polls while it has nothing to do.
//!
//! A worker waits for [`Pulse::due`]. A reading says only what other servers may have made due: a server wakes its own
//! workers when it makes work. If a reading is late, everything counts as due, and workers poll as often as they like.

use std::time::{Duration, Instant};

use tokio::{
    sync::{Notify, watch},
    time::sleep_until,
};

/// Channel on which a server that has sealed audit entries notifies the others. Almost all work begins with a write
/// that is recorded in the audit trail.
pub const CHANNEL: &str = "cloudapi_work";
/// Age from which a reading is not trusted any more.
const STALE_AFTER: Duration = Duration::from_millis(2500);

/// Work that any server can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Seal audit entries.
    Sealing,
    /// Send webhook deliveries.
    Deliveries,
    /// Continue operations on resources.
    Operations,
    /// Sweep a provider's objects.
    Sweeps,
    /// Delete expired resources.
    Expiry,
    /// Read the states of quotas.
    Quotas,
    /// Remove what belonged to deleted projects and webhooks.
    Purges,
}

impl Work {
    const COUNT: usize = Self::Purges as usize + 1;
}

/// One reading: when work of each type is due.
#[derive(Clone, Copy, Debug)]
struct Reading {
    at: Instant,
    due: [Option<Instant>; Work::COUNT],
}

impl Reading {
    fn due_at(&self, work: Work) -> Instant {
        let stale = self.at + STALE_AFTER;
        self.due.get(work as usize).copied().flatten().map_or(stale, |due| due.min(stale))
    }
}

/// The latest reading, and what must be noticed before the next one.
#[derive(Debug)]
pub struct Pulse {
    latest: watch::Sender<Option<Reading>>,
    requests: Notify,
    staged: Notify,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { latest: watch::Sender::new(None), requests: Notify::new(), staged: Notify::new() }
    }
}

impl Pulse {
    /// Publishes a reading: the time until work of these types is due. Other types are not due.
    pub fn publish(&self, work: impl IntoIterator<Item = (Work, Option<Duration>)>) {
        let at = Instant::now();
        let mut due = [None; Work::COUNT];
        for (work, after) in work {
            if let Some(due) = due.get_mut(work as usize) {
                *due = after.and_then(|after| at.checked_add(after));
            }
        }
        self.latest.send_replace(Some(Reading { at, due }));
    }

    /// Completes when work of this type is due, or may be due because there is no recent reading. A worker that has
    /// done the work must pause before it waits again, because the reading may be from before.
    pub async fn due(&self, work: Work) {
        let mut latest = self.latest.subscribe();
        loop {
            let Some(reading) = *latest.borrow_and_update() else { return };
            tokio::select! {
                () = sleep_until(reading.due_at(work).into()) => return,
                _ = latest.changed() => {}
            }
        }
    }

    /// Whether work of this type is due at any time, as far as known.
    pub fn is_planned(&self, work: Work) -> bool {
        let latest = *self.latest.borrow();
        latest.is_none_or(|reading| reading.due.get(work as usize).copied().flatten().is_some())
    }

    /// Whether the latest reading is recent.
    pub fn is_recent(&self) -> bool {
        self.latest.borrow().is_some_and(|reading| reading.at.elapsed() < STALE_AFTER)
    }

    /// Asks for a reading before the next one is due.
    pub fn request(&self) {
        self.requests.notify_one();
    }

    /// Completes when a reading was asked for.
    pub async fn requested(&self) {
        self.requests.notified().await;
    }

    /// Must be called when this server has committed audit entries that are not sealed.
    pub fn notify_staged(&self) {
        self.staged.notify_one();
    }

    /// Completes when this server has staged audit entries.
    pub async fn staged(&self) {
        self.staged.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn work_is_due_at_its_time_or_when_the_reading_is_old() {
        let at = Instant::now();
        let mut due = [None; Work::COUNT];
        due[Work::Sweeps as usize] = Some(at + Duration::from_secs(1));
        due[Work::Expiry as usize] = Some(at + Duration::from_secs(60));
        let reading = Reading { at, due };
        assert_eq!(reading.due_at(Work::Sweeps), at + Duration::from_secs(1));
        assert_eq!(reading.due_at(Work::Expiry), at + STALE_AFTER);
        assert_eq!(reading.due_at(Work::Sealing), at + STALE_AFTER);
    }

    #[tokio::test]
    async fn everything_is_due_without_a_reading() {
        let pulse = Pulse::default();
        assert!(pulse.due(Work::Sweeps).now_or_never().is_some());
        pulse.publish([(Work::Sealing, Some(Duration::ZERO))]);
        assert!(pulse.due(Work::Sweeps).now_or_never().is_none());
        pulse.due(Work::Sealing).await;
    }
}
