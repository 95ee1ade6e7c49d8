//! Supervision of background workers: restarts one that panics, ends early or makes no progress, and reports its
//! status. The table of the workers is `server::workers`.

pub mod status;
pub mod supervisor;
