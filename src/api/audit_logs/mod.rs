//! `/v1/audit-logs`: list, export and checkpoints of the audit trail. The trail itself is in [`crate::audit`].

pub mod csv;
pub mod event_schemas;
pub mod export;
pub mod handlers;
pub mod stream;

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::{
    audit::{chain::checkpoint::Signer, read_counts::ReadCounts},
    tx::context,
};

context! {
    /// What the handlers of the audit trail need.
    AuditContext {
        /// Signs checkpoints for the deployment.
        signer: Arc<Signer>,
        /// Reads of the audit trail that are not recorded yet.
        reads: ReadCounts,
        /// Permits for exports to read from the database.
        export_readers: Arc<Semaphore>,
    }
}
