//! Returns free memory to the operating system while the server is idle.
//!
//! mimalloc has no thread of its own. A page of memory belongs to the thread that allocated it, and is returned when that
//! thread allocates again or ends. An idle worker thread does neither, so after a burst, for example of event streams,
//! the process would keep most of its memory.

use std::{
    cell::Cell,
    time::{Duration, Instant},
};

/// Returns the calling thread's free memory to the operating system.
pub type ReleaseMemory = fn();

/// Minimum time between releases by one thread. A release visits all pages of the thread, and the next requests fault
/// the released memory in again.
const INTERVAL: Duration = Duration::from_secs(1);

/// Called by each worker thread before it sleeps, which can be thousands of times a second.
pub fn release_when_due(release: ReleaseMemory) {
    thread_local! {
        static LAST: Cell<Option<Instant>> = const { Cell::new(None) };
    }
    let now = Instant::now();
    if LAST.get().is_none_or(|last| now.duration_since(last) >= INTERVAL) {
        release();
        LAST.set(Some(now));
    }
}
