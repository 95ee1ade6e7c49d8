//! Days and groups of a breakdown, and what a page is read from.

use std::iter;

use time::Date;
use uuid::Uuid;

use super::cursor::Cursor;
use crate::{
    api::usage::model::Groups,
    base::{
        id::{KeyId, TokenId},
        input::page::Order,
        runtime::period::Period,
    },
};

/// Numbers of kinds of credentials, as in the column `kind`.
const KEY: i16 = 2;
const TOKEN: i16 = 3;
const ALL_KINDS: [i16; 4] = [0, 1, KEY, TOKEN];

/// Range and groups of a breakdown.
#[derive(Clone, Copy, Debug)]
pub struct DateRange {
    /// First day.
    pub from: Date,
    /// Last day, inclusive.
    pub to: Date,
    /// Groups.
    pub groups: Groups,
    /// Credential whose requests are counted.
    pub credential: CredentialFilter,
}

/// Credential whose requests are counted.
#[derive(Clone, Copy, Debug)]
pub enum CredentialFilter {
    /// Any, or none.
    Any,
    /// A key.
    Key(KeyId),
    /// A token.
    Token(TokenId),
    /// No credential: a request has a key or a token, and never both.
    Never,
}

impl CredentialFilter {
    /// Filter by a key, a token, or neither.
    pub fn new(key: Option<KeyId>, token: Option<TokenId>) -> Self {
        match (key, token) {
            (None, None) => Self::Any,
            (Some(key), None) => Self::Key(key),
            (None, Some(token)) => Self::Token(token),
            (Some(_), Some(_)) => Self::Never,
        }
    }

    /// Number of the credential, if it is a single one.
    pub(super) fn credential(self) -> Option<Uuid> {
        match self {
            Self::Key(id) => Some(Uuid::from_u128(id.as_u128())),
            Self::Token(id) => Some(Uuid::from_u128(id.as_u128())),
            Self::Any | Self::Never => None,
        }
    }
}

impl DateRange {
    /// Returns the first day whose daily counts are needed, if any.
    pub fn first_daily_count(&self) -> Option<Date> {
        let Some((_, last)) = self.whole_months().filter(|(first, _)| first.first() == self.from) else {
            return Some(self.from);
        };
        let rest = last.next().first();
        (rest <= self.to).then_some(rest)
    }

    /// Returns the first and the last month whose sums can be used instead of daily counts.
    pub(super) fn whole_months(&self) -> Option<(Period, Period)> {
        let (mut first, mut last) = (Period::of(self.from), Period::of(self.to));
        if first.first() != self.from {
            first = first.next();
        }
        if last.last() != self.to {
            last = last.previous();
        }
        (!self.groups.day && first <= last).then_some((first, last))
    }

    /// Splits the range into the months in `final_months` and the parts of other months.
    fn split(&self, final_months: &[Period]) -> Days {
        let mut days = Days::default();
        let (mut period, end) = (Period::of(self.from), Period::of(self.to));
        loop {
            if final_months.contains(&period) {
                days.final_months.push(period.first());
            } else {
                days.first.push(period.first().max(self.from));
                days.last.push(period.last().min(self.to));
            }
            if period == end {
                return days;
            }
            period = period.next();
        }
    }

    /// Returns the days that can have groups after the cursor.
    fn days_after(&self, after: &Cursor, order: Order) -> Days {
        let (first, last) = match order {
            Order::Asc => (self.from.max(after.day), self.to),
            Order::Desc => (self.from, self.to.min(after.day)),
        };
        Days { first: vec![first], last: vec![last], final_months: Vec::new() }
    }
}

/// Days as arrays of a statement.
#[derive(Debug, Default)]
pub(super) struct Days {
    /// First day of each range whose daily counts are read.
    pub first: Vec<Date>,
    /// Last day of each of these ranges.
    pub last: Vec<Date>,
    /// Months whose sums are read.
    pub final_months: Vec<Date>,
}

/// Streams as arrays of a statement. A stream is the usage of one kind of credentials on consecutive days or in a month,
/// in the order of the groups.
#[derive(Debug, Default)]
pub(super) struct Streams {
    pub kinds: Vec<i16>,
    /// Day and credential at which the stream starts.
    pub days: Vec<Date>,
    pub credentials: Vec<Uuid>,
    /// Day at which the stream ends.
    pub last_days: Vec<Date>,
    /// Whether the day stands for a final month.
    pub is_month: Vec<bool>,
}

impl Streams {
    fn push(&mut self, kind: i16, (day, credential): (Date, Uuid), last_day: Date, is_month: bool) {
        self.kinds.push(kind);
        self.days.push(day);
        self.credentials.push(credential);
        self.last_days.push(last_day);
        self.is_month.push(is_month);
    }
}

/// What a page is read from.
#[derive(Debug)]
pub(super) struct Sources {
    /// Days and months in which usage without credentials is read.
    pub days: Days,
    /// The kinds that this usage is of: those that are not grouped by credential.
    pub kinds: Vec<i16>,
    /// Usage by credential.
    pub streams: Streams,
}

impl Sources {
    /// Returns the sources of the page after a cursor.
    pub fn new(range: &DateRange, final_months: &[Period], after: &Cursor, order: Order) -> Self {
        let groups = range.groups;
        let days = if groups.day { range.days_after(after, order) } else { range.split(final_months) };
        let mut streams = Streams::default();
        let (mut kinds, mut grouped) = (ALL_KINDS.to_vec(), Vec::new());
        if let Some(credential) = range.credential.credential() {
            // One stream, of this credential only.
            let kind = if matches!(range.credential, CredentialFilter::Key(_)) { KEY } else { TOKEN };
            grouped.push((kind, credential));
        } else {
            if groups.token {
                grouped.push((TOKEN, Uuid::from_u128(after.first_token().as_u128())));
            }
            if groups.key {
                grouped.push((KEY, Uuid::from_u128(after.key.as_u128())));
            }
        }
        match range.credential {
            CredentialFilter::Any => {}
            CredentialFilter::Key(_) | CredentialFilter::Token(_) => kinds.clear(),
            CredentialFilter::Never => {
                kinds.clear();
                grouped.clear();
            }
        }
        for (kind, credential) in grouped {
            kinds.retain(|other| *other != kind);
            for (&first, &last) in days.first.iter().zip(&days.last) {
                if !groups.day {
                    for day in iter::successors(Some(first), |day| day.next_day()).take_while(|day| *day <= last) {
                        streams.push(kind, (day, credential), day, false);
                    }
                    continue;
                }
                let (day, last, least) = match order {
                    Order::Asc => (first, last, Uuid::nil()),
                    Order::Desc => (last, first, Uuid::max()),
                };
                // On other days than the cursor's, no group was listed yet.
                streams.push(kind, (day, if day == after.day { credential } else { least }), last, false);
            }
            for &month in &days.final_months {
                streams.push(kind, (month, credential), month, true);
            }
        }
        Self { days, kinds, streams }
    }
}
