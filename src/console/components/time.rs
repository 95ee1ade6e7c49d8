//! Times relative to now, with the exact time in the title.

use std::fmt;

use time::Date;

use super::html_safe;
use crate::base::runtime::clock::Timestamp;

/// A time, such as "3 minutes ago" or "in 5 days".
#[derive(Clone, Copy, Debug)]
pub struct When {
    time: Timestamp,
    now: Timestamp,
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl When {
    /// The time `time` as seen at `now`.
    pub const fn new(time: Timestamp, now: Timestamp) -> Self {
        Self { time, now }
    }

    /// The time as text.
    pub fn text(&self) -> String {
        let (past, future) = (self.time.until(self.now).as_secs(), self.now.until(self.time).as_secs());
        match (past, future) {
            (0..MINUTE, 0..MINUTE) => "just now".into(),
            // A minute more, so that a day is not shown as 23 hours right after it began.
            (0, seconds) => format!("in {}", span(seconds + MINUTE - 1)),
            (seconds, _) => format!("{} ago", span(seconds)),
        }
    }

    /// The exact time, for people: `2026-03-01 12:30:05 UTC`.
    pub fn exact(&self) -> String {
        let text = self.time.to_string();
        format!("{} {} UTC", text.get(..10).unwrap_or_default(), text.get(11..19).unwrap_or_default())
    }
}

/// A length of time in its largest unit, rounded down.
pub fn span(seconds: u64) -> String {
    let (count, unit) = match seconds {
        0..MINUTE => (seconds, "second"),
        MINUTE..HOUR => (seconds / MINUTE, "minute"),
        HOUR..DAY => (seconds / HOUR, "hour"),
        _ if seconds < 60 * DAY => (seconds / DAY, "day"),
        _ if seconds < 730 * DAY => (seconds / (30 * DAY), "month"),
        _ => (seconds / (365 * DAY), "year"),
    };
    format!("{count} {unit}{}", if count == 1 { "" } else { "s" })
}

/// A month and its year, such as "March 2026".
pub fn month(day: Date) -> String {
    format!("{} {}", day.month(), day.year())
}

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<time datetime=\"{}\" title=\"{}\">{}</time>", self.time, self.exact(), self.text())
    }
}

html_safe!(When);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_relative_in_their_largest_unit() {
        let now = Timestamp::parse("2026-03-01T12:00:00Z").unwrap();
        let before = |seconds| When::new(now.minus(Duration::from_secs(seconds)), now).text();
        let after = |seconds| When::new(now.plus(Duration::from_secs(seconds)), now).text();
        assert_eq!((before(0), before(59)), ("just now".into(), "just now".into()));
        assert_eq!((before(60), before(7200)), ("1 minute ago".into(), "2 hours ago".into()));
        assert_eq!((after(86_400), after(14 * 86_400)), ("in 1 day".into(), "in 14 days".into()));
        assert_eq!((after(86_399), after(90)), ("in 1 day".into(), "in 2 minutes".into()));
        assert_eq!((after(90 * 86_400), before(800 * 86_400)), ("in 3 months".into(), "2 years ago".into()));
        assert_eq!(
            When::new(now, now).to_string(),
            "<time datetime=\"2026-03-01T12:00:00.000Z\" title=\"2026-03-01 12:00:00 UTC\">just now</time>"
        );
    }
}
