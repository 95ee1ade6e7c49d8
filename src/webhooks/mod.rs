//! Webhooks: a project's events, sent to its receivers when they are sealed.
//!
//! The sealer queues a delivery for each event and each webhook that selects it ([`repo::enqueue`]), in the transaction
//! that makes the event visible. The [`worker`] of every server claims due deliveries, sends them outside of any
//! transaction, and records the result. Deliveries are sent at least once, signed ([`sign`]), and only to permitted
//! addresses ([`url_policy`], [`send`]).

pub mod backoff;
pub mod connect;
pub mod delivery_error;
pub mod handlers;
pub mod metrics;
pub mod model;
pub mod outbox;
pub mod queue;
pub mod repo;
mod retry_after;
pub mod send;
pub mod sign;
pub mod url_policy;
pub mod worker;
