//! How the sealing goes.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::sync::watch;

use crate::base::id::AuditId;

/// How the sealing goes, as this server sees it.
#[derive(Debug)]
pub struct Figures {
    /// How many entries this server has sealed.
    pub sealed: AtomicU64,
    /// How many entries were staged and not sealed when it last looked; it counts no further than a few thousand.
    pub staged: AtomicU64,
    /// How many checkpoints it has made.
    pub checkpoints: AtomicU64,
    /// Since when something has been staged that is not sealed, or cannot be seen to be.
    behind_since: Mutex<Option<Instant>>,
    /// The last entry that any server has sealed, as far as this one knows: within a tenth of a second.
    pub last: watch::Sender<AuditId>,
}

impl Default for Figures {
    fn default() -> Self {
        Self {
            sealed: AtomicU64::new(0),
            staged: AtomicU64::new(0),
            checkpoints: AtomicU64::new(0),
            behind_since: Mutex::default(),
            last: watch::Sender::new(AuditId::FIRST),
        }
    }
}

impl Figures {
    /// For how long something has been staged that is not sealed.
    pub fn lag(&self) -> Duration {
        self.behind_since.lock().unwrap_or_else(PoisonError::into_inner).map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// Notes how many entries are staged; none if the database does not say.
    pub(super) fn look(&self, staged: Option<u64>) {
        let mut since = self.behind_since.lock().unwrap_or_else(PoisonError::into_inner);
        match staged {
            Some(0) => *since = None,
            _ => drop(since.get_or_insert_with(Instant::now)),
        }
        if let Some(staged) = staged {
            self.staged.store(staged, Ordering::Relaxed);
        }
    }

    /// Wakes whoever follows the trail, if `last` is news.
    pub(super) fn reached(&self, last: AuditId) {
        self.last.send_if_modified(|known| {
            let is_news = last > *known;
            *known = last.max(*known);
            is_news
        });
    }
}
