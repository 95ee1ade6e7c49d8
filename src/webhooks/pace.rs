//! Timing and concurrency limits of deliveries: the backoff after failures, and the number of concurrent deliveries per
//! receiver, so that a dead or slow receiver does not delay others.

use std::{collections::HashMap, time::Duration};

use rand::RngExt;

use crate::base::id::WebhookId;

/// Timing and limits of deliveries.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Polling interval for due deliveries. A server that seals an entry polls immediately.
    pub poll: Duration,
    /// Deadline for one exchange: lookup, connection, TLS and response.
    pub exchange: Duration,
    /// Duration of a server's lease on a claimed delivery. Longer than an exchange.
    pub lease: Duration,
    /// Maximum delay before the first retry. The maximum doubles with each further retry.
    pub first_pause: Duration,
    /// Upper limit of the retry delay.
    pub longest_pause: Duration,
    /// Period in which a delivery is retried.
    pub retry_for: Duration,
    /// Period of continuous failure after which a webhook is disabled.
    pub give_up_after: Duration,
    /// Minimum number of failed attempts before a webhook is disabled.
    pub give_up_failures: i32,
    /// Retention period of deliveries.
    pub kept_for: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        const HOUR: u64 = 3600;
        Self {
            poll: Duration::from_millis(500),
            exchange: Duration::from_secs(15),
            lease: Duration::from_secs(45),
            first_pause: Duration::from_secs(10),
            longest_pause: Duration::from_secs(4 * HOUR),
            retry_for: Duration::from_secs(24 * HOUR),
            give_up_after: Duration::from_secs(5 * 24 * HOUR),
            give_up_failures: 10,
            kept_for: Duration::from_secs(30 * 24 * HOUR),
        }
    }
}

impl Pace {
    /// Delay after the failed attempt `attempt`: exponential backoff with full jitter, so that deliveries that failed
    /// together are not retried together. Respects the receiver's `Retry-After` up to `longest_pause`.
    pub fn pause(&self, attempt: i32, retry_after: Option<Duration>) -> Duration {
        let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(30);
        let most = self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause);
        let pause = most.mul_f64(rand::rng().random::<f64>());
        pause.max(retry_after.unwrap_or_default().min(self.longest_pause))
    }

    /// Delay after an attempt that failed because of this server.
    pub fn own_pause(&self, attempt: i32) -> Duration {
        self.pause(attempt.min(OURS), None)
    }
}

/// Failures of this server are retried with the backoff of at most this many failures, so that they are always retried
/// soon.
const OURS: i32 = 3;

/// Duration above which an exchange counts as slow.
const SLOW: Duration = Duration::from_secs(3);
/// Concurrent deliveries to receivers without known problems: in total, to a receiver that was not tried yet, and to a
/// receiver that has responded quickly.
const SOUND: usize = 48;
const EACH_UNTRIED: usize = 1;
const EACH_QUICK: usize = 4;
/// Concurrent deliveries to receivers that fail or are slow: in total, and to one receiver.
const TROUBLED: usize = 16;
const EACH_TROUBLED: usize = 1;
/// Maximum number of receivers whose behavior is remembered. Above it, all are forgotten and count as untried.
const REMEMBERED: usize = 10_000;

/// Lane of a delivery. Receivers in trouble have separate capacity: even if all of their deliveries hang until the
/// deadline, other receivers are not delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Receivers that work.
    Sound,
    /// Receivers that fail or are slow.
    Troubled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Quick,
    Troubled,
}

/// Deliveries in flight on one server, and the observed behavior of receivers.
#[derive(Debug, Default)]
pub struct Lanes {
    in_flight: HashMap<WebhookId, usize>,
    used: [usize; 2],
    seen: HashMap<WebhookId, Manner>,
}

impl Lanes {
    /// Lane of a webhook's deliveries, and how many more can be claimed now. All servers know whether a webhook is
    /// `failing`. Each server observes on its own whether a receiver is slow.
    pub fn room(&self, webhook: WebhookId, failing: bool) -> (Lane, usize) {
        let (lane, each) = match self.seen.get(&webhook) {
            _ if failing => (Lane::Troubled, EACH_TROUBLED),
            Some(Manner::Troubled) => (Lane::Troubled, EACH_TROUBLED),
            Some(Manner::Quick) => (Lane::Sound, EACH_QUICK),
            None => (Lane::Sound, EACH_UNTRIED),
        };
        let in_flight = self.in_flight.get(&webhook).copied().unwrap_or(0);
        (lane, each.saturating_sub(in_flight).min(self.free(lane)))
    }

    /// Free capacity of `lane`.
    pub fn free(&self, lane: Lane) -> usize {
        let (all, [sound, troubled]) = match lane {
            Lane::Sound => (SOUND, self.used),
            Lane::Troubled => (TROUBLED, self.used),
        };
        all.saturating_sub(if lane == Lane::Sound { sound } else { troubled })
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
    pub fn end(&mut self, webhook: WebhookId, lane: Lane, delivered: bool, took: Duration) {
        self.release(webhook, lane);
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        let manner = if delivered && took <= SLOW { Manner::Quick } else { Manner::Troubled };
        self.seen.insert(webhook, manner);
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
        let [sound, troubled] = &mut self.used;
        let used = if lane == Lane::Sound { sound } else { troubled };
        *used = used.saturating_add_signed(by);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_the_limit_with_full_jitter() {
        let pace = Pace::default();
        for (attempt, most) in [(1, 10), (2, 20), (5, 160), (11, 10_240), (12, 14_400), (i32::MAX, 14_400)] {
            let pauses: Vec<Duration> = (0..1000).map(|_| pace.pause(attempt, None)).collect();
            let most = Duration::from_secs(most);
            assert!(pauses.iter().all(|pause| *pause <= most), "{attempt}");
            assert!(pauses.iter().any(|pause| *pause > most / 2) && pauses.iter().any(|pause| *pause < most / 2));
        }
    }

    #[test]
    fn retry_after_is_respected_up_to_the_limit() {
        let pace = Pace::default();
        assert!(pace.pause(1, Some(Duration::from_secs(600))) >= Duration::from_secs(600));
        assert!(pace.pause(1, Some(Duration::MAX)) <= pace.longest_pause);
    }

    #[test]
    fn server_failures_are_retried_soon_regardless_of_their_number() {
        let pace = Pace::default();
        let most = pace.first_pause * 4;
        assert!((0..1000).all(|attempt| pace.own_pause(attempt) <= most));
    }

    #[test]
    fn server_failures_do_not_change_the_receivers_lane() {
        let (mut lanes, webhook) = (Lanes::default(), WebhookId::new());
        lanes.begin(webhook, Lane::Sound);
        lanes.end(webhook, Lane::Sound, true, Duration::from_millis(5));
        lanes.begin(webhook, Lane::Sound);
        lanes.release(webhook, Lane::Sound);
        assert_eq!(lanes.room(webhook, false), (Lane::Sound, EACH_QUICK));
        assert!(lanes.is_idle());
    }

    #[test]
    fn failing_receivers_do_not_use_the_capacity_of_others() {
        let mut lanes = Lanes::default();
        for _ in 0..100 {
            let webhook = WebhookId::new();
            let (lane, room) = lanes.room(webhook, true);
            assert_eq!(lane, Lane::Troubled);
            (0..room).for_each(|_| lanes.begin(webhook, lane));
        }
        assert_eq!(lanes.free(Lane::Troubled), 0);
        assert_eq!(lanes.free(Lane::Sound), SOUND);
    }

    #[test]
    fn concurrency_rises_for_quick_receivers_and_falls_for_slow_ones() {
        let (mut lanes, webhook) = (Lanes::default(), WebhookId::new());
        assert_eq!(lanes.room(webhook, false), (Lane::Sound, EACH_UNTRIED));
        lanes.begin(webhook, Lane::Sound);
        assert_eq!(lanes.room(webhook, false), (Lane::Sound, 0));
        lanes.end(webhook, Lane::Sound, true, Duration::from_millis(5));
        assert_eq!(lanes.room(webhook, false), (Lane::Sound, EACH_QUICK));
        for (delivered, took) in [(true, SLOW * 2), (false, Duration::ZERO)] {
            lanes.begin(webhook, Lane::Sound);
            lanes.end(webhook, Lane::Sound, delivered, took);
            assert_eq!(lanes.room(webhook, false), (Lane::Troubled, EACH_TROUBLED));
        }
        assert!(lanes.is_idle());
        assert_eq!(lanes.used, [0, 0]);
    }
}
