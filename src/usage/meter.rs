//! The meter of one node: counts each request in the current journal, and moves on to a new one when that is full.

use std::{
    collections::{HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
};

use arc_swap::ArcSwap;
use time::Date;
use uuid::Uuid;

use super::{
    figures::Figures,
    journal::{
        Full, Journal,
        folder::Folder,
        slot::{Counted, Reading, minute_of},
    },
};
use crate::base::{clock::Timestamp, id::ProjectId, period::Period, request::Route};

/// The slots of a journal: 8 MiB, and room for as many pairs of credential and route on the days it lasts.
const SLOTS: usize = 1 << 17;
/// How full a journal may be before another follows it, in percent: look-ups stay short, and there is room for what
/// comes until the next flush.
const FULL_ENOUGH: usize = 50;

/// How a node counts.
#[derive(Clone, Debug)]
pub struct MeterOptions {
    /// Where its journals are. None: what was not written dies with the process.
    pub folder: Option<PathBuf>,
    /// How many things a journal counts.
    pub slots: usize,
    /// Whether it counts at all, which only a benchmark does without.
    pub counts: bool,
}

impl Default for MeterOptions {
    fn default() -> Self {
        Self { folder: None, slots: SLOTS, counts: true }
    }
}

/// The meter.
#[derive(Debug)]
pub struct Meter {
    options: MeterOptions,
    current: ArcSwap<Journal>,
    /// Those in which nothing new is counted, until all that is in them is written.
    older: Mutex<Vec<Arc<Journal>>>,
    /// Where new ones are made.
    folder: OnceLock<Folder>,
    /// The routes there are.
    routes: OnceLock<Vec<(Route, String)>>,
    /// Why no new journal can be made, if none can.
    trouble: Mutex<Option<String>>,
    /// What is told of all that.
    pub(super) figures: Figures,
    /// One at a time writes: whoever has waited for it finds all written that was counted before.
    pub(super) flushing: tokio::sync::Mutex<Flushed>,
}

/// What the database has already.
#[derive(Debug, Default)]
pub(super) struct Flushed {
    /// Of each journal.
    pub journals: HashMap<Uuid, Sent>,
    /// Whether it knows the routes' names.
    pub routes: bool,
}

/// What the database has of one journal.
#[derive(Debug, Default)]
pub(super) struct Sent {
    /// Of each slot, in the order in which they were taken.
    pub readings: Vec<Reading>,
    /// Of each project in each month.
    pub totals: HashMap<(ProjectId, Period), i64>,
    /// Months that were found to be final.
    pub late: HashSet<(ProjectId, Period)>,
}

impl Meter {
    /// A meter that counts in memory, until [`Meter::open`] gives it a file.
    pub fn new(options: MeterOptions) -> io::Result<Self> {
        Ok(Self {
            current: ArcSwap::from_pointee(Journal::in_memory(options.slots)?),
            options,
            older: Mutex::default(),
            folder: OnceLock::new(),
            routes: OnceLock::new(),
            trouble: Mutex::default(),
            figures: Figures::default(),
            flushing: tokio::sync::Mutex::default(),
        })
    }

    /// The folder of the journals, if there is one.
    pub fn folder(&self) -> Option<&Path> {
        self.options.folder.as_deref()
    }

    /// Goes on in the journals that are there for `database`, or begins one.
    pub fn open(&self, database: Uuid, today: Date) -> io::Result<()> {
        let Some(path) = &self.options.folder else { return Ok(()) };
        let folder = Folder::open(path, database, self.options.slots)?;
        let mut adopted = folder.adopt()?;
        let current = match adopted.iter().position(|journal| is_fit(journal, today)) {
            Some(place) => adopted.swap_remove(place),
            None => folder.create()?,
        };
        let mut older = self.older();
        older.push(self.current.swap(Arc::new(current)));
        older.extend(adopted.into_iter().map(Arc::new));
        // Opened once; a second time there would be nothing left to adopt.
        let _ = self.folder.set(folder);
        Ok(())
    }

    /// Says which routes there are, so that their numbers can be told.
    pub fn name_routes(&self, routes: Vec<(Route, String)>) {
        let _ = self.routes.set(routes);
    }

    pub(super) fn routes(&self) -> &[(Route, String)] {
        self.routes.get().map_or(&[], Vec::as_slice)
    }

    /// Counts one request, answered `now`.
    pub fn count(&self, counted: &Counted, now: Timestamp) {
        if !self.options.counts {
            return;
        }
        let (words, minute) = (counted.words(), minute_of(now));
        if let Some(slot) = self.current.load().find(&words) {
            slot.add(minute);
            return;
        }
        // The first one of its kind, and the first after a new journal was begun.
        loop {
            let journal = self.current.load_full();
            match journal.find_or_take(&words) {
                Ok(slot) => return slot.add(minute),
                // Others may fill the next one too before it is this one's turn.
                Err(Full) if self.move_on(&journal) => {}
                Err(Full) => {
                    self.figures.lost.fetch_add(1, Ordering::Relaxed);
                    return tracing::error!(
                        "a request could not be counted: no journal has room, and none can be made"
                    );
                }
            }
        }
    }

    /// Begins a new journal if the current one is filling, is of a month that is over, or has no file.
    pub(super) fn move_on_if_due(&self, today: Date) {
        let journal = self.current.load_full();
        let has_no_file = self.folder.get().is_some() && journal.file().is_none();
        if !is_fit(&journal, today) || has_no_file {
            self.move_on(&journal);
        }
    }

    /// Begins a new journal after `journal`, unless somebody else has. False if there is none after it.
    fn move_on(&self, journal: &Arc<Journal>) -> bool {
        let mut older = self.older();
        if !Arc::ptr_eq(&self.current.load(), journal) {
            return true;
        }
        let in_file = self.folder.get().and_then(|folder| self.create(folder));
        let new = match in_file {
            Some(new) => new,
            // It is in memory already, and has room.
            None if journal.file().is_none() && journal.load() < FULL_ENOUGH => return false,
            None => match Journal::in_memory(self.options.slots) {
                Ok(new) => new,
                Err(error) => {
                    tracing::error!(%error, "there is no memory for a usage journal");
                    return false;
                }
            },
        };
        older.push(self.current.swap(Arc::new(new)));
        true
    }

    /// A new journal with a file; none if none can be made, of which [`Meter::trouble`] then tells.
    fn create(&self, folder: &Folder) -> Option<Journal> {
        let (made, trouble) = match folder.create() {
            Ok(made) => (Some(made), None),
            Err(error) => {
                let path = folder.path().display();
                let what = if error.kind() == io::ErrorKind::StorageFull { "disk full" } else { "failed" };
                let trouble = format!(
                    "{what}: no usage journal can be created in {path} ({error}); usage is counted in memory, and a crash loses up to a second of it"
                );
                (None, Some(trouble))
            }
        };
        let mut known = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        if *known != trouble {
            match &trouble {
                Some(trouble) => tracing::error!("usage journal {trouble}; make room on that disk"),
                None => tracing::info!("usage journal created again"),
            }
            *known = trouble;
        }
        made
    }

    /// Why no new journal can be made, if none can.
    pub fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The journal that is counted in.
    pub(super) fn current(&self) -> Arc<Journal> {
        self.current.load_full()
    }

    /// The others. One of which there are two references, here and in what is returned, is counted in by nobody.
    pub(super) fn others(&self) -> Vec<Arc<Journal>> {
        self.older().clone()
    }

    /// Forgets a journal of which all is written.
    pub(super) fn forget(&self, journal: &Arc<Journal>) {
        self.older().retain(|older| !Arc::ptr_eq(older, journal));
    }

    fn older(&self) -> MutexGuard<'_, Vec<Arc<Journal>>> {
        // A panic elsewhere leaves the list whole: each change to it is one call.
        self.older.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether to go on counting in it: it is not filling, and of no month that is over.
fn is_fit(journal: &Journal, today: Date) -> bool {
    journal.load() < FULL_ENOUGH && !journal.begins_before(Period::of(today).first())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::base::{credential::CredentialId, id::KeyId};

    #[test]
    fn what_is_counted_while_journals_follow_each_other_is_in_one_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let options = MeterOptions { folder: Some(folder.path().to_owned()), slots: 64, ..MeterOptions::default() };
        let meter = Meter::new(options).unwrap();
        let now = Timestamp::parse("2026-03-31T23:59:59Z").unwrap();
        meter.open(Uuid::from_u128(1), now.date()).unwrap();
        thread::scope(|scope| {
            for thread in 0..4_u128 {
                let meter = &meter;
                scope.spawn(move || {
                    for turn in 0..2_000 {
                        let credential = CredentialId::Key(KeyId::from_u128(1 + turn / 10 + thread % 2 * 7));
                        meter.count(&Counted { project: None, credential, route: 1, day: now.date() }, now);
                    }
                });
            }
        });
        let journals: Vec<_> = meter.others().into_iter().chain([meter.current()]).collect();
        assert!(journals.len() > 4 && journals.iter().skip(1).all(|journal| journal.file().is_some()));
        let count =
            |journal: &Arc<Journal>| journal.changed_since(&[]).iter().map(|change| change.now.count).sum::<u64>();
        assert_eq!(journals.iter().map(count).sum::<u64>(), 8_000);
        // A month's end begins one too.
        let before = meter.current().id;
        meter.move_on_if_due(now.date());
        meter.move_on_if_due(now.date().next_day().unwrap());
        assert_ne!(meter.current().id, before);
    }
}
