//! Shared types. They do not depend on HTTP, SQL statements or slices.

pub mod action;
pub mod error;
pub mod etag;
pub mod hex;
pub mod id;
pub mod idempotency;
pub mod identity;
pub mod input;
mod names;
pub mod runtime;
pub mod server_key;
pub mod target;
