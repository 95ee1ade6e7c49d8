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

/// Defines the context of a slice: what its handlers and workers need in addition to the [`Store`], to which the
/// context dereferences.
macro_rules! context {
    ($(#[$doc:meta])* $name:ident { $($(#[$part_doc:meta])* $part:ident: $type:ty,)+ }) => {
        $(#[$doc])*
        #[derive(Debug)]
        pub struct $name {
            /// Database, writes and clock.
            pub store: $crate::tx::Store,
            $($(#[$part_doc])* pub $part: $type,)+
        }

        impl std::ops::Deref for $name {
            type Target = $crate::tx::Store;

            fn deref(&self) -> &Self::Target {
                &self.store
            }
        }
    };
}
pub(crate) use context;

impl Deref for Store {
    type Target = StoreParts;

    fn deref(&self) -> &StoreParts {
        &self.0
    }
}
