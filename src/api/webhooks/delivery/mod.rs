//! Sending of deliveries: the queue, the worker, the HTTP client with its address policy, and signatures.

pub mod backoff;
pub mod connect;
pub mod error;
pub mod queue;
pub mod retry_after;
pub mod send;
pub mod sign;
pub mod url_policy;
pub mod worker;
