//! Figures of the cache of credentials, of the lease and of recalls.

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

/// Upper bounds of how long a recall takes: a round trip or two, or what is left of a silent node's lease.
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

/// What has happened since the server started.
#[derive(Debug)]
pub struct Figures {
    /// How often a lease ended before it was renewed.
    pub lease_losses: AtomicU64,
    /// Credential look-ups rejected because of where they ran.
    pub reads_rejected: AtomicU64,
    /// Recalls that every node has confirmed, and those confirmed because no lease could be left.
    pub recalls_by_ack: AtomicU64,
    /// See above.
    pub recalls_by_time: AtomicU64,
    /// From a recall's COMMIT until it was confirmed.
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
            page.counter("cloudapi_auth_cache_hits_total", "Credentials that were found in the cache.").is(hits);
            page.counter("cloudapi_auth_cache_misses_total", "Credentials that were looked for there in vain.")
                .is(misses);
            page.gauge("cloudapi_auth_cache_entries", "Credentials in the cache.").is(entries);
        }
        page.gauge("cloudapi_auth_lease_held", "Whether a heartbeat was committed within the lease time.")
            .is(self.lease.remaining(since_boot()).is_some());
        page.counter("cloudapi_auth_lease_losses_total", "How often a lease ended before it was renewed.")
            .is(read(&self.figures.lease_losses));
        page.counter(
            "cloudapi_auth_reads_rejected_total",
            "Credential look-ups rejected because they ran on another or an older PostgreSQL server.",
        )
        .is(read(&self.figures.reads_rejected));
        page.counter("cloudapi_auth_recalls_total", "Revocations and other narrowings, by what confirmed them.")
            .of(&[("confirmed_by", "ack")], read(&self.figures.recalls_by_ack))
            .of(&[("confirmed_by", "time")], read(&self.figures.recalls_by_time));
        page.histogram(
            "cloudapi_auth_recall_duration_seconds",
            "From a recall's COMMIT until no server trusts its cache of it.",
        )
        .shows(&[], &self.figures.recall_time);
    }
}
