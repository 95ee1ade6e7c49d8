//! CloudAPI: one API for a company's projects, credentials, users, usage and cloud resources.
//!
//! One binary, one PostgreSQL. A request passes through these layers, and no layer depends on one above it:
//!
//! ```text
//! server (connections, drain) ─ usage::record (request ID, journal, one log line, problems)
//!   ─ http::edge (limits, timeouts) ─ auth::gate (secret → Caller) ─ routes (one table)
//!   ─ slice::handlers ─ slice::repo ─ PostgreSQL
//!
//! writes: handler → tx { claim · effect · staged entry · stored response } → one COMMIT
//! staged entries ─ audit::sealer (ten times a second, one server at a time) → chains, webhook deliveries
//! deliveries ─ webhooks::worker (every server takes a share) → receivers
//! operations ─ resources::engine (every server takes a share) → resources::drivers → providers
//! all of these and the other background tasks ─ rows of workers::TABLE, restarted by its supervisor
//! ```
//!
//! Each slice of the product ([`projects`], [`users`], [`sessions`], [`keys`], [`tokens`], [`usage`], [`events`],
//! [`webhooks`], [`resources`]) is a folder with the same files: `model` (types, request and response shapes), `repo`
//! (SQL, as free functions on a connection) and `handlers`. [`base`] has the shared types, and [`http`] the shared HTTP
//! code. Every request passes through [`auth`], and every write through [`tx`]. [`audit`] is the audit trail,
//! [`metrics`] the server's metrics, and [`docs`] the HTML pages. A test enforces the direction of imports.

// Futures of handlers, layers and database calls are nested. An optimized build computes the layout of all of them at once,
// which exceeds the default limit of 128.
#![recursion_limit = "256"]

pub mod api;
pub mod audit;
pub mod auth;
pub mod base;
pub mod cli;
pub mod config;
pub mod db;
pub mod docs;
pub mod http;
pub mod metrics;
pub mod resources;
pub mod server;
pub mod tx;
pub mod workers;
