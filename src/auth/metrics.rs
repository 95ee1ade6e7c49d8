//! Metrics of the credential cache, the lease and invalidations.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::revocation::node::Node;
use crate::{
    base::runtime::clock::since_boot,
    metrics::{
        exposition::{Collector, Exposition},
        histogram::Histogram,
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
pub struct AuthMetrics {
    /// Leases that expired before they were renewed.
    pub lease_losses: AtomicU64,
    /// Credential lookups rejected because of the server that they ran on.
    pub reads_rejected: AtomicU64,
    /// Invalidations that every other node acknowledged.
    pub invalidations_by_ack: AtomicU64,
    /// Invalidations that ended when the leases of the remaining nodes had expired.
    pub invalidations_by_time: AtomicU64,
    /// Time from an invalidation's COMMIT until its confirmation.
    pub invalidation_duration: Histogram,
}

impl Default for AuthMetrics {
    fn default() -> Self {
        Self {
            lease_losses: AtomicU64::new(0),
            reads_rejected: AtomicU64::new(0),
            invalidations_by_ack: AtomicU64::new(0),
            invalidations_by_time: AtomicU64::new(0),
            invalidation_duration: Histogram::new(&BOUNDS),
        }
    }
}

impl Collector for Node {
    fn collect(&self, out: &mut Exposition) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        if let Some(credentials) = &self.credentials {
            let (hits, misses, entries) = credentials.stats();
            out.counter("cloudapi_auth_cache_hits_total", "Credentials found in the cache.").value(hits);
            out.counter(
                "cloudapi_auth_cache_misses_total",
                "Credentials not found in the cache and read from the database.",
            )
            .value(misses);
            out.gauge("cloudapi_auth_cache_entries", "Credentials in the cache.").value(entries);
        }
        out.gauge("cloudapi_auth_lease_held", "Whether a heartbeat was committed within the lease time.")
            .value(self.lease.remaining(since_boot()).is_some());
        out.counter("cloudapi_auth_lease_losses_total", "Leases that expired before they were renewed.")
            .value(read(&self.metrics.lease_losses));
        out.counter(
            "cloudapi_auth_reads_rejected_total",
            "Credential lookups rejected because they ran on a different or stale PostgreSQL server.",
        )
        .value(read(&self.metrics.reads_rejected));
        out.counter("cloudapi_auth_invalidations_total", "Invalidations, by how they were confirmed.")
            .sample(&[("confirmed_by", "ack")], read(&self.metrics.invalidations_by_ack))
            .sample(&[("confirmed_by", "time")], read(&self.metrics.invalidations_by_time));
        out.histogram(
            "cloudapi_auth_invalidation_duration_seconds",
            "Time from an invalidation's COMMIT until no server has a valid cache entry for it.",
        )
        .histogram_sample(&[], &self.metrics.invalidation_duration);
    }
}
