//! Webhooks: a project's events, sent to its receivers when they are sealed.
//!
//! The sealer queues a delivery for each event and each webhook that selects it ([`repo::enqueue`]), in the transaction
//! that makes the event visible. The [`worker`] of every server claims due deliveries, sends them outside of any
//! transaction, and records the result. Deliveries are sent at least once, signed ([`sign`]), and only to permitted
//! addresses ([`vet`], [`send`]).

pub mod connect;
pub mod fault;
pub mod figures;
pub mod handlers;
pub mod model;
pub mod outbox;
pub mod pace;
pub mod queue;
pub mod repo;
mod retry_after;
pub mod send;
pub mod sign;
pub mod vet;
pub mod worker;
