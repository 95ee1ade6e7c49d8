//! Chaos: real server processes on one PostgreSQL, which are killed, stopped and cut off while clients
//! work; then what they were answered is held against what the database has. CONTRIBUTING.md says how to
//! run it for longer, and how to add an invariant.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and its figures are printed"
)]

mod client;
mod clocks;
mod cloud;
mod failover;
mod faults;
mod http;
mod invariants;
mod kill_points;
#[allow(dead_code, reason = "the tests of the driver use more of it")]
#[path = "../api/support/moto.rs"]
mod moto;
mod node;
mod proxy;
mod random;
mod receiver;
mod revocation;
mod run;
#[path = "../api/support/slot.rs"]
mod slot;
mod stalls;
#[path = "../api/support/standby.rs"]
mod standby;
mod storm;
mod stream;
mod usage;
mod world;
