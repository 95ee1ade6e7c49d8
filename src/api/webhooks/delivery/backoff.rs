//! Timing and concurrency limits of deliveries: the backoff after failures, and the number of concurrent deliveries per
//! receiver, so that a dead or slow receiver does not delay others.

use std::{collections::HashMap, time::Duration};

use crate::{base::id::WebhookId, db::jobs::Backoff};

/// Timing and limits of deliveries.
#[derive(Clone, Copy, Debug)]
pub struct DeliveryPolicy {
    /// Interval of polling while deliveries are due. A server that seals an entry polls immediately.
    pub poll: Duration,
    /// Deadline for one exchange: lookup, connection, TLS and response.
    pub request_timeout: Duration,
    /// Duration of a server's lease on a claimed delivery. Longer than an exchange.
    pub lease: Duration,
    /// Maximum delay before the first retry. The maximum doubles with each further retry.
    pub initial_backoff: Duration,
    /// Upper limit of the retry delay.
    pub max_backoff: Duration,
    /// Period in which a delivery is retried.
    pub retry_window: Duration,
    /// Period of continuous failure after which a webhook is disabled.
    pub disable_after: Duration,
    /// Minimum number of failed attempts before a webhook is disabled.
    pub disable_failures: i32,
    /// Retention period of deliveries.
    pub retention: Duration,
}

impl Default for DeliveryPolicy {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            poll: Duration::from_millis(500),
            request_timeout: Duration::from_secs(15),
            lease: Duration::from_secs(45),
            initial_backoff: Duration::from_secs(10),
            max_backoff: Duration::from_secs(4 * HOUR),
            retry_window: Duration::from_secs(24 * HOUR),
            disable_after: Duration::from_secs(5 * 24 * HOUR),
            disable_failures: 10,
            retention: Duration::from_secs(30 * 24 * HOUR),
        }
    }
}

impl DeliveryPolicy {
    /// Delay after the failed attempt `attempt`: exponential backoff with full jitter, so that deliveries that failed
    /// together are not retried together. Respects the receiver's `Retry-After` up to `max_backoff`.
    pub fn backoff(&self, attempt: i32, retry_after: Option<Duration>) -> Duration {
        let failure = u32::try_from(attempt).unwrap_or(1);
        Backoff { initial: self.initial_backoff, max: self.max_backoff, jitter: 0.0..=1.0 }.pause(failure, retry_after)
    }

    /// Delay after an attempt that failed because of this server.
    pub fn local_backoff(&self, attempt: i32) -> Duration {
        self.backoff(attempt.min(MAX_LOCAL_EXPONENT), None)
    }
}

/// Failures of this server are retried with the backoff of at most this many failures, so that they are always retried
/// soon.
const MAX_LOCAL_EXPONENT: i32 = 3;

/// Duration above which an exchange counts as slow.
const SLOW_AFTER: Duration = Duration::from_secs(3);
/// Concurrent deliveries to receivers without known problems: in total, to a receiver that was not tried yet, and to a
/// receiver that has responded quickly.
const HEALTHY_SLOTS: usize = 48;
const SLOTS_PER_NEW_WEBHOOK: usize = 1;
const SLOTS_PER_FAST_WEBHOOK: usize = 4;
/// Concurrent deliveries to receivers that fail or are slow: in total, and to one receiver.
const FAILING_SLOTS: usize = 16;
const SLOTS_PER_FAILING_WEBHOOK: usize = 1;
/// Maximum number of receivers whose behavior is remembered. Above it, all are forgotten and count as untried.
const MAX_WEBHOOKS_SEEN: usize = 10_000;

/// Lane of a delivery. Receivers in trouble have separate capacity: even if all of their deliveries hang until the
/// deadline, other receivers are not delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Receivers that work.
    Healthy,
    /// Receivers that fail or are slow.
    Failing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReceiverState {
    Fast,
    Failing,
}

/// Deliveries in flight on one server, and the observed behavior of receivers.
#[derive(Debug, Default)]
pub struct Lanes {
    in_flight: HashMap<WebhookId, usize>,
    used: [usize; 2],
    states: HashMap<WebhookId, ReceiverState>,
}

impl Lanes {
    /// Webhooks of which no more deliveries can be claimed now.
    pub fn busy(&self) -> Vec<WebhookId> {
        self.in_flight.keys().copied().filter(|webhook| self.available(*webhook, false).1 == 0).collect()
    }

    /// Lane of a webhook's deliveries, and how many more can be claimed now. All servers know whether a webhook is
    /// `failing`. Each server observes on its own whether a receiver is slow.
    pub fn available(&self, webhook: WebhookId, failing: bool) -> (Lane, usize) {
        let (lane, each) = match self.states.get(&webhook) {
            _ if failing => (Lane::Failing, SLOTS_PER_FAILING_WEBHOOK),
            Some(ReceiverState::Failing) => (Lane::Failing, SLOTS_PER_FAILING_WEBHOOK),
            Some(ReceiverState::Fast) => (Lane::Healthy, SLOTS_PER_FAST_WEBHOOK),
            None => (Lane::Healthy, SLOTS_PER_NEW_WEBHOOK),
        };
        let in_flight = self.in_flight.get(&webhook).copied().unwrap_or(0);
        (lane, each.saturating_sub(in_flight).min(self.free(lane)))
    }

    /// Free capacity of `lane`.
    pub fn free(&self, lane: Lane) -> usize {
        let (all, [healthy, failing_lane]) = match lane {
            Lane::Healthy => (HEALTHY_SLOTS, self.used),
            Lane::Failing => (FAILING_SLOTS, self.used),
        };
        all.saturating_sub(if lane == Lane::Healthy { healthy } else { failing_lane })
    }

    /// Whether no delivery is in flight.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Records that a delivery to `webhook` started.
    pub fn begin(&mut self, webhook: WebhookId, lane: Lane) {
        *self.in_flight.entry(webhook).or_default() += 1;
        self.change(lane, 1);
    }

    /// Records that a delivery finished: whether it was `delivered`, and its duration.
    pub fn end(&mut self, webhook: WebhookId, lane: Lane, delivered: bool, duration: Duration) {
        self.release(webhook, lane);
        if self.states.len() >= MAX_WEBHOOKS_SEEN {
            self.states.clear();
        }
        let state = if delivered && duration <= SLOW_AFTER { ReceiverState::Fast } else { ReceiverState::Failing };
        self.states.insert(webhook, state);
    }

    /// Like [`Lanes::end`], for an attempt that does not show how the receiver behaves.
    pub fn release(&mut self, webhook: WebhookId, lane: Lane) {
        if let Some(count) = self.in_flight.get_mut(&webhook) {
            *count -= 1;
            if *count == 0 {
                self.in_flight.remove(&webhook);
            }
        }
        self.change(lane, -1);
    }

    fn change(&mut self, lane: Lane, by: isize) {
        let [healthy, failing_lane] = &mut self.used;
        let used = if lane == Lane::Healthy { healthy } else { failing_lane };
        *used = used.saturating_add_signed(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_the_limit_with_full_jitter() {
        let policy = DeliveryPolicy::default();
        for (attempt, max) in [(1, 10), (2, 20), (5, 160), (11, 10_240), (12, 14_400), (i32::MAX, 14_400)] {
            let pauses: Vec<Duration> = (0..1000).map(|_| policy.backoff(attempt, None)).collect();
            let max = Duration::from_secs(max);
            assert!(pauses.iter().all(|pause| *pause <= max), "{attempt}");
            assert!(pauses.iter().any(|pause| *pause > max / 2) && pauses.iter().any(|pause| *pause < max / 2));
        }
    }

    #[test]
    fn retry_after_is_respected_up_to_the_limit() {
        let policy = DeliveryPolicy::default();
        assert!(policy.backoff(1, Some(Duration::from_secs(600))) >= Duration::from_secs(600));
        assert!(policy.backoff(1, Some(Duration::MAX)) <= policy.max_backoff);
    }

    #[test]
    fn server_failures_are_retried_soon_regardless_of_their_number() {
        let policy = DeliveryPolicy::default();
        let max = policy.initial_backoff * 4;
        assert!((0..1000).all(|attempt| policy.local_backoff(attempt) <= max));
    }

    #[test]
    fn server_failures_do_not_change_the_receivers_lane() {
        let (mut lanes, webhook) = (Lanes::default(), WebhookId::new());
        lanes.begin(webhook, Lane::Healthy);
        lanes.end(webhook, Lane::Healthy, true, Duration::from_millis(5));
        lanes.begin(webhook, Lane::Healthy);
        lanes.release(webhook, Lane::Healthy);
        assert_eq!(lanes.available(webhook, false), (Lane::Healthy, SLOTS_PER_FAST_WEBHOOK));
        assert!(lanes.is_idle());
    }

    #[test]
    fn failing_receivers_do_not_use_the_capacity_of_others() {
        let mut lanes = Lanes::default();
        for _ in 0..100 {
            let webhook = WebhookId::new();
            let (lane, slots) = lanes.available(webhook, true);
            assert_eq!(lane, Lane::Failing);
            (0..slots).for_each(|_| lanes.begin(webhook, lane));
        }
        assert_eq!(lanes.free(Lane::Failing), 0);
        assert_eq!(lanes.free(Lane::Healthy), HEALTHY_SLOTS);
    }

    #[test]
    fn concurrency_rises_for_quick_receivers_and_falls_for_slow_ones() {
        let (mut lanes, webhook) = (Lanes::default(), WebhookId::new());
        assert_eq!(lanes.available(webhook, false), (Lane::Healthy, SLOTS_PER_NEW_WEBHOOK));
        lanes.begin(webhook, Lane::Healthy);
        assert_eq!(lanes.available(webhook, false), (Lane::Healthy, 0));
        lanes.end(webhook, Lane::Healthy, true, Duration::from_millis(5));
        assert_eq!(lanes.available(webhook, false), (Lane::Healthy, SLOTS_PER_FAST_WEBHOOK));
        for (delivered, duration) in [(true, SLOW_AFTER * 2), (false, Duration::ZERO)] {
            lanes.begin(webhook, Lane::Healthy);
            lanes.end(webhook, Lane::Healthy, delivered, duration);
            assert_eq!(lanes.available(webhook, false), (Lane::Failing, SLOTS_PER_FAILING_WEBHOOK));
        }
        assert!(lanes.is_idle());
        assert_eq!(lanes.used, [0, 0]);
    }
}
