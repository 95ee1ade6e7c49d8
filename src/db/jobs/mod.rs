//! Durable queues. A queue is a table whose rows are due at a time. Every server claims due rows with a lease (`SKIP
//! LOCKED`), runs a task for each, and stores the result. If the server dies, another one claims the row after the lease has
//! expired, so a job can run twice: its result must be fenced, or its effect idempotent.
//!
//! [`run`] is the worker's loop, [`hold_lease`] renews a lease beside the work, and [`Backoff`] is the pause after a failure.
//! The SQL of each queue is in the module that owns the table.

mod backoff;
mod runner;

pub use backoff::Backoff;
pub use runner::{JobQueue, hold_lease, run};
