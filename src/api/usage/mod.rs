//! Usage: number of requests of each project. Requests are counted by the outermost layer in a journal that outlives
//! the process, and flushed to the database once a second ([`counting`], [`ledger`]). There, a month becomes final a
//! day after its end ([`finalize`]). Authenticated requests are counted once each, when the response's head is ready.
//! Not counted are 401, 429, 5xx, OPTIONS, and requests that need no credential.

pub mod breakdown;
pub mod counting;
pub mod event_schemas;
pub mod finalize;
pub mod handlers;
pub mod ledger;
pub mod metrics;
pub mod model;
pub mod quota;
pub mod repo;
