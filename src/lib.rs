//! CloudAPI: one interface to a company's projects, credentials, users, usage and cloud resources.
//!
//! One binary, one PostgreSQL. A request comes in like this, and nothing below knows what is above:
//!
//! ```text
//! server (connections, drain) ─ usage::record (request id, journal, one log line, problems)
//!   ─ http::edge (limits, time-outs) ─ auth::gate (secret → Caller) ─ routes (one table)
//!   ─ slice::handlers ─ slice::repo ─ PostgreSQL
//!
//! writes: handler → tx { claim · effect · staged entry · kept answer } → one COMMIT
//! staged entries ─ audit::sealer (ten times a second, one server at a time) → chains, webhooks' deliveries
//! deliveries ─ webhooks::worker (every server, each its share) → receivers
//! operations ─ resources::engine (every server, each its share) → resources::drivers → providers
//! all of these and the other background tasks ─ rows of workers::TABLE, restarted by its supervisor
//! ```
//!
//! Each slice of the product ([`projects`], [`users`], [`sessions`], [`keys`], [`tokens`],
//! [`usage`], [`events`], [`webhooks`], [`resources`]) is a folder with the same files: `model` (types, request and response shapes),
//! `repo` (SQL, as free functions on a connection), `handlers`. [`base`] is the vocabulary they
//! share, [`http`] that of HTTP, [`auth`] and [`tx`] are what every request and every write goes
//! through. [`audit`] is what was done, as evidence, [`metrics`] what the server tells of itself, [`docs`] are the pages
//! for people. A test holds the direction of imports.

pub mod audit;
pub mod auth;
pub mod base;
pub mod cli;
pub mod config;
pub mod db;
pub mod docs;
pub mod events;
pub mod health;
pub mod http;
pub mod keys;
pub mod metrics;
pub mod openapi;
pub mod projects;
pub mod resources;
pub mod routes;
pub mod server;
pub mod sessions;
pub mod state;
pub mod tokens;
pub mod tx;
pub mod usage;
pub mod users;
pub mod webhooks;
pub mod workers;
