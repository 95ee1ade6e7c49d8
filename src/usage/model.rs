//! What clients see of usage.

use schemars::JsonSchema;
use serde::Serialize;
use time::{Date, util::days_in_month};

use crate::base::clock::{Day, Timestamp};

/// A project's usage in one billing period.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Usage {
    /// The period's first day.
    pub period_start: Day,
    /// The period's last day, which belongs to it.
    pub period_end: Day,
    /// Counted requests.
    #[schemars(range(min = 0))]
    pub requests: i64,
    /// How many of them go beyond what is included.
    #[schemars(range(min = 0))]
    pub overage: i64,
    /// How many are included; null for no limit.
    pub included: Option<i64>,
}

/// The UTC calendar month that `now` falls into, as its first and last day.
pub fn period_of(now: Timestamp) -> (Date, Date) {
    let today = now.date();
    let day = |day: u8| today.replace_day(day).unwrap_or(today);
    (day(1), day(days_in_month(today.month(), today.year())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_is_a_calendar_month_with_its_last_day() {
        for (now, first, last) in [
            ("2026-03-01T00:00:00Z", "2026-03-01", "2026-03-31"),
            ("2028-02-29T23:59:59.999Z", "2028-02-01", "2028-02-29"),
            ("2026-04-30T23:30:00-02:00", "2026-05-01", "2026-05-31"),
        ] {
            let (start, end) = period_of(Timestamp::parse(now).unwrap());
            assert_eq!((start.to_string(), end.to_string()), (first.to_owned(), last.to_owned()));
        }
    }
}
