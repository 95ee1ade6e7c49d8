//! Metrics of the credential cache, the lease and invalidations.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::node::Node;
use crate::{
    base::clock::since_boot,
    metrics::{
        histogram::Histogram,
        text::{Measured, Page},
    },
};

/// Bucket bounds of the duration of an invalidation: one or two round trips, or the rest of a silent node's lease.
static BOUNDS: [Duration; 12] = [
    Duration::from_millis(1),
    Duration::from_millis(2),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(20),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(200),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
];

/// Counters since the server started.
#[derive(Debug)]
pub struct Figures {
    /// Leases that expired before they were renewed.
    pub lease_losses: AtomicU64,
    /// Credential lookups rejected because of the server that they ran on.
    pub reads_rejected: AtomicU64,
    /// Invalidations that every other node acknowledged.
    pub recalls_by_ack: AtomicU64,
    /// Invalidations that ended when the leases of the remaining nodes had expired.
    pub recalls_by_time: AtomicU64,
    /// Time from an invalidation's COMMIT until its confirmation.
    pub recall_time: Histogram,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            lease_losses: AtomicU64::new(0),
            reads_rejected: AtomicU64::new(0),
            recalls_by_ack: AtomicU64::new(0),
            recalls_by_time: AtomicU64::new(0),
            recall_time: Histogram::new(&BOUNDS),
        }
    }
}

impl Measured for Node {
    fn tell(&self, page: &mut Page) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        if let Some(credentials) = &self.credentials {
            let (hits, misses, entries) = credentials.figures();
            page.counter("cloudapi_auth_cache_hits_total", "Credentials found in the cache.").is(hits);
            page.counter(
                "cloudapi_auth_cache_misses_total",
                "Credentials not found in the cache and read from the database.",
            )
            .is(misses);
            page.gauge("cloudapi_auth_cache_entries", "Credentials in the cache.").is(entries);
        }
        page.gauge("cloudapi_auth_lease_held", "Whether a heartbeat was committed within the lease time.")
            .is(self.lease.remaining(since_boot()).is_some());
        page.counter("cloudapi_auth_lease_losses_total", "Leases that expired before they were renewed.")
            .is(read(&self.figures.lease_losses));
        page.counter(
            "cloudapi_auth_reads_rejected_total",
            "Credential lookups rejected because they ran on a different or stale PostgreSQL server.",
        )
        .is(read(&self.figures.reads_rejected));
        page.counter("cloudapi_auth_recalls_total", "Invalidations, by how they were confirmed.")
            .of(&[("confirmed_by", "ack")], read(&self.figures.recalls_by_ack))
            .of(&[("confirmed_by", "time")], read(&self.figures.recalls_by_time));
        page.histogram(
            "cloudapi_auth_recall_duration_seconds",
            "Time from an invalidation's COMMIT until no server has a valid cache entry for it.",
        )
        .shows(&[], &self.figures.recall_time);
    }
}
