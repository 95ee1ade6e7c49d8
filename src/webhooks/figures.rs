//! What this server has sent, and what waits, in numbers.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::metrics::{
    queue_depth::{Depth, Measurement},
    text::{Measured, Page},
};

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The receiver took the event.
    Delivered,
    /// It did not, and will be asked again.
    Retried,
    /// It did not, and the time is up.
    Failed,
    /// Another server had taken the delivery over in the meantime.
    Overtaken,
}

/// The numbers, since the server started.
#[derive(Debug, Default)]
pub struct Figures {
    outcomes: [AtomicU64; 4],
    taken: AtomicU64,
    disabled: AtomicU64,
    /// Deliveries of the whole deployment.
    pub depth: Measurement,
}

impl Figures {
    /// Deliveries were taken to be sent.
    pub fn add_taken(&self, count: usize) {
        self.taken.fetch_add(count as u64, Relaxed);
    }

    /// An attempt ended.
    pub fn add(&self, outcome: Outcome) {
        self.counter(outcome).fetch_add(1, Relaxed);
    }

    /// A webhook was disabled.
    pub fn add_disabled(&self) {
        self.disabled.fetch_add(1, Relaxed);
    }

    /// How many attempts were begun.
    pub fn attempts(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// How many attempts ended so.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counter(outcome).load(Relaxed)
    }

    /// How many webhooks this server has disabled.
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
        page.counter("cloudapi_webhook_attempts_total", "Deliveries that this server has begun to send.")
            .is(self.attempts());
        page.counter("cloudapi_webhook_attempts_ended_total", "What came of them.")
            .of(&[("outcome", "delivered")], self.count(Outcome::Delivered))
            .of(&[("outcome", "retried")], self.count(Outcome::Retried))
            .of(&[("outcome", "failed")], self.count(Outcome::Failed))
            .of(&[("outcome", "overtaken")], self.count(Outcome::Overtaken));
        page.counter("cloudapi_webhooks_disabled_total", "Webhooks that this server has disabled.").is(self.disabled());
        page.gauge("cloudapi_webhook_deliveries", "Deliveries of the whole deployment that are not done.")
            .of(&[("state", "waiting")], open.saturating_sub(due))
            .of(&[("state", "due")], due);
        page.gauge("cloudapi_webhook_oldest_due_seconds", "For how long the oldest delivery that is due has waited.")
            .is(oldest_due);
    }
}
