//! What a journal's file is made of: slots, each of which counts one thing.

use std::sync::atomic::{AtomicU64, Ordering};

use time::Date;

use crate::base::{clock::Timestamp, credential::CredentialId, id::ProjectId};

/// What a slot counts: a credential's requests on one route, for one project, on one UTC day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Counted {
    /// The project, if the request turned out to be about one.
    pub project: Option<ProjectId>,
    /// The credential that was shown.
    pub credential: CredentialId,
    /// The route's number.
    pub route: u32,
    /// The day on which it was answered.
    pub day: Date,
}

const WORDS: usize = 5;
/// [`Counted`] as it stands in a slot.
pub type Words = [u64; WORDS];

/// The day that is 0 in a slot.
const FIRST_DAY: Date = time::macros::date!(1970 - 01 - 01);
const KIND_SHIFT: u32 = 24;

impl Counted {
    /// As it stands in a slot.
    pub fn words(&self) -> Words {
        let halves = |number: u128| ((number >> 64) as u64, number as u64);
        let (kind, credential) = self.credential.numbers();
        let project = halves(self.project.map_or(0, ProjectId::as_u128));
        let credential = halves(credential);
        // A day fits: the calendar's last one has number 2,932,896.
        let day = self.day.to_julian_day().saturating_sub(FIRST_DAY.to_julian_day()).clamp(0, (1 << KIND_SHIFT) - 1);
        let last = u64::from(self.route) << 32 | u64::from(kind) << KIND_SHIFT | u64::from(day.unsigned_abs());
        [project.0, project.1, credential.0, credential.1, last]
    }

    /// What a slot says it counts; none if that makes no sense.
    pub fn from_words([project_high, project_low, high, low, last]: Words) -> Option<Self> {
        let whole = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let (project, id) = (whole(project_high, project_low), whole(high, low));
        let kind = ((last >> KIND_SHIFT) & 0xff) as u8;
        let day = i32::try_from(last & ((1 << KIND_SHIFT) - 1)).ok()?;
        Some(Self {
            project: (project != 0).then(|| ProjectId::from_u128(project)),
            credential: CredentialId::from_numbers(kind, id)?,
            route: (last >> 32) as u32,
            day: Date::from_julian_day(FIRST_DAY.to_julian_day() + day).ok()?,
        })
    }
}

/// Where to begin to look for `words` among `slots`. It is part of the file's format.
pub fn home(words: &Words, slots: usize) -> usize {
    // Nobody outside chooses these ids, so that no worse hash is needed: multiply and mix (splitmix64's constants).
    let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
    for word in words {
        hash = (hash ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^= hash >> 29;
    }
    (hash as usize) % slots.max(1)
}

/// One slot: a cache line of its own, so that two busy credentials do not slow each other down.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    /// 0 while nothing is counted here, else the seal of `words`. Written last.
    seal: AtomicU64,
    words: [AtomicU64; WORDS],
    count: AtomicU64,
    /// The minute of the last request, since 1970.
    used: AtomicU64,
}

/// What is found in a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// Nothing is counted here.
    Free,
    /// What is counted here.
    Taken(Counted),
    /// The seal does not fit: it was torn in a power cut, or somebody wrote to the file.
    Torn,
}

/// A count as read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Requests.
    pub count: u64,
    /// The minute of the last one, since 1970.
    pub used: u64,
}

impl Slot {
    /// Whether `words` are counted here; none if nothing is.
    pub fn holds(&self, words: &Words) -> Option<bool> {
        // Whoever sees the seal sees what was written before it.
        (self.seal.load(Ordering::Acquire) != 0)
            .then(|| self.words.iter().zip(words).all(|(own, wanted)| own.load(Ordering::Relaxed) == *wanted))
    }

    /// Takes a free slot for `words`. One at a time does so.
    pub fn take(&self, words: &Words) {
        // What a process that was killed in between has left behind counts nothing.
        self.count.store(0, Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
        for (own, word) in self.words.iter().zip(words) {
            own.store(*word, Ordering::Relaxed);
        }
        self.seal.store(seal(words), Ordering::Release);
    }

    /// Makes a torn slot one that nothing is looked for in.
    pub fn bury(&self) {
        for own in &self.words {
            own.store(u64::MAX, Ordering::Relaxed);
        }
        self.seal.store(1, Ordering::Release);
    }

    /// Counts one request of the minute `used`.
    pub fn add(&self, used: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        // Most requests fall into the minute of the one before.
        if self.used.load(Ordering::Relaxed) < used {
            self.used.fetch_max(used, Ordering::Relaxed);
        }
    }

    /// What was counted.
    pub fn read(&self) -> Reading {
        Reading { count: self.count.load(Ordering::Relaxed), used: self.used.load(Ordering::Relaxed) }
    }

    /// What is here, its seal checked.
    pub fn inspect(&self) -> Found {
        let words = self.words.each_ref().map(|word| word.load(Ordering::Relaxed));
        match self.seal.load(Ordering::Acquire) {
            0 => Found::Free,
            found if found == seal(&words) => Counted::from_words(words).map_or(Found::Torn, Found::Taken),
            _ => Found::Torn,
        }
    }
}

/// CRC-32 of the words, and a bit that tells a slot in use from a free one.
fn seal(words: &Words) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    for word in words {
        hasher.update(&word.to_le_bytes());
    }
    u64::from(hasher.finalize()) << 32 | 1
}

/// The minute of an instant, since 1970.
pub fn minute_of(instant: Timestamp) -> u64 {
    u64::try_from(instant.unix_seconds() / 60).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{KeyId, SessionId, TokenId};

    #[test]
    fn what_is_counted_is_read_as_it_is_written() {
        for credential in [
            CredentialId::Session(SessionId::new()),
            CredentialId::Key(KeyId::new()),
            CredentialId::Token(TokenId::from_u128(0x2c9)),
        ] {
            for project in [None, Some(ProjectId::new())] {
                for day in ["1970-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "9999-12-31T00:00:00Z"] {
                    let day = Timestamp::parse(day).unwrap().date();
                    let counted = Counted { project, credential, route: u32::MAX, day };
                    assert_eq!(Counted::from_words(counted.words()), Some(counted));
                }
            }
        }
    }

    #[test]
    fn a_slot_whose_seal_does_not_fit_is_torn() {
        let slot = Slot {
            seal: AtomicU64::new(0),
            words: [const { AtomicU64::new(0) }; WORDS],
            count: AtomicU64::new(7),
            used: AtomicU64::new(0),
        };
        assert_eq!(slot.inspect(), Found::Free);
        let counted = Counted { project: None, credential: CredentialId::Key(KeyId::new()), route: 1, day: FIRST_DAY };
        slot.take(&counted.words());
        slot.add(5);
        assert_eq!((slot.inspect(), slot.read()), (Found::Taken(counted), Reading { count: 1, used: 5 }));
        slot.words[3].fetch_xor(1 << 40, Ordering::Relaxed);
        assert_eq!(slot.inspect(), Found::Torn);
    }
}
