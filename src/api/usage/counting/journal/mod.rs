//! The journal in which a node counts requests: a file of slots, memory-mapped and locked, so that counts survive the
//! process, however it ends. Counting takes one lookup and one atomic addition.

pub mod file;
pub mod folder;
mod map;
pub mod slot;

use std::sync::{Mutex, MutexGuard, PoisonError};

use time::Date;
use uuid::Uuid;

use file::{File, JournalFile};
use map::Map;
use slot::{CounterKey, CounterValue, EncodedKey, Slot, SlotState, home_slot};

/// A journal.
#[derive(Debug)]
pub struct Journal {
    /// ID of the journal, also in the database.
    pub id: Uuid,
    map: Map,
    /// None for a journal in memory only.
    file: Option<File>,
    used: Mutex<UsedSlots>,
    /// Number of damaged slots.
    pub torn: usize,
}

/// Used slots.
#[derive(Debug, Default)]
struct UsedSlots {
    /// Indexes of the slots in the order of their first use.
    slots: Vec<usize>,
    /// Earliest day with a count.
    since: Option<Date>,
}

impl UsedSlots {
    fn add(&mut self, index: usize, counted: Option<CounterKey>) {
        self.slots.push(index);
        let day = counted.map(|counted| counted.day);
        self.since = [self.since, day].into_iter().flatten().min();
    }
}

/// Change of a slot since it was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CounterChange {
    /// Position of the slot in the order of first use.
    pub index: usize,
    /// Identity of the counter.
    pub counter: CounterKey,
    /// Previous reading.
    pub before: CounterValue,
    /// Current reading.
    pub now: CounterValue,
}

/// No slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JournalFull;

impl Journal {
    /// Creates a journal in memory only.
    pub fn in_memory(slots: usize) -> std::io::Result<Self> {
        Ok(Self { id: Uuid::new_v4(), map: Map::anonymous(slots)?, file: None, used: Mutex::default(), torn: 0 })
    }

    /// Creates a journal from an opened file and its content.
    pub fn in_file(JournalFile { file, journal, map }: JournalFile) -> Self {
        let (mut used, mut torn) = (UsedSlots::default(), 0);
        for (index, slot) in map.slots().iter().enumerate() {
            match slot.inspect() {
                SlotState::Free => {}
                SlotState::Used(counted) => used.add(index, Some(counted)),
                SlotState::Torn => {
                    slot.mark_torn();
                    torn += 1;
                }
            }
        }
        // The search has loaded every page. If this fails, they stay loaded.
        let _ = map.unload();
        Self { id: journal, map, file: Some(file), used: Mutex::new(used), torn }
    }

    /// File of the journal, if any.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Finds the slot that counts `encoded`.
    pub fn find(&self, encoded: &EncodedKey) -> Option<&Slot> {
        for (_, slot) in self.probe(encoded) {
            match slot.matches_key(encoded) {
                Some(true) => return Some(slot),
                Some(false) => {}
                // A free slot ends the search.
                None => break,
            }
        }
        None
    }

    /// Finds the slot that counts `encoded`, or takes a free one.
    pub fn find_or_claim(&self, encoded: &EncodedKey) -> Result<&Slot, JournalFull> {
        let mut used = self.used_slots();
        // One slot in eight stays free, so that every search ends soon.
        let is_full = used.slots.len() + self.torn >= self.map.slots().len() / 8 * 7;
        for (index, slot) in self.probe(encoded) {
            match slot.matches_key(encoded) {
                Some(true) => return Ok(slot),
                Some(false) => {}
                None if is_full => break,
                None => {
                    slot.claim(encoded);
                    used.add(index, CounterKey::decode(*encoded));
                    return Ok(slot);
                }
            }
        }
        Err(JournalFull)
    }

    /// Returns the number of used slots and of all slots.
    pub fn slots(&self) -> (usize, usize) {
        (self.used_slots().slots.len() + self.torn, self.map.slots().len())
    }

    /// Returns the fill level in percent.
    pub fn percent_used(&self) -> usize {
        let (used, all) = self.slots();
        used * 100 / all.max(1)
    }

    /// Returns the changes since `sent`, the previous readings in the order of first use. Concurrent additions may be
    /// included.
    pub fn changed_since(&self, sent: &[CounterValue]) -> Vec<CounterChange> {
        let used = self.used_slots().slots.clone();
        let slots = self.map.slots();
        let change = |(number, slot): (usize, usize)| {
            let slot = slots.get(slot)?;
            let (before, now) = (sent.get(number).copied().unwrap_or_default(), slot.read());
            if now == before {
                return None;
            }
            match slot.inspect() {
                SlotState::Used(key) => Some(CounterChange { index: number, counter: key, before, now }),
                SlotState::Free | SlotState::Torn => None,
            }
        };
        used.into_iter().enumerate().filter_map(change).collect()
    }

    /// Reports whether the journal has counts of a day before `day`.
    pub fn has_counts_before(&self, day: Date) -> bool {
        self.used_slots().since.is_some_and(|since| since < day)
    }

    /// Syncs the journal to the disk, to survive a power failure.
    pub fn sync(&self) -> std::io::Result<()> {
        if self.file.is_some() { self.map.sync() } else { Ok(()) }
    }

    fn used_slots(&self) -> MutexGuard<'_, UsedSlots> {
        // A panic elsewhere leaves the data consistent.
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the slots in probing order for `encoded` (linear probing).
    fn probe(&self, encoded: &EncodedKey) -> impl Iterator<Item = (usize, &Slot)> {
        let slots = self.map.slots();
        let (before, from) = slots.split_at(home_slot(encoded, slots.len()));
        let first = before.len();
        (from.iter().enumerate().map(move |(index, slot)| (first + index, slot))).chain(before.iter().enumerate())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, thread};

    use time::macros::date;

    use super::*;
    use crate::base::{id::KeyId, identity::credential::CredentialId};

    fn counted(key: u128) -> CounterKey {
        let credential = CredentialId::Key(KeyId::from_u128(key));
        CounterKey { project: None, credential, route: 1, day: date!(2026 - 03 - 01) }
    }

    #[test]
    fn concurrent_threads_lose_no_counts() {
        let journal = Journal::in_memory(1024).unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    for round in 0..20_000_u128 {
                        let encoded = counted(round % 500 + thread % 2).encode();
                        let slot = journal.find(&encoded).map_or_else(|| journal.find_or_claim(&encoded), Ok);
                        slot.unwrap().add(1);
                    }
                });
            }
        });
        let read: HashMap<_, _> =
            journal.changed_since(&[]).into_iter().map(|change| (change.counter, change.now)).collect();
        assert_eq!(read.len(), 501);
        assert_eq!(read.values().map(|reading| reading.count).sum::<u64>(), 80_000);
        assert_eq!(read[&counted(7)].count, 160);
    }

    #[test]
    fn full_journal_refuses_new_counters_and_keeps_counting_known_ones() {
        let journal = Journal::in_memory(64).unwrap();
        for key in 0..56 {
            journal.find_or_claim(&counted(key).encode()).unwrap().add(1);
        }
        assert_eq!(
            (journal.find_or_claim(&counted(56).encode()).err(), journal.percent_used()),
            (Some(JournalFull), 87)
        );
        assert!(journal.find(&counted(56).encode()).is_none());
        journal.find_or_claim(&counted(55).encode()).unwrap().add(2);
        assert_eq!(journal.changed_since(&[]).iter().map(|change| change.now.count).sum::<u64>(), 57);
    }
}
