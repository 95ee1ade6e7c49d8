//! What handlers and workers need to read and write.

use std::{ops::Deref, sync::Arc};

use tokio::sync::Notify;

use super::Writes;
use crate::{base::runtime::clock::Clock, db::Pool};

/// The database and the clock. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store(Arc<StoreParts>);

/// Contents of [`Store`].
#[derive(Debug)]
pub struct StoreParts {
    /// Database pool for reads.
    pub db: Pool,
    /// Database access for writes.
    pub writes: Writes,
    /// Clock.
    pub clock: Clock,
    /// Notified when this server has deleted something whose rows the worker `purge` must remove.
    pub purges: Notify,
}

impl Store {
    /// Creates a store.
    pub fn new(db: Pool, writes: Writes, clock: Clock) -> Self {
        Self(Arc::new(StoreParts { db, writes, clock, purges: Notify::new() }))
    }
}

impl Deref for Store {
    type Target = StoreParts;

    fn deref(&self) -> &StoreParts {
        &self.0
    }
}
