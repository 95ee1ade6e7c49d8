//! How fast deliveries are sent: how soon again after a failure, and how many at a time to whom, so that one dead or slow
//! receiver holds up nobody else.

use std::{collections::HashMap, time::Duration};

use rand::RngExt;

use crate::base::id::WebhookId;

/// The times and bounds of sending.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How often to look for what is due; a server that seals looks at once.
    pub poll: Duration,
    /// How long one exchange may take as a whole: name, connection, TLS, answer.
    pub exchange: Duration,
    /// How long what a server has taken is its own. Longer than an exchange.
    pub lease: Duration,
    /// The first retry comes after at most this; each further one after at most twice as long as the one before.
    pub first_pause: Duration,
    /// But after no longer than this.
    pub longest_pause: Duration,
    /// For how long an event is retried.
    pub retry_for: Duration,
    /// A webhook is disabled when every attempt has failed for so long.
    pub give_up_after: Duration,
    /// And when those were so many at least.
    pub give_up_failures: i32,
    /// For how long deliveries are kept.
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
    /// How long to wait after the failed attempt `attempt`: exponential backoff with full jitter, so that what failed
    /// together does not come again together. A receiver that says when it wants to be asked again is not asked sooner.
    pub fn pause(&self, attempt: i32, retry_after: Option<Duration>) -> Duration {
        let doublings = u32::try_from(attempt - 1).unwrap_or(0).min(30);
        let most = self.first_pause.saturating_mul(1 << doublings).min(self.longest_pause);
        let pause = most.mul_f64(rand::rng().random::<f64>());
        pause.max(retry_after.unwrap_or_default().min(self.longest_pause))
    }

    /// How long to wait after an attempt that failed for a reason of this server's.
    pub fn own_pause(&self, attempt: i32) -> Duration {
        self.pause(attempt.min(OURS), None)
    }
}

/// What failed for a reason of this server's is tried again as after this many failures, at most: soon, however often it
/// has failed before.
const OURS: i32 = 3;

/// An exchange that takes longer than this makes a receiver a slow one.
const SLOW: Duration = Duration::from_secs(3);
/// At a time to receivers that are not known to be in trouble; and to one of them, before and after it has shown that it
/// answers quickly.
const SOUND: usize = 48;
const EACH_UNTRIED: usize = 1;
const EACH_QUICK: usize = 4;
/// At a time to receivers that fail or are slow, which may be many; and to one of them.
const TROUBLED: usize = 16;
const EACH_TROUBLED: usize = 1;
/// Of more receivers than this, what is known is forgotten. They are then taken to be untried.
const REMEMBERED: usize = 10_000;

/// Where a delivery waits: those to receivers in trouble use places of their own, so that all of these may hang until
/// their time is up and the others notice nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// For receivers that work.
    Sound,
    /// For those that do not.
    Troubled,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Manner {
    Quick,
    Troubled,
}

/// What one server is sending, and what it has seen of the receivers.
#[derive(Debug, Default)]
pub struct Lanes {
    in_flight: HashMap<WebhookId, usize>,
    used: [usize; 2],
    seen: HashMap<WebhookId, Manner>,
}

impl Lanes {
    /// Which lane a webhook's deliveries take, and how many more of them may be taken now. Whether it is `failing` all
    /// servers know; whether it is slow, each finds out for itself.
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

    /// How many places of `lane` are free.
    pub fn free(&self, lane: Lane) -> usize {
        let (all, [sound, troubled]) = match lane {
            Lane::Sound => (SOUND, self.used),
            Lane::Troubled => (TROUBLED, self.used),
        };
        all.saturating_sub(if lane == Lane::Sound { sound } else { troubled })
    }

    /// Whether nothing is being sent.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// A delivery to `webhook` is being sent.
    pub fn begin(&mut self, webhook: WebhookId, lane: Lane) {
        *self.in_flight.entry(webhook).or_default() += 1;
        self.change(lane, 1);
    }

    /// It is not any more: whether it was `delivered`, and how long it took.
    pub fn end(&mut self, webhook: WebhookId, lane: Lane, delivered: bool, took: Duration) {
        self.release(webhook, lane);
        if self.seen.len() >= REMEMBERED {
            self.seen.clear();
        }
        let manner = if delivered && took <= SLOW { Manner::Quick } else { Manner::Troubled };
        self.seen.insert(webhook, manner);
    }

    /// As [`Lanes::end`], after an attempt that says nothing about the receiver.
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
    fn pauses_double_up_to_the_longest_and_lie_anywhere_below() {
        let pace = Pace::default();
        for (attempt, most) in [(1, 10), (2, 20), (5, 160), (11, 10_240), (12, 14_400), (i32::MAX, 14_400)] {
            let pauses: Vec<Duration> = (0..1000).map(|_| pace.pause(attempt, None)).collect();
            let most = Duration::from_secs(most);
            assert!(pauses.iter().all(|pause| *pause <= most), "{attempt}");
            assert!(pauses.iter().any(|pause| *pause > most / 2) && pauses.iter().any(|pause| *pause < most / 2));
        }
    }

    #[test]
    fn a_receiver_that_asks_for_a_pause_gets_it_within_reason() {
        let pace = Pace::default();
        assert!(pace.pause(1, Some(Duration::from_secs(600))) >= Duration::from_secs(600));
        assert!(pace.pause(1, Some(Duration::MAX)) <= pace.longest_pause);
    }

    #[test]
    fn failure_of_this_server_is_retried_soon_however_often_it_has_failed() {
        let pace = Pace::default();
        let most = pace.first_pause * 4;
        assert!((0..1000).all(|attempt| pace.own_pause(attempt) <= most));
    }

    #[test]
    fn failure_of_this_server_changes_nothing_about_the_receiver() {
        let (mut lanes, webhook) = (Lanes::default(), WebhookId::new());
        lanes.begin(webhook, Lane::Sound);
        lanes.end(webhook, Lane::Sound, true, Duration::from_millis(5));
        lanes.begin(webhook, Lane::Sound);
        lanes.release(webhook, Lane::Sound);
        assert_eq!(lanes.room(webhook, false), (Lane::Sound, EACH_QUICK));
        assert!(lanes.is_idle());
    }

    #[test]
    fn however_many_receivers_are_in_trouble_there_is_room_for_the_others() {
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
    fn a_receiver_is_sent_more_at_a_time_once_it_was_quick_and_less_once_it_was_not() {
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
