//! The meter of a node: counts each request in the current journal, and starts a new journal when that one is filling
//! up.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, atomic::Ordering},
};

use arc_swap::ArcSwap;
use time::Date;
use uuid::Uuid;

use super::journal::{
    Journal, JournalFull,
    folder::Folder,
    slot::{CounterKey, CounterValue, minute_of},
};
use crate::{
    api::usage::metrics::FlushMetrics,
    base::{
        id::ProjectId,
        runtime::{clock::Timestamp, period::Period, request::Route},
    },
};

/// Slots of a journal: 8 MiB, for as many pairs of credential and route on the days of its life.
const DEFAULT_SLOTS: usize = 1 << 17;
/// Fill level in percent at which the next journal is started, so that lookups stay short and there is space until the
/// next flush.
const ROTATE_AT_PERCENT: usize = 50;

/// Settings of a meter.
#[derive(Clone, Debug)]
pub struct MeterOptions {
    /// Folder of the journals. None: counts that are not flushed are lost with the process.
    pub folder: Option<PathBuf>,
    /// Slots per journal.
    pub slots: usize,
    /// Whether requests are counted. Only a benchmark turns this off.
    pub is_enabled: bool,
}

impl Default for MeterOptions {
    fn default() -> Self {
        Self { folder: None, slots: DEFAULT_SLOTS, is_enabled: true }
    }
}

/// The meter.
#[derive(Debug)]
pub struct Meter {
    options: MeterOptions,
    current: ArcSwap<Journal>,
    /// Journals without new counters, until they are completely flushed.
    older: Mutex<Vec<Arc<Journal>>>,
    /// Folder for new journals.
    folder: OnceLock<Folder>,
    /// All routes.
    routes: OnceLock<Vec<(Route, String)>>,
    /// Reason why no journal can be created, if that is so.
    storage_error: Mutex<Option<String>>,
    /// Metrics.
    pub(crate) metrics: FlushMetrics,
    /// The journal without counts that are not flushed, and the time up to which that is so.
    unchanged: Mutex<Option<(Uuid, Timestamp)>>,
    /// Lock for flushing. A caller that has acquired it finds everything flushed that was counted before.
    pub(crate) flushing: tokio::sync::Mutex<FlushState>,
}

/// What the database already has.
#[derive(Debug, Default)]
pub(crate) struct FlushState {
    /// Per journal.
    pub journals: HashMap<Uuid, SentCounters>,
    /// Whether the names of the routes are written.
    pub routes: bool,
    /// Projects and months whose usage was written, and whose quotas must be evaluated.
    pub unevaluated: BTreeSet<(ProjectId, Period)>,
}

/// What the database has of one journal.
#[derive(Debug, Default)]
pub(crate) struct SentCounters {
    /// Reading of each slot, in the order of first use.
    pub readings: Vec<CounterValue>,
    /// Months that turned out to be final.
    pub final_months: HashSet<(ProjectId, Period)>,
    /// Whether the journal is listed as open.
    pub is_open: bool,
}

impl Meter {
    /// Creates a meter that counts in memory until [`Meter::open`] gives it a file.
    pub fn new(options: MeterOptions) -> io::Result<Self> {
        Ok(Self {
            current: ArcSwap::from_pointee(Journal::in_memory(options.slots)?),
            options,
            older: Mutex::default(),
            folder: OnceLock::new(),
            routes: OnceLock::new(),
            storage_error: Mutex::default(),
            metrics: FlushMetrics::default(),
            unchanged: Mutex::default(),
            flushing: tokio::sync::Mutex::default(),
        })
    }

    /// Folder of the journals, if any.
    pub fn folder(&self) -> Option<&Path> {
        self.options.folder.as_deref()
    }

    /// Continues in the existing journals of `database`, or creates one.
    pub fn open(&self, database: Uuid, today: Date) -> io::Result<()> {
        let Some(path) = &self.options.folder else { return Ok(()) };
        let folder = Folder::open(path, database, self.options.slots)?;
        let mut adopted = folder.adopt()?;
        let current = match adopted.iter().position(|journal| is_usable(journal, today)) {
            Some(index) => adopted.swap_remove(index),
            None => folder.create()?,
        };
        let mut older = self.lock_older();
        older.push(self.current.swap(Arc::new(current)));
        older.extend(adopted.into_iter().map(Arc::new));
        // Opened only once. A second call would find nothing to adopt.
        let _ = self.folder.set(folder);
        Ok(())
    }

    /// Sets the routes, whose names are written with the next flush.
    pub fn name_routes(&self, routes: Vec<(Route, String)>) {
        let _ = self.routes.set(routes);
    }

    pub(crate) fn routes(&self) -> &[(Route, String)] {
        self.routes.get().map_or(&[], Vec::as_slice)
    }

    /// Counts one request with a response at `now`.
    pub fn count(&self, counted: &CounterKey, now: Timestamp) {
        if !self.options.is_enabled {
            return;
        }
        let (encoded, minute) = (counted.encode(), minute_of(now));
        if let Some(slot) = self.current.load().find(&encoded) {
            slot.add(minute);
            return;
        }
        // First request of this counter, or the first one in a new journal.
        loop {
            let journal = self.current.load_full();
            match journal.find_or_claim(&encoded) {
                Ok(slot) => return slot.add(minute),
                // Others may fill the next journal too before this request gets a slot.
                Err(JournalFull) if self.rotate(&journal) => {}
                Err(JournalFull) => {
                    self.metrics.lost_requests.fetch_add(1, Ordering::Relaxed);
                    return tracing::error!("request not counted: no journal has space, and none can be created");
                }
            }
        }
    }

    /// Starts a new journal if the current one is filling up, has counts of a past month, or has no file.
    pub(crate) fn rotate_if_due(&self, today: Date) {
        let journal = self.current.load_full();
        let has_no_file = self.folder.get().is_some() && journal.file().is_none();
        if !is_usable(&journal, today) || has_no_file {
            self.rotate(&journal);
        }
    }

    /// Starts a new journal after `journal`, unless another thread has. Returns false if that is impossible.
    fn rotate(&self, journal: &Arc<Journal>) -> bool {
        let mut older = self.lock_older();
        if !Arc::ptr_eq(&self.current.load(), journal) {
            return true;
        }
        let in_file = self.folder.get().and_then(|folder| self.create(folder));
        let new = match in_file {
            Some(new) => new,
            // It is in memory already, and has space.
            None if journal.file().is_none() && journal.percent_used() < ROTATE_AT_PERCENT => return false,
            None => match Journal::in_memory(self.options.slots) {
                Ok(new) => new,
                Err(error) => {
                    tracing::error!(%error, "allocation of a usage journal failed");
                    return false;
                }
            },
        };
        older.push(self.current.swap(Arc::new(new)));
        true
    }

    /// Creates a journal with a file. On failure, [`Meter::storage_error`] has the reason.
    fn create(&self, folder: &Folder) -> Option<Journal> {
        let (created, storage_error) = match folder.create() {
            Ok(created) => (Some(created), None),
            Err(error) => {
                let path = folder.path().display();
                let what = if error.kind() == io::ErrorKind::StorageFull { "disk full" } else { "failed" };
                let storage_error = format!(
                    "{what}: no usage journal can be created in {path} ({error}); usage is counted in memory, and a crash loses up to a second of it"
                );
                (None, Some(storage_error))
            }
        };
        let mut previous = self.storage_error.lock().unwrap_or_else(PoisonError::into_inner);
        if *previous != storage_error {
            match &storage_error {
                Some(storage_error) => tracing::error!("usage journal {storage_error}; free space on that disk"),
                None => tracing::info!("usage journal created again"),
            }
            *previous = storage_error;
        }
        created
    }

    /// Reason why no journal can be created, if that is so.
    pub fn storage_error(&self) -> Option<String> {
        self.storage_error.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The open journal without counts that are not flushed, if there is one, and the time up to which that is so.
    pub fn unchanged_journal(&self) -> Option<(Uuid, Timestamp)> {
        *self.unchanged.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_unchanged(&self, journal: Option<(Uuid, Timestamp)>) {
        *self.unchanged.lock().unwrap_or_else(PoisonError::into_inner) = journal;
    }

    /// Current journal.
    pub(crate) fn current(&self) -> Arc<Journal> {
        self.current.load_full()
    }

    /// All other journals. If a journal has two references, here and in the result, nothing is counted in it.
    pub(crate) fn older_journals(&self) -> Vec<Arc<Journal>> {
        self.lock_older().clone()
    }

    /// Removes a completely flushed journal from the list.
    pub(crate) fn remove(&self, journal: &Arc<Journal>) {
        self.lock_older().retain(|older| !Arc::ptr_eq(older, journal));
    }

    fn lock_older(&self) -> MutexGuard<'_, Vec<Arc<Journal>>> {
        // No panic can leave the list inconsistent, because each change to it is one call.
        self.older.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports whether to continue in the journal: it is not filling up, and has no counts of a past month.
fn is_usable(journal: &Journal, today: Date) -> bool {
    journal.percent_used() < ROTATE_AT_PERCENT && !journal.has_counts_before(Period::of(today).first())
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::base::{id::KeyId, identity::credential::CredentialId};

    #[test]
    fn no_count_is_lost_when_a_new_journal_is_started() {
        let folder = tempfile::tempdir().unwrap();
        let options = MeterOptions { folder: Some(folder.path().to_owned()), slots: 64, ..MeterOptions::default() };
        let meter = Meter::new(options).unwrap();
        let now = Timestamp::parse("2026-03-31T23:59:59Z").unwrap();
        meter.open(Uuid::from_u128(1), now.date()).unwrap();
        thread::scope(|scope| {
            for thread in 0..4_u128 {
                let meter = &meter;
                scope.spawn(move || {
                    for round in 0..2_000 {
                        let credential = CredentialId::Key(KeyId::from_u128(1 + round / 10 + thread % 2 * 7));
                        meter.count(&CounterKey { project: None, credential, route: 1, day: now.date() }, now);
                    }
                });
            }
        });
        let journals: Vec<_> = meter.older_journals().into_iter().chain([meter.current()]).collect();
        assert!(journals.len() > 4 && journals.iter().skip(1).all(|journal| journal.file().is_some()));
        let count =
            |journal: &Arc<Journal>| journal.changed_since(&[]).iter().map(|change| change.now.count).sum::<u64>();
        assert_eq!(journals.iter().map(count).sum::<u64>(), 8_000);
        // The end of a month starts a new journal too.
        let before = meter.current().id;
        meter.rotate_if_due(now.date());
        meter.rotate_if_due(now.date().next_day().unwrap());
        assert_ne!(meter.current().id, before);
    }
}
