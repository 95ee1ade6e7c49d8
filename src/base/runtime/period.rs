//! Billing periods.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{Date, Month, util::days_in_month};

use super::clock::Timestamp;

/// UTC calendar month, in the format `YYYY-MM`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct Period(Date);

impl Period {
    /// Returns the period that contains `day`.
    pub fn of(day: Date) -> Self {
        Self(day.replace_day(1).unwrap_or(day))
    }

    /// First day.
    pub fn first(self) -> Date {
        self.0
    }

    /// Last day, inclusive.
    pub fn last(self) -> Date {
        let days = days_in_month(self.0.month(), self.0.year());
        self.0.replace_day(days).unwrap_or(self.0)
    }

    /// Start of the next period.
    pub fn end(self) -> Timestamp {
        Timestamp::new(self.next().0.midnight().assume_utc())
    }

    /// Next period, or the same at the end of the calendar.
    #[must_use]
    pub fn next(self) -> Self {
        self.last().next_day().map_or(self, Self)
    }

    /// Previous period, or the same at the beginning of the calendar.
    #[must_use]
    pub fn previous(self) -> Self {
        self.0.previous_day().map_or(self, Self::of)
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04}-{:02}", self.0.year(), u8::from(self.0.month()))
    }
}

/// Error for a text that is not a month.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a month, such as 2026-03")]
pub struct ParsePeriodError;

impl FromStr for Period {
    type Err = ParsePeriodError;

    fn from_str(text: &str) -> Result<Self, ParsePeriodError> {
        let (year, month) = text.split_once('-').ok_or(ParsePeriodError)?;
        let number = |text: &str, digits| {
            let is_number = text.len() == digits && text.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| text.parse::<u16>().ok()).flatten().ok_or(ParsePeriodError)
        };
        let (year, month) = (number(year, 4)?, u8::try_from(number(month, 2)?).map_err(|_| ParsePeriodError)?);
        let month = Month::try_from(month).map_err(|_| ParsePeriodError)?;
        Date::from_calendar_date(year.into(), month, 1).map(Self).map_err(|_| ParsePeriodError)
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]{4}-(0[1-9]|1[0-2])$",
            "x-form": "a month",
            "examples": ["2026-03"],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn period_is_a_calendar_month_including_its_last_day() {
        for (day, text, first, last) in [
            ("2026-03-01T00:00:00Z", "2026-03", "2026-03-01", "2026-03-31"),
            ("2028-02-29T23:59:59.999Z", "2028-02", "2028-02-01", "2028-02-29"),
            ("2026-04-30T23:30:00-02:00", "2026-05", "2026-05-01", "2026-05-31"),
        ] {
            let period = Period::of(Timestamp::parse(day).unwrap().date());
            assert_eq!((period.first().to_string(), period.last().to_string()), (first.into(), last.into()));
            assert_eq!((period.to_string(), text.parse()), (text.into(), Ok(period)));
            assert_eq!(period.next().previous(), period);
            assert_eq!(period.end().date(), period.next().first());
        }
    }

    #[test]
    fn invalid_month_is_rejected() {
        for text in
            ["", "2026", "2026-3", "2026-00", "2026-13", "2026-03-01", "+026-03", "26-03", "2026-0٣", " 2026-03"]
        {
            assert_eq!(text.parse::<Period>(), Err(ParsePeriodError), "{text:?}");
        }
    }
}
