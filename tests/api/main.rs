//! Black-box tests: HTTP requests to the real router, on a real PostgreSQL. One binary, so that it links once and all
//! tests share one PostgreSQL server.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

mod access;
mod architecture;
mod audit;
mod aws;
mod bodies;
mod browsers;
mod concurrency;
mod conditions;
mod conformance;
mod converging;
mod database;
mod databases;
mod deletions;
mod docs;
mod drain;
mod edge;
mod embedded;
mod enumeration;
mod event_stream;
mod events;
mod faults;
mod guides;
mod health;
mod hostile;
mod idempotency;
mod input;
mod introspection;
mod keys;
mod limits;
mod logs;
mod lookup_floods;
mod metrics;
mod openapi;
mod other_server;
mod paths;
mod precedence;
mod process;
mod projects;
mod properties;
mod reference;
mod resources;
mod revocation;
mod sealing;
mod secrets;
mod server_key;
mod sessions;
mod settings;
mod sign_in;
mod slow;
mod stalls;
mod support;
mod tls;
mod tokens;
mod traces;
mod trail;
mod usage;
mod users;
mod webhooks;
mod workers;
