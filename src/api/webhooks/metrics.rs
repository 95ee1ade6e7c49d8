//! Metrics of this server's deliveries and of the queue.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::{
    exposition::{Collector, Exposition},
    queue_depth::{Depth, Measurement},
};

/// Result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver accepted the event.
    Delivered,
    /// The attempt failed and will be retried.
    Retried,
    /// The attempt failed and the retry period is over.
    Failed,
    /// Another server took over the delivery in the meantime.
    Superseded,
}

/// Counters since the server started.
#[derive(Debug, Default)]
pub struct WebhookMetrics {
    outcomes: [AtomicU64; 4],
    attempts: AtomicU64,
    disabled: AtomicU64,
    /// Depth of the whole deployment's queue.
    pub depth: Measurement,
}

impl WebhookMetrics {
    /// Counts claimed deliveries.
    pub fn add_attempts(&self, count: usize) {
        self.attempts.fetch_add(count as u64, Relaxed);
    }

    /// Counts a finished attempt.
    pub fn add_outcome(&self, outcome: DeliveryOutcome) {
        self.counter(outcome).fetch_add(1, Relaxed);
    }

    /// Counts a disabled webhook.
    pub fn add_disabled(&self) {
        self.disabled.fetch_add(1, Relaxed);
    }

    /// Number of started attempts.
    pub fn attempts(&self) -> u64 {
        self.attempts.load(Relaxed)
    }

    /// Number of attempts that finished with this outcome.
    pub fn count(&self, outcome: DeliveryOutcome) -> u64 {
        self.counter(outcome).load(Relaxed)
    }

    /// Number of webhooks that this server disabled.
    pub fn disabled(&self) -> u64 {
        self.disabled.load(Relaxed)
    }

    fn counter(&self, outcome: DeliveryOutcome) -> &AtomicU64 {
        let [delivered, retried, failed, superseded] = &self.outcomes;
        match outcome {
            DeliveryOutcome::Delivered => delivered,
            DeliveryOutcome::Retried => retried,
            DeliveryOutcome::Failed => failed,
            DeliveryOutcome::Superseded => superseded,
        }
    }
}

impl Collector for WebhookMetrics {
    fn collect(&self, out: &mut Exposition) {
        let Depth { open, due, oldest_due } = self.depth.get();
        out.counter("cloudapi_webhook_attempts_total", "Delivery attempts that this server started.")
            .value(self.attempts());
        out.counter("cloudapi_webhook_attempts_ended_total", "Finished delivery attempts by outcome.")
            .sample(&[("outcome", "delivered")], self.count(DeliveryOutcome::Delivered))
            .sample(&[("outcome", "retried")], self.count(DeliveryOutcome::Retried))
            .sample(&[("outcome", "failed")], self.count(DeliveryOutcome::Failed))
            .sample(&[("outcome", "overtaken")], self.count(DeliveryOutcome::Superseded));
        out.counter("cloudapi_webhooks_disabled_total", "Webhooks that this server disabled.").value(self.disabled());
        out.gauge("cloudapi_webhook_deliveries", "Pending deliveries of the whole deployment by state.")
            .sample(&[("state", "waiting")], open.saturating_sub(due))
            .sample(&[("state", "due")], due);
        out.gauge("cloudapi_webhook_oldest_due_seconds", "Age of the oldest due delivery.").value(oldest_due);
    }
}
