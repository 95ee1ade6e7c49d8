//! Black-box tests: HTTP requests to the real router, on a real PostgreSQL. One binary, so that it links once and all
//! tests share one PostgreSQL server.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod accounts;
mod audit;
mod conformance;
mod console;
mod contract;
mod credentials;
mod database;
mod engine;
mod events;
mod http;
mod input;
mod resources;
mod routes;
mod server;
mod source;
mod support;
mod usage;
mod webhooks;
