//! Time: a clock that tests can move, and the format of instants.

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use nix::time::{ClockId, clock_gettime};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::{Date, OffsetDateTime, UtcOffset, format_description::well_known::Rfc3339, macros::format_description};

/// Instant in UTC, with millisecond precision; formatted as RFC 3339 with `Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// Earliest instant in use.
    pub const EARLIEST: Self = Self(OffsetDateTime::UNIX_EPOCH);

    /// Truncates an instant to milliseconds, so that stored and displayed values agree.
    pub fn new(instant: OffsetDateTime) -> Self {
        let instant = instant.to_offset(UtcOffset::UTC);
        let whole_millis = instant.millisecond();
        Self(instant.replace_millisecond(whole_millis).unwrap_or(instant))
    }

    /// Parses RFC 3339 with any offset. Returns `None` if RFC 3339 cannot represent the instant in UTC.
    pub fn parse(text: &str) -> Option<Self> {
        // `time` accepts any character between date and time.
        if !matches!(text.as_bytes().get(10), Some(b'T' | b't')) {
            return None;
        }
        let instant = OffsetDateTime::parse(text, &Rfc3339).ok()?.checked_to_offset(UtcOffset::UTC)?;
        (instant.year() >= 0).then(|| Self::new(instant))
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub fn unix_seconds(self) -> i64 {
        self.0.unix_timestamp()
    }

    /// Whole milliseconds since 1970-01-01T00:00:00Z.
    pub fn unix_millis(self) -> i64 {
        self.0.unix_timestamp() * 1000 + i64::from(self.0.millisecond())
    }

    /// Returns the instant that is `minutes` after 1970-01-01T00:00:00Z.
    pub fn from_unix_minutes(minutes: u64) -> Option<Self> {
        Self::from_unix_millis(i64::try_from(minutes).ok()?.checked_mul(60_000)?)
    }

    fn from_unix_millis(millis: i64) -> Option<Self> {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok().map(Self)
    }

    /// Truncates the instant to minutes.
    #[must_use]
    pub fn minute(self) -> Self {
        Self(self.0.replace_second(0).and_then(|minute| minute.replace_nanosecond(0)).unwrap_or(self.0))
    }

    /// UTC calendar day of the instant.
    pub fn date(self) -> Date {
        self.0.date()
    }

    /// Adds `span`, saturating at the end of the calendar.
    #[must_use]
    pub fn plus(self, span: Duration) -> Self {
        let span = time::Duration::try_from(span).unwrap_or(time::Duration::MAX);
        Self(self.0.saturating_add(span))
    }

    /// Subtracts `span`, saturating at the beginning of the calendar.
    #[must_use]
    pub fn minus(self, span: Duration) -> Self {
        let span = time::Duration::try_from(span).unwrap_or(time::Duration::MAX);
        Self(self.0.saturating_sub(span))
    }

    /// Time from `self` to `later`, or zero if `later` is not later.
    pub fn until(self, later: Self) -> Duration {
        (later.0 - self.0).try_into().unwrap_or(Duration::ZERO)
    }
}

/// Length of a timestamp as text.
const TEXT_LENGTH: usize = 24;

impl Timestamp {
    /// Writes the timestamp into `buffer` and returns it as text. Written by hand, because lists format many timestamps
    /// and `time`'s formatter takes ten times as long.
    fn write_text(self, buffer: &mut [u8; TEXT_LENGTH]) -> &str {
        let (date, time) = (self.0.date(), self.0.time());
        // Years of `time` have at most four digits, and no timestamp is before year 0.
        let year = u16::try_from(date.year()).unwrap_or_default();
        let millisecond = time.millisecond();
        let [y1, y2] = two_digits((year / 100) as u8);
        let [y3, y4] = two_digits((year % 100) as u8);
        let [mo1, mo2] = two_digits(date.month().into());
        let [d1, d2] = two_digits(date.day());
        let [h1, h2] = two_digits(time.hour());
        let [mi1, mi2] = two_digits(time.minute());
        let [s1, s2] = two_digits(time.second());
        let [ms1, ms2] = two_digits((millisecond / 10) as u8);
        let [_, ms3] = two_digits((millisecond % 10) as u8);
        *buffer = [
            y1, y2, y3, y4, b'-', mo1, mo2, b'-', d1, d2, b'T', h1, h2, b':', mi1, mi2, b':', s1, s2, b'.', ms1, ms2,
            ms3, b'Z',
        ];
        std::str::from_utf8(buffer).unwrap_or_default()
    }
}

/// Decimal digits of a number below 100.
const fn two_digits(number: u8) -> [u8; 2] {
    [b'0' + number / 10 % 10, b'0' + number % 10]
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.write_text(&mut [0; TEXT_LENGTH]))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.write_text(&mut [0; TEXT_LENGTH]))
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not an RFC 3339 date-time"))
    }
}

impl JsonSchema for Timestamp {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date-time" })
    }
}

/// UTC calendar day, in the format `YYYY-MM-DD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Day(pub Date);

impl Serialize for Day {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // `Date` is formatted as YYYY-MM-DD for every year that a timestamp can have.
        serializer.collect_str(&self.0)
    }
}

impl Day {
    /// Parses `YYYY-MM-DD`.
    pub fn parse(text: &str) -> Option<Self> {
        let is_plain = text.len() == 10 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
        Date::parse(text, format_description!("[year]-[month]-[day]")).ok().filter(|_| is_plain).map(Self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not a date, such as 2026-03-01"))
    }
}

impl JsonSchema for Day {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Day".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "date" })
    }
}

/// Source of the current time: the system clock, plus an offset that only tests change.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    offset_millis: AtomicI64,
    /// Offset by which only the wall clock was set back.
    wall_offset_millis: AtomicI64,
    /// Latest instant that [`Clock::now_non_decreasing`] has returned, in milliseconds since 1970.
    latest_millis: AtomicI64,
}

impl Clock {
    /// Returns the system clock.
    pub fn system() -> Self {
        Self::default()
    }

    /// Returns the current time.
    pub fn now(&self) -> Timestamp {
        let Shared { offset_millis, wall_offset_millis, .. } = &*self.0;
        let offset = offset_millis.load(Ordering::Relaxed) - wall_offset_millis.load(Ordering::Relaxed);
        Timestamp::new(OffsetDateTime::now_utc() + time::Duration::milliseconds(offset))
    }

    /// Returns the current time, or the latest instant that this function has returned, if the wall clock was set back
    /// since. Anything that has expired by this time stays expired.
    pub fn now_non_decreasing(&self) -> Timestamp {
        let now = self.now();
        let millis = now.unix_millis();
        let latest = self.0.latest_millis.load(Ordering::Relaxed);
        if millis > latest {
            self.0.latest_millis.fetch_max(millis, Ordering::Relaxed);
        }
        if millis >= latest { now } else { Timestamp::from_unix_millis(latest).unwrap_or(now) }
    }

    /// Returns the monotonic time since the first call in this process. Changes to the wall clock do not affect it.
    pub fn monotonic(&self) -> Duration {
        static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
        let offset = self.0.offset_millis.load(Ordering::Relaxed);
        BEGAN.elapsed() + Duration::from_millis(offset.try_into().unwrap_or(0))
    }

    /// Moves the clock and all of its clones forward.
    pub fn advance(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.offset_millis.fetch_add(by, Ordering::Relaxed);
    }

    /// Sets the wall clock of this clock and all of its clones forward. Does not affect monotonic time.
    pub fn set_forward(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.wall_offset_millis.fetch_sub(by, Ordering::Relaxed);
    }

    /// Sets the wall clock of this clock and all of its clones back. Does not affect monotonic time.
    pub fn set_back(&self, by: Duration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MAX);
        self.0.wall_offset_millis.fetch_add(by, Ordering::Relaxed);
    }
}

/// Returns the time since boot, including the time that the machine was suspended. Used where neither a change of the
/// wall clock nor a suspended machine may affect a deadline.
pub fn since_boot() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: ClockId = ClockId::CLOCK_BOOTTIME;
    // On other systems, this clock includes the time of suspension (macOS: clock_gettime(3)).
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: ClockId = ClockId::CLOCK_MONOTONIC;
    // If the clock cannot be read, the time is the maximum, so that no lease is valid.
    clock_gettime(CLOCK).map_or(Duration::MAX, Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instant_is_formatted_in_utc_with_milliseconds() {
        for (text, written) in [
            ("2026-03-01T01:02:03.4567+01:00", "2026-03-01T00:02:03.456Z"),
            ("0000-01-01T00:00:00Z", "0000-01-01T00:00:00.000Z"),
            ("9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(Timestamp::parse(text).unwrap().to_string(), written);
        }
    }

    #[test]
    fn instant_that_cannot_be_represented_in_utc_is_rejected() {
        for text in ["9999-12-31T23:59:59-00:01", "0000-01-01T00:00:00+00:01", "2026-03-01 01:02:03Z", "2026-03-01"] {
            assert_eq!(Timestamp::parse(text), None, "{text}");
        }
        assert!(Timestamp::parse("9999-12-31t23:59:59z").is_some());
    }

    #[test]
    fn moving_a_clock_moves_its_clones() {
        let clock = Clock::system();
        let before = clock.now();
        clock.clone().advance(Duration::from_secs(3600));
        assert!(before.until(clock.now()) >= Duration::from_secs(3600));
    }

    #[test]
    fn setting_the_wall_clock_does_not_affect_monotonic_time() {
        let clock = Clock::system();
        let (before, monotonic) = (clock.now(), clock.monotonic());
        clock.set_forward(Duration::from_secs(7200));
        assert!(before.until(clock.now()) >= Duration::from_secs(7200));
        clock.set_back(Duration::from_secs(14_400));
        assert!(clock.now() < before);
        assert!(clock.monotonic() - monotonic < Duration::from_secs(3600));
    }

    #[test]
    fn forward_does_not_go_back_when_the_clock_is_set_back() {
        let clock = Clock::system();
        let before = clock.now_non_decreasing();
        clock.set_back(Duration::from_secs(3600));
        assert!(clock.now() < before);
        assert_eq!(clock.now_non_decreasing(), before);
        clock.advance(Duration::from_secs(7200));
        assert!(clock.now_non_decreasing() > before);
    }

    #[test]
    fn time_since_boot_increases() {
        let before = since_boot();
        assert!(before > Duration::ZERO && since_boot() >= before && since_boot() < Duration::MAX);
    }
}
