//! Rules that hold for every route, most of them generated from the route table.

pub mod access;
mod bodies;
mod conditions;
mod deletions;
mod hostile;
mod idempotency;
mod paths;
mod precedence;
