//! Chaos tests: real server processes on one PostgreSQL are killed, stopped and disconnected while clients work. At the
//! end, the responses that clients received are compared with the database. CONTRIBUTING.md describes longer runs, and
//! how to add an invariant.

#![allow(
    clippy::cast_possible_truncation,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test fails by panicking, and prints its measurements"
)]

mod client;
mod clocks;
mod cloud;
mod cluster;
mod failover;
mod faults;
mod http;
mod invariants;
mod kill_points;
#[allow(dead_code, reason = "the driver's tests use more of it")]
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
