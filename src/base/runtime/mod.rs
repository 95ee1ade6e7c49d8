//! Time, and what happens while the server runs: requests, their traces, workers' heartbeats.

pub mod clock;
pub mod heartbeat;
pub mod lifecycle;
pub mod period;
pub mod request;
pub mod trace;
