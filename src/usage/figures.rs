//! Metrics of counting and flushing usage.

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

/// Metrics since the start of the server.
#[derive(Debug)]
pub struct Figures {
    /// Durations of flushes, including failed ones.
    times: Histogram,
    failures: AtomicU64,
    rows: AtomicU64,
    /// Time of the last successful flush, in milliseconds since 1970, or 0.
    last: AtomicU64,
    /// Requests that no journal had space for.
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
    /// Records a flush that took `time` and wrote `rows` rows up to `now`. None means that it failed.
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
        page.gauge("cloudapi_usage_last_flush_timestamp_seconds", "Unix time of the last successful flush, or 0.")
            .is(Duration::from_millis(read(&figures.last)));
        page.histogram("cloudapi_usage_flush_duration_seconds", "Duration of a flush, successful or not.")
            .shows(&[], &figures.times);
        page.counter("cloudapi_usage_flush_failures_total", "Failed flushes. The usage remains in its journal.")
            .is(read(&figures.failures));
        page.counter("cloudapi_usage_flushed_rows_total", "Rows sent to the database.").is(read(&figures.rows));
        page.counter(
            "cloudapi_usage_lost_requests_total",
            "Requests that could not be counted because no journal had space.",
        )
        .is(read(&figures.lost));
        let (used, all) = self.current().slots();
        page.gauge("cloudapi_usage_journal_slots_used", "Used slots of the current journal.").is(used);
        page.gauge(
            "cloudapi_usage_journal_slots",
            "Total slots of the current journal. At half, another journal is started.",
        )
        .is(all);
        page.gauge(
            "cloudapi_usage_journals",
            "Journals not yet fully written to the database, including the current one.",
        )
        .is(1 + self.others().len());
    }
}
