//! The runs: which faults happen, and which invariants are checked at the end.

mod cloud;
mod failover;
mod kill_points;
mod revocation;
mod stalls;
mod storm;
mod usage;
