//! Layers around the router: limits, time limits, framing, headers and CORS.

pub mod concurrency;
pub mod cors;
pub mod edge;
pub mod framing;
pub mod headers;
