//! Progress and metrics of the sealer.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use super::repo::StagedPosition;
use crate::{
    base::id::AuditId,
    metrics::exposition::{Collector, Exposition},
};

/// Metrics of the sealer, as seen by this server.
#[derive(Debug)]
pub struct SealerMetrics {
    /// Number of entries that this server sealed.
    pub sealed: AtomicU64,
    /// Number of staged entries that were not sealed at the last check, counted up to a few thousand.
    pub staged: AtomicU64,
    /// Number of checkpoints that this server created.
    pub checkpoints: AtomicU64,
    /// Time since which staged entries are waiting to be sealed, or the database cannot be read.
    behind_since: Mutex<Option<Instant>>,
    /// Last entry that any server has sealed, known to this server with a delay of up to 100 ms.
    pub last_sealed: watch::Sender<AuditId>,
    /// Position before which everything is sealed. Scans start here and skip the dead rows before it.
    sealed_up_to: Mutex<StagedPosition>,
}

impl Default for SealerMetrics {
    fn default() -> Self {
        Self {
            sealed: AtomicU64::new(0),
            staged: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            behind_since: Mutex::default(),
            last_sealed: watch::Sender::new(AuditId::FIRST),
            sealed_up_to: Mutex::default(),
        }
    }
}

impl SealerMetrics {
    /// Duration for which staged entries have been waiting to be sealed.
    pub fn lag(&self) -> Duration {
        self.behind_since.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Position before which everything is sealed.
    pub(crate) fn sealed_up_to(&self) -> StagedPosition {
        *self.sealed_up_to.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that everything before `position` is sealed.
    pub(super) fn set_sealed_up_to(&self, position: StagedPosition) {
        *self.sealed_up_to.lock().unwrap_or_else(PoisonError::into_inner) = position;
    }

    /// Records a look at the staged entries after [`SealerMetrics::sealed_up_to`]: none was found by a snapshot whose
    /// oldest running transaction was `low_water`.
    pub(crate) fn record_idle(&self, low_water: StagedPosition) {
        self.set_staged(Some(0));
        self.set_sealed_up_to(low_water);
    }

    /// Records the number of staged entries, or `None` if the database cannot be read.
    pub(super) fn set_staged(&self, staged: Option<u64>) {
        let mut since = self.behind_since.lock().unwrap_or_else(PoisonError::into_inner);
        match staged {
            Some(0) => *since = None,
            _ => drop(since.get_or_insert_with(Instant::now)),
        }
        if let Some(staged) = staged {
            self.staged.store(staged, Ordering::Relaxed);
        }
    }

    /// Notifies readers of the trail if `last` is newer than the last known entry.
    pub(crate) fn set_last_sealed(&self, last: AuditId) {
        self.last_sealed.send_if_modified(|current| {
            let is_newer = last > *current;
            *current = last.max(*current);
            is_newer
        });
    }
}

impl Collector for SealerMetrics {
    fn collect(&self, out: &mut Exposition) {
        let read = |number: &AtomicU64| number.load(Ordering::Relaxed);
        out.gauge("cloudapi_audit_lag_seconds", "Age of the oldest staged entry that is not sealed.").value(self.lag());
        out.gauge("cloudapi_audit_staged_entries", "Staged entries that are not sealed, counted up to a few thousand.")
            .value(read(&self.staged));
        out.counter("cloudapi_audit_sealed_entries_total", "Entries that this server sealed.")
            .value(read(&self.sealed));
        out.counter("cloudapi_audit_checkpoints_total", "Checkpoints that this server created.")
            .value(read(&self.checkpoints));
    }
}
