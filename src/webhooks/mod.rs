//! Webhooks: a project's events, sent to its own receivers as they are sealed.
//!
//! The sealer queues a delivery for each event and each webhook that wants it ([`repo::enqueue`]), in its own transaction,
//! so an event that is in the trail is on its way. Every server's [`worker`] takes deliveries that are due, sends them
//! outside of any transaction, and notes what came of it: at least once, signed ([`sign`]), and only ever to addresses
//! that may be sent to ([`vet`], [`send`]).

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
