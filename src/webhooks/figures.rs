//! Metrics of this server's deliveries and of the queue.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::{
    queue_depth::{Depth, Measurement},
    text::{Measured, Page},
};

/// Result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver accepted the event.
    Delivered,
    /// The attempt failed and will be retried.
    Retried,
    /// The attempt failed and the retry period is over.
    Failed,
    /// Another server took over the delivery in the meantime.
    Overtaken,
}

/// Counters since the server started.
#[derive(Debug, Default)]
pub struct Figures {
    outcomes: [AtomicU64; 4],
    taken: AtomicU64,
    disabled: AtomicU64,
    /// Depth of the whole deployment's queue.
    pub depth: Measurement,
}

impl Figures {
    /// Counts claimed deliveries.
    pub fn add_taken(&self, count: usize) {
        self.taken.fetch_add(count as u64, Relaxed);
    }

    /// Counts a finished attempt.
    pub fn add(&self, outcome: Outcome) {
        self.counter(outcome).fetch_add(1, Relaxed);
    }

    /// Counts a disabled webhook.
    pub fn add_disabled(&self) {
        self.disabled.fetch_add(1, Relaxed);
    }

    /// Number of started attempts.
    pub fn attempts(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Number of attempts that finished with this outcome.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counter(outcome).load(Relaxed)
    }

    /// Number of webhooks that this server disabled.
    pub fn disabled(&self) -> u64 {
        self.disabled.load(Relaxed)
    }

    fn counter(&self, outcome: Outcome) -> &AtomicU64 {
        let [delivered, retried, failed, overtaken] = &self.outcomes;
        match outcome {
            Outcome::Delivered => delivered,
            Outcome::Retried => retried,
            Outcome::Failed => failed,
            Outcome::Overtaken => overtaken,
        }
    }
}

impl Measured for Figures {
    fn tell(&self, page: &mut Page) {
        let Depth { open, due, oldest_due } = self.depth.get();
        page.counter("cloudapi_webhook_attempts_total", "Delivery attempts that this server started.")
            .is(self.attempts());
        page.counter("cloudapi_webhook_attempts_ended_total", "Finished delivery attempts by outcome.")
            .of(&[("outcome", "delivered")], self.count(Outcome::Delivered))
            .of(&[("outcome", "retried")], self.count(Outcome::Retried))
            .of(&[("outcome", "failed")], self.count(Outcome::Failed))
            .of(&[("outcome", "overtaken")], self.count(Outcome::Overtaken));
        page.counter("cloudapi_webhooks_disabled_total", "Webhooks that this server disabled.").is(self.disabled());
        page.gauge("cloudapi_webhook_deliveries", "Pending deliveries of the whole deployment by state.")
            .of(&[("state", "waiting")], open.saturating_sub(due))
            .of(&[("state", "due")], due);
        page.gauge("cloudapi_webhook_oldest_due_seconds", "Age of the oldest due delivery.").is(oldest_due);
    }
}
