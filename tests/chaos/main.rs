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

mod harness;
mod invariants;
mod proxy;
mod runs;
mod servers;
