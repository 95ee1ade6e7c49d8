//! What handlers and workers need to read and write.

use std::{ops::Deref, sync::Arc};

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
}

impl Store {
    /// Creates a store.
    pub fn new(db: Pool, writes: Writes, clock: Clock) -> Self {
        Self(Arc::new(StoreParts { db, writes, clock }))
    }
}

impl Deref for Store {
    type Target = StoreParts;

    fn deref(&self) -> &StoreParts {
        &self.0
    }
}
