//! Shared HTTP code: extractors, responses, layers and descriptions of routes. It does not depend on any slice.

pub mod api;
pub mod asset;
pub mod body;
pub mod catalog;
pub mod concurrency;
pub mod cors;
pub mod describe;
pub mod edge;
pub mod extract;
pub mod framing;
pub mod headers;
pub mod html;
pub mod json;
pub mod negotiation;
pub mod precondition;
pub mod problem;
mod query;
pub mod response;
pub mod resume;
