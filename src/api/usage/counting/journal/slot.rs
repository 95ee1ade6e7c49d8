//! Slots of a journal's file, each of which is one counter.

use std::sync::atomic::{AtomicU64, Ordering};

use time::Date;

use crate::base::{id::ProjectId, identity::credential::CredentialId, runtime::clock::Timestamp};

/// Identity of a counter: requests of a credential on one route, for one project, on one UTC day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CounterKey {
    /// Project, if the request was for one.
    pub project: Option<ProjectId>,
    /// Credential of the request.
    pub credential: CredentialId,
    /// Number of the route.
    pub route: u32,
    /// Day of the response.
    pub day: Date,
}

const KEY_WORDS: usize = 5;
/// [`CounterKey`] as stored in a slot.
pub type EncodedKey = [u64; KEY_WORDS];

/// Day that is stored as 0.
const FIRST_DAY: Date = time::macros::date!(1970 - 01 - 01);
const KIND_SHIFT: u32 = 24;

impl CounterKey {
    /// Encodes the identity for a slot.
    pub fn encode(&self) -> EncodedKey {
        let halves = |number: u128| ((number >> 64) as u64, number as u64);
        let (kind, credential) = self.credential.numbers();
        let project = halves(self.project.map_or(0, ProjectId::as_u128));
        let credential = halves(credential);
        // Every day fits: the last day of the calendar has number 2,932,896.
        let day = self.day.to_julian_day().saturating_sub(FIRST_DAY.to_julian_day()).clamp(0, (1 << KIND_SHIFT) - 1);
        let last = u64::from(self.route) << 32 | u64::from(kind) << KIND_SHIFT | u64::from(day.unsigned_abs());
        [project.0, project.1, credential.0, credential.1, last]
    }

    /// Decodes the identity in a slot. None if it is invalid.
    pub fn decode([project_high, project_low, high, low, last]: EncodedKey) -> Option<Self> {
        let join = |high: u64, low: u64| u128::from(high) << 64 | u128::from(low);
        let (project, id) = (join(project_high, project_low), join(high, low));
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

/// Returns the slot at which the search for `encoded` begins. This is part of the file format.
pub fn home_slot(encoded: &EncodedKey, slots: usize) -> usize {
    // Clients cannot choose these IDs, so a simple hash suffices: multiply and mix (constants of splitmix64).
    let mut hash = 0x9e37_79b9_7f4a_7c15_u64;
    for word in encoded {
        hash = (hash ^ word).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash ^= hash >> 29;
    }
    (hash as usize) % slots.max(1)
}

/// A slot. It fills a cache line, so that two busy credentials do not slow each other down.
#[derive(Debug)]
#[repr(C, align(64))]
pub struct Slot {
    /// 0 if the slot is free, else the checksum of `encoded`. Written last.
    checksum: AtomicU64,
    encoded: [AtomicU64; KEY_WORDS],
    count: AtomicU64,
    /// Minute of the last request, since 1970.
    used: AtomicU64,
}

/// State of a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotState {
    /// The slot is free.
    Free,
    /// The slot is used by this counter.
    Used(CounterKey),
    /// The checksum does not match: a power failure interrupted the write, or somebody changed the file.
    Torn,
}

/// Values of a counter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CounterValue {
    /// Number of requests.
    pub count: u64,
    /// Minute of the last request, since 1970.
    pub used: u64,
}

impl Slot {
    /// Reports whether the slot counts `encoded`. None if the slot is free.
    pub fn matches_key(&self, encoded: &EncodedKey) -> Option<bool> {
        // Acquire: a thread that sees the checksum also sees the words written before it.
        (self.checksum.load(Ordering::Acquire) != 0).then(|| {
            self.encoded.iter().zip(encoded).all(|(stored, expected)| stored.load(Ordering::Relaxed) == *expected)
        })
    }

    /// Takes a free slot for `encoded`. Callers must be serialized.
    pub fn claim(&self, encoded: &EncodedKey) {
        // Clears what a killed process left behind.
        self.count.store(0, Ordering::Relaxed);
        self.used.store(0, Ordering::Relaxed);
        for (stored, word) in self.encoded.iter().zip(encoded) {
            stored.store(*word, Ordering::Relaxed);
        }
        self.checksum.store(checksum(encoded), Ordering::Release);
    }

    /// Marks a damaged slot, so that no search matches it.
    pub fn mark_torn(&self) {
        for stored in &self.encoded {
            stored.store(u64::MAX, Ordering::Relaxed);
        }
        self.checksum.store(1, Ordering::Release);
    }

    /// Counts one request of the minute `used`.
    pub fn add(&self, used: u64) {
        self.count.fetch_add(1, Ordering::Relaxed);
        // Most requests are in the same minute as the one before.
        if self.used.load(Ordering::Relaxed) < used {
            self.used.fetch_max(used, Ordering::Relaxed);
        }
    }

    /// Reads the values.
    pub fn read(&self) -> CounterValue {
        CounterValue { count: self.count.load(Ordering::Relaxed), used: self.used.load(Ordering::Relaxed) }
    }

    /// Reads the identity, and verifies the checksum.
    pub fn inspect(&self) -> SlotState {
        let encoded = self.encoded.each_ref().map(|word| word.load(Ordering::Relaxed));
        match self.checksum.load(Ordering::Acquire) {
            0 => SlotState::Free,
            found if found == checksum(&encoded) => {
                CounterKey::decode(encoded).map_or(SlotState::Torn, SlotState::Used)
            }
            _ => SlotState::Torn,
        }
    }
}

/// CRC-32 of the words, and a bit that distinguishes a used slot from a free one.
fn checksum(encoded: &EncodedKey) -> u64 {
    let mut hasher = crc32fast::Hasher::new();
    for word in encoded {
        hasher.update(&word.to_le_bytes());
    }
    u64::from(hasher.finalize()) << 32 | 1
}

/// Minute of an instant, since 1970.
pub fn minute_of(instant: Timestamp) -> u64 {
    u64::try_from(instant.unix_seconds() / 60).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::{KeyId, SessionId, TokenId};

    #[test]
    fn identity_of_a_counter_round_trips() {
        for credential in [
            CredentialId::Session(SessionId::new()),
            CredentialId::Key(KeyId::new()),
            CredentialId::Token(TokenId::from_u128(0x2c9)),
        ] {
            for project in [None, Some(ProjectId::new())] {
                for day in ["1970-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "9999-12-31T00:00:00Z"] {
                    let day = Timestamp::parse(day).unwrap().date();
                    let counted = CounterKey { project, credential, route: u32::MAX, day };
                    assert_eq!(CounterKey::decode(counted.encode()), Some(counted));
                }
            }
        }
    }

    #[test]
    fn slot_with_wrong_checksum_is_torn() {
        let slot = Slot {
            checksum: AtomicU64::new(0),
            encoded: [const { AtomicU64::new(0) }; KEY_WORDS],
            count: AtomicU64::new(7),
            used: AtomicU64::new(0),
        };
        assert_eq!(slot.inspect(), SlotState::Free);
        let counted =
            CounterKey { project: None, credential: CredentialId::Key(KeyId::new()), route: 1, day: FIRST_DAY };
        slot.claim(&counted.encode());
        slot.add(5);
        assert_eq!((slot.inspect(), slot.read()), (SlotState::Used(counted), CounterValue { count: 1, used: 5 }));
        slot.encoded[3].fetch_xor(1 << 40, Ordering::Relaxed);
        assert_eq!(slot.inspect(), SlotState::Torn);
    }
}
