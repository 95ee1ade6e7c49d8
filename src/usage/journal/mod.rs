//! The journal in which a node counts requests: a file of slots, memory-mapped and locked, so that counts survive the
//! process, however it ends. Counting takes one lookup and one atomic addition.

pub mod file;
pub mod folder;
mod map;
pub mod slot;

use std::sync::{Mutex, MutexGuard, PoisonError};

use time::Date;
use uuid::Uuid;

use file::{File, Opened};
use map::Map;
use slot::{Counted, Found, Reading, Slot, Words, home};

/// A journal.
#[derive(Debug)]
pub struct Journal {
    /// ID of the journal, also in the database.
    pub id: Uuid,
    map: Map,
    /// None for a journal in memory only.
    file: Option<File>,
    taken: Mutex<Taken>,
    /// Number of damaged slots.
    pub torn: usize,
}

/// Used slots.
#[derive(Debug, Default)]
struct Taken {
    /// Indexes of the slots in the order of their first use.
    slots: Vec<usize>,
    /// Earliest day with a count.
    since: Option<Date>,
}

impl Taken {
    fn add(&mut self, index: usize, counted: Option<Counted>) {
        self.slots.push(index);
        let day = counted.map(|counted| counted.day);
        self.since = [self.since, day].into_iter().flatten().min();
    }
}

/// Change of a slot since it was last read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// Position of the slot in the order of first use.
    pub place: usize,
    /// Identity of the counter.
    pub counted: Counted,
    /// Previous reading.
    pub before: Reading,
    /// Current reading.
    pub now: Reading,
}

/// No slot is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Journal {
    /// Creates a journal in memory only.
    pub fn in_memory(slots: usize) -> std::io::Result<Self> {
        Ok(Self { id: Uuid::new_v4(), map: Map::of_memory(slots)?, file: None, taken: Mutex::default(), torn: 0 })
    }

    /// Creates a journal from an opened file and its content.
    pub fn in_file(Opened { file, journal, map }: Opened) -> Self {
        let (mut taken, mut torn) = (Taken::default(), 0);
        for (index, slot) in map.slots().iter().enumerate() {
            match slot.inspect() {
                Found::Free => {}
                Found::Taken(counted) => taken.add(index, Some(counted)),
                Found::Torn => {
                    slot.bury();
                    torn += 1;
                }
            }
        }
        Self { id: journal, map, file: Some(file), taken: Mutex::new(taken), torn }
    }

    /// File of the journal, if any.
    pub fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }

    /// Finds the slot that counts `words`.
    pub fn find(&self, words: &Words) -> Option<&Slot> {
        for (_, slot) in self.probe(words) {
            match slot.holds(words) {
                Some(true) => return Some(slot),
                Some(false) => {}
                // A free slot ends the search.
                None => break,
            }
        }
        None
    }

    /// Finds the slot that counts `words`, or takes a free one.
    pub fn find_or_take(&self, words: &Words) -> Result<&Slot, Full> {
        let mut taken = self.taken();
        // One slot in eight stays free, so that every search ends soon.
        let is_full = taken.slots.len() + self.torn >= self.map.slots().len() / 8 * 7;
        for (index, slot) in self.probe(words) {
            match slot.holds(words) {
                Some(true) => return Ok(slot),
                Some(false) => {}
                None if is_full => break,
                None => {
                    slot.take(words);
                    taken.add(index, Counted::from_words(*words));
                    return Ok(slot);
                }
            }
        }
        Err(Full)
    }

    /// Returns the number of used slots and of all slots.
    pub fn slots(&self) -> (usize, usize) {
        (self.taken().slots.len() + self.torn, self.map.slots().len())
    }

    /// Returns the fill level in percent.
    pub fn load(&self) -> usize {
        let (used, all) = self.slots();
        used * 100 / all.max(1)
    }

    /// Returns the changes since `sent`, the previous readings in the order of first use. Concurrent additions may be
    /// included.
    pub fn changed_since(&self, sent: &[Reading]) -> Vec<Change> {
        let taken = self.taken().slots.clone();
        let slots = self.map.slots();
        let change = |(place, index): (usize, usize)| {
            let slot = slots.get(index)?;
            let (before, now) = (sent.get(place).copied().unwrap_or_default(), slot.read());
            if now == before {
                return None;
            }
            match slot.inspect() {
                Found::Taken(counted) => Some(Change { place, counted, before, now }),
                Found::Free | Found::Torn => None,
            }
        };
        taken.into_iter().enumerate().filter_map(change).collect()
    }

    /// Reports whether the journal has counts of a day before `day`.
    pub fn begins_before(&self, day: Date) -> bool {
        self.taken().since.is_some_and(|since| since < day)
    }

    /// Syncs the journal to the disk, to survive a power failure.
    pub fn sync(&self) -> std::io::Result<()> {
        if self.file.is_some() { self.map.sync() } else { Ok(()) }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        // A panic elsewhere leaves the data consistent.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the slots in probing order for `words` (linear probing).
    fn probe(&self, words: &Words) -> impl Iterator<Item = (usize, &Slot)> {
        let slots = self.map.slots();
        let (before, from) = slots.split_at(home(words, slots.len()));
        let first = before.len();
        (from.iter().enumerate().map(move |(index, slot)| (first + index, slot))).chain(before.iter().enumerate())
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, thread};

    use time::macros::date;

    use super::*;
    use crate::base::{credential::CredentialId, id::KeyId};

    fn counted(key: u128) -> Counted {
        let credential = CredentialId::Key(KeyId::from_u128(key));
        Counted { project: None, credential, route: 1, day: date!(2026 - 03 - 01) }
    }

    #[test]
    fn concurrent_threads_lose_no_counts() {
        let journal = Journal::in_memory(1024).unwrap();
        thread::scope(|scope| {
            for thread in 0..4 {
                let journal = &journal;
                scope.spawn(move || {
                    for turn in 0..20_000_u128 {
                        let words = counted(turn % 500 + thread % 2).words();
                        let slot = journal.find(&words).map_or_else(|| journal.find_or_take(&words), Ok);
                        slot.unwrap().add(1);
                    }
                });
            }
        });
        let read: HashMap<_, _> =
            journal.changed_since(&[]).into_iter().map(|change| (change.counted, change.now)).collect();
        assert_eq!(read.len(), 501);
        assert_eq!(read.values().map(|reading| reading.count).sum::<u64>(), 80_000);
        assert_eq!(read[&counted(7)].count, 160);
    }

    #[test]
    fn full_journal_refuses_new_counters_and_keeps_counting_known_ones() {
        let journal = Journal::in_memory(64).unwrap();
        for key in 0..56 {
            journal.find_or_take(&counted(key).words()).unwrap().add(1);
        }
        assert_eq!((journal.find_or_take(&counted(56).words()).err(), journal.load()), (Some(Full), 87));
        assert!(journal.find(&counted(56).words()).is_none());
        journal.find_or_take(&counted(55).words()).unwrap().add(2);
        assert_eq!(journal.changed_since(&[]).iter().map(|change| change.now.count).sum::<u64>(), 57);
    }
}
