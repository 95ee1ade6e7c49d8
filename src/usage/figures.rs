//! Figures of counting, and of writing what was counted.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::meter::Meter;
use crate::{
    base::clock::Timestamp,
    metrics::{
        histogram::Histogram,
        text::{Measured, Page},
    },
};

static BOUNDS: [Duration; 9] = [
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_millis(2500),
    Duration::from_secs(5),
    Duration::from_secs(15),
];

/// What has happened since the server started.
#[derive(Debug)]
pub struct Figures {
    /// How long flushes took, those that failed too.
    times: Histogram,
    failures: AtomicU64,
    rows: AtomicU64,
    /// When the last one succeeded, in milliseconds since 1970; 0 if none has.
    last: AtomicU64,
    /// Requests that found no room in any journal.
    pub lost: AtomicU64,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            times: Histogram::new(&BOUNDS),
            failures: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            last: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }
}

impl Figures {
    /// A flush that took `time` has written so many rows, up to `now`; or it has failed.
    pub fn flushed(&self, rows: Option<usize>, time: Duration, now: Timestamp) {
        self.times.add(time);
        match rows {
            Some(rows) => {
                self.rows.fetch_add(rows as u64, Ordering::Relaxed);
                let millis = u64::try_from(now.unix_millis()).unwrap_or(0);
                self.last.store(millis, Ordering::Relaxed);
            }
            None => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Measured for Meter {
    fn tell(&self, page: &mut Page) {
        let figures = &self.figures;
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        page.gauge(
            "cloudapi_usage_last_flush_timestamp_seconds",
            "When usage was last written, since 1970; 0 for not yet.",
        )
        .is(Duration::from_millis(read(&figures.last)));
        page.histogram("cloudapi_usage_flush_duration_seconds", "How long it took to write usage, or to fail at it.")
            .shows(&[], &figures.times);
        page.counter(
            "cloudapi_usage_flush_failures_total",
            "How often usage could not be written, and waits in its journal.",
        )
        .is(read(&figures.failures));
        page.counter("cloudapi_usage_flushed_rows_total", "Rows that were sent to the database.")
            .is(read(&figures.rows));
        page.counter("cloudapi_usage_lost_requests_total", "Requests that could not be counted, for want of any room.")
            .is(read(&figures.lost));
        let (used, all) = self.current().slots();
        page.gauge("cloudapi_usage_journal_slots_used", "Slots of the current journal that count something.").is(used);
        page.gauge("cloudapi_usage_journal_slots", "Slots that it has; another follows when half of them are used.")
            .is(all);
        page.gauge(
            "cloudapi_usage_journals",
            "Journals of which something may still have to be written, the current one too.",
        )
        .is(1 + self.others().len());
    }
}
