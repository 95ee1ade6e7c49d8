//! What this server has done about resources, and what waits, in numbers.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use super::lifecycle::{End, OperationType};
use crate::metrics::{
    queue_depth::{Depth, Measurement},
    text::{Measured, Page},
};

const ENDS: [End; 3] = [End::Succeeded, End::Failed, End::Canceled];

/// The numbers, since the server started.
#[derive(Debug)]
pub struct Figures {
    /// By type and by end.
    ended: [[AtomicU64; ENDS.len()]; OperationType::ALL.len()],
    overtaken: AtomicU64,
    /// By provider: calls, and those of them that were refused.
    calls: BTreeMap<String, [AtomicU64; 2]>,
    drifted: AtomicU64,
    cleared: AtomicU64,
    db_permit_timeouts: AtomicU64,
    aborted_steps: AtomicU64,
    /// Operations of the whole deployment.
    pub depth: Measurement,
}

impl Figures {
    /// Those of a server that has these providers.
    pub fn new<'a>(providers: impl Iterator<Item = &'a str>) -> Self {
        Self {
            ended: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::new(0))),
            overtaken: AtomicU64::new(0),
            calls: providers.map(|name| (name.to_owned(), Default::default())).collect(),
            drifted: AtomicU64::new(0),
            cleared: AtomicU64::new(0),
            db_permit_timeouts: AtomicU64::new(0),
            aborted_steps: AtomicU64::new(0),
            depth: Measurement::default(),
        }
    }

    /// An operation has ended.
    pub fn add_ended(&self, kind: OperationType, end: End) {
        if let Some(counter) = self.ended(kind, end) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Another server had taken an operation over in the meantime.
    pub fn add_overtaken(&self) {
        self.overtaken.fetch_add(1, Relaxed);
    }

    /// A provider was asked for something, and refused or not.
    pub fn add_call(&self, provider: &str, refused: bool) {
        if let Some([calls, refusals]) = self.calls.get(provider) {
            calls.fetch_add(1, Relaxed);
            refusals.fetch_add(refused.into(), Relaxed);
        }
    }

    /// A resource was found to have drifted, or gone.
    pub fn add_drifted(&self) {
        self.drifted.fetch_add(1, Relaxed);
    }

    /// An object was found beside the recorded one, and deleted.
    pub fn add_cleared(&self) {
        self.cleared.fetch_add(1, Relaxed);
    }

    /// No database permit was free in time.
    pub fn add_db_permit_timeout(&self) {
        self.db_permit_timeouts.fetch_add(1, Relaxed);
    }

    /// How often no database permit was free in time.
    pub fn db_permit_timeouts(&self) -> u64 {
        self.db_permit_timeouts.load(Relaxed)
    }

    /// A step of an operation ended with an error of the database or after the time for it.
    pub fn add_aborted_step(&self) {
        self.aborted_steps.fetch_add(1, Relaxed);
    }

    fn ended(&self, kind: OperationType, end: End) -> Option<&AtomicU64> {
        let kind = OperationType::ALL.iter().position(|known| *known == kind)?;
        let end = ENDS.iter().position(|known| *known == end)?;
        self.ended.get(kind)?.get(end)
    }
}

impl Measured for Figures {
    fn tell(&self, page: &mut Page) {
        let mut ended = page.counter(
            "cloudapi_operations_ended_total",
            "Operations on resources that this server has brought to their end.",
        );
        for &kind in OperationType::ALL {
            for end in ENDS {
                let count = self.ended(kind, end).map_or(0, |counter| counter.load(Relaxed));
                ended = ended.of(&[("type", kind.as_str()), ("outcome", end.status().as_str())], count);
            }
        }
        page.counter(
            "cloudapi_operations_overtaken_total",
            "Operations that another server had taken over in the meantime.",
        )
        .is(self.overtaken.load(Relaxed));
        let mut calls = page.counter("cloudapi_provider_calls_total", "Calls to providers.");
        for (provider, [all, refused]) in &self.calls {
            let (all, refused) = (all.load(Relaxed), refused.load(Relaxed));
            calls = calls
                .of(&[("provider", provider), ("outcome", "done")], all.saturating_sub(refused))
                .of(&[("provider", provider), ("outcome", "refused")], refused);
        }
        page.counter(
            "cloudapi_resources_drifted_total",
            "Resources that this server has found changed or deleted by others.",
        )
        .is(self.drifted.load(Relaxed));
        page.counter("cloudapi_objects_cleared_total", "Objects beside recorded ones that this server has deleted.")
            .is(self.cleared.load(Relaxed));
        page.counter(
            "cloudapi_operations_db_permit_timeouts_total",
            "Waits for one of the database permits of the resource engine that ended without one.",
        )
        .is(self.db_permit_timeouts());
        page.counter(
            "cloudapi_operations_aborted_steps_total",
            "Steps of operations that ended early, because of the database or of time; each is repeated.",
        )
        .is(self.aborted_steps.load(Relaxed));
        let Depth { open, due, oldest_due } = self.depth.get();
        page.gauge("cloudapi_operations", "Operations of the whole deployment that are not over.")
            .of(&[("state", "waiting")], open.saturating_sub(due))
            .of(&[("state", "due")], due);
        page.gauge(
            "cloudapi_operations_oldest_due_seconds",
            "For how long the oldest operation that is due has waited.",
        )
        .is(oldest_due);
    }
}
