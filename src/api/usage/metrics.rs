//! Metrics of counting and flushing usage.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::counting::meter::Meter;
use crate::{
    base::runtime::clock::Timestamp,
    metrics::{
        exposition::{Collector, Exposition},
        histogram::Histogram,
    },
};

static BUCKETS: [Duration; 9] = [
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
pub struct FlushMetrics {
    /// Durations of flushes, including failed ones.
    durations: Histogram,
    failures: AtomicU64,
    rows: AtomicU64,
    /// Time of the last successful flush, in milliseconds since 1970, or 0.
    last_flush: AtomicU64,
    /// Requests that no journal had space for.
    pub lost_requests: AtomicU64,
}

impl Default for FlushMetrics {
    fn default() -> Self {
        Self {
            durations: Histogram::new(&BUCKETS),
            failures: AtomicU64::new(0),
            rows: AtomicU64::new(0),
            last_flush: AtomicU64::new(0),
            lost_requests: AtomicU64::new(0),
        }
    }
}

impl FlushMetrics {
    /// Records a flush that took `time` and wrote `rows` rows up to `now`. None means that it failed.
    pub fn record_flush(&self, rows: Option<usize>, time: Duration, now: Timestamp) {
        self.durations.observe(time);
        match rows {
            Some(rows) => {
                self.rows.fetch_add(rows as u64, Ordering::Relaxed);
                let millis = u64::try_from(now.unix_millis()).unwrap_or(0);
                self.last_flush.store(millis, Ordering::Relaxed);
            }
            None => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Collector for Meter {
    fn collect(&self, out: &mut Exposition) {
        let metrics = &self.metrics;
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        out.gauge("cloudapi_usage_last_flush_timestamp_seconds", "Unix time of the last successful flush, or 0.")
            .value(Duration::from_millis(read(&metrics.last_flush)));
        out.histogram("cloudapi_usage_flush_duration_seconds", "Duration of a flush, successful or not.")
            .histogram_sample(&[], &metrics.durations);
        out.counter("cloudapi_usage_flush_failures_total", "Failed flushes. The usage remains in its journal.")
            .value(read(&metrics.failures));
        out.counter("cloudapi_usage_flushed_rows_total", "Rows sent to the database.").value(read(&metrics.rows));
        out.counter(
            "cloudapi_usage_lost_requests_total",
            "Requests that could not be counted because no journal had space.",
        )
        .value(read(&metrics.lost_requests));
        let (used, all) = self.current().slots();
        out.gauge("cloudapi_usage_journal_slots_used", "Used slots of the current journal.").value(used);
        out.gauge(
            "cloudapi_usage_journal_slots",
            "Total slots of the current journal. At half, another journal is started.",
        )
        .value(all);
        out.gauge(
            "cloudapi_usage_journals",
            "Journals not yet fully written to the database, including the current one.",
        )
        .value(1 + self.older_journals().len());
    }
}
