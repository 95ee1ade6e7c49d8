//! Metrics of resources and operations.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::engine::lifecycle::{OperationOutcome, OperationType};
use crate::metrics::{
    exposition::{Collector, Exposition},
    queue_depth::{Depth, Measurement},
};

const ENDS: [OperationOutcome; 3] = [OperationOutcome::Succeeded, OperationOutcome::Failed, OperationOutcome::Canceled];

/// Counters since the start of the server.
#[derive(Debug)]
pub struct ResourceMetrics {
    /// Ended operations by type and outcome.
    ended: [[AtomicU64; ENDS.len()]; OperationType::ALL.len()],
    overtaken: AtomicU64,
    /// Calls by provider: all calls, and failed calls.
    calls: BTreeMap<String, [AtomicU64; 2]>,
    drifted: AtomicU64,
    extra_deleted: AtomicU64,
    db_permit_timeouts: AtomicU64,
    aborted_steps: AtomicU64,
    /// Depth of the operation queue of the whole deployment.
    pub depth: Measurement,
}

impl ResourceMetrics {
    /// Creates the counters of a server with these providers.
    pub fn new<'a>(providers: impl Iterator<Item = &'a str>) -> Self {
        Self {
            ended: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            overtaken: AtomicU64::new(0),
            calls: providers.map(|name| (name.to_owned(), Default::default())).collect(),
            drifted: AtomicU64::new(0),
            extra_deleted: AtomicU64::new(0),
            db_permit_timeouts: AtomicU64::new(0),
            aborted_steps: AtomicU64::new(0),
            depth: Measurement::default(),
        }
    }

    /// Counts an operation that has ended.
    pub fn add_ended(&self, kind: OperationType, end: OperationOutcome) {
        if let Some(counter) = self.ended(kind, end) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Counts an operation that another server has taken over.
    pub fn add_overtaken(&self) {
        self.overtaken.fetch_add(1, Relaxed);
    }

    /// Counts a call to a provider, and whether it failed.
    pub fn add_call(&self, provider: &str, refused: bool) {
        if let Some([calls, refusals]) = self.calls.get(provider) {
            calls.fetch_add(1, Relaxed);
            refusals.fetch_add(refused.into(), Relaxed);
        }
    }

    /// Counts a resource that was found drifted or missing.
    pub fn add_drifted(&self) {
        self.drifted.fetch_add(1, Relaxed);
    }

    /// Counts an object that was deleted because it is not its resource's recorded object.
    pub fn add_extra_deleted(&self) {
        self.extra_deleted.fetch_add(1, Relaxed);
    }

    /// Counts a wait for a database permit that timed out.
    pub fn add_db_permit_timeout(&self) {
        self.db_permit_timeouts.fetch_add(1, Relaxed);
    }

    /// Number of waits for a database permit that timed out.
    pub fn db_permit_timeouts(&self) -> u64 {
        self.db_permit_timeouts.load(Relaxed)
    }

    /// Counts a step that ended with a database error or exceeded its time limit.
    pub fn add_aborted_step(&self) {
        self.aborted_steps.fetch_add(1, Relaxed);
    }

    fn ended(&self, kind: OperationType, end: OperationOutcome) -> Option<&AtomicU64> {
        let kind = OperationType::ALL.iter().position(|known| *known == kind)?;
        let end = ENDS.iter().position(|known| *known == end)?;
        self.ended.get(kind)?.get(end)
    }
}

impl Collector for ResourceMetrics {
    fn collect(&self, out: &mut Exposition) {
        let mut ended =
            out.counter("cloudapi_operations_ended_total", "Operations on resources that this server has ended.");
        for &kind in OperationType::ALL {
            for end in ENDS {
                let count = self.ended(kind, end).map_or(0, |counter| counter.load(Relaxed));
                ended = ended.sample(&[("type", kind.as_str()), ("outcome", end.status().as_str())], count);
            }
        }
        out.counter(
            "cloudapi_operations_overtaken_total",
            "Operations that another server has taken over from this one.",
        )
        .value(self.overtaken.load(Relaxed));
        let mut calls = out.counter("cloudapi_provider_calls_total", "Calls to providers.");
        for (provider, [all, refused]) in &self.calls {
            let (all, refused) = (all.load(Relaxed), refused.load(Relaxed));
            calls = calls
                .sample(&[("provider", provider), ("outcome", "done")], all.saturating_sub(refused))
                .sample(&[("provider", provider), ("outcome", "refused")], refused);
        }
        out.counter("cloudapi_resources_drifted_total", "Resources that this server has found drifted or missing.")
            .value(self.drifted.load(Relaxed));
        out.counter("cloudapi_objects_cleared_total", "Extra objects at providers that this server has deleted.")
            .value(self.extra_deleted.load(Relaxed));
        out.counter(
            "cloudapi_operations_db_permit_timeouts_total",
            "Waits for a database permit of the resource engine that timed out.",
        )
        .value(self.db_permit_timeouts());
        out.counter(
            "cloudapi_operations_aborted_steps_total",
            "Operation steps aborted by a database error or a time limit; each is retried.",
        )
        .value(self.aborted_steps.load(Relaxed));
        let Depth { open, due, oldest_due } = self.depth.get();
        out.gauge("cloudapi_operations", "Operations of the whole deployment that have not ended.")
            .sample(&[("state", "waiting")], open.saturating_sub(due))
            .sample(&[("state", "due")], due);
        out.gauge("cloudapi_operations_oldest_due_seconds", "Time since the oldest due operation became due.")
            .value(oldest_due);
    }
}
