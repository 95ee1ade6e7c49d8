//! `/v1/audit-logs`: list, export and checkpoints of the audit trail. The trail itself is in [`crate::audit`].

pub mod csv;
pub mod export;
pub mod handlers;
pub mod stream;

use std::{ops::Deref, sync::Arc};

use tokio::sync::Semaphore;

use crate::{
    audit::{chain::checkpoint::Signer, read_counts::ReadCounts},
    tx::Store,
};

/// What the handlers of the audit trail need.
#[derive(Debug)]
pub struct AuditContext {
    /// Database and clock.
    pub store: Store,
    /// Signs checkpoints for the deployment.
    pub signer: Arc<Signer>,
    /// Reads of the audit trail that are not recorded yet.
    pub reads: ReadCounts,
    /// Permits for exports to read from the database.
    pub export_readers: Arc<Semaphore>,
}

impl Deref for AuditContext {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
