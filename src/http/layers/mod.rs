//! Layers around the router: limits on size, time and concurrency ([`edge`], [`concurrency`]), framing, security
//! headers, and CORS.

pub mod concurrency;
pub mod cors;
pub mod edge;
pub mod framing;
pub mod headers;
