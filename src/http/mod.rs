//! Shared HTTP code: extractors, responses, layers and descriptions of routes. It does not depend on any slice.

pub mod api;
pub mod asset;
pub mod catalogue;
pub mod condition;
pub mod cors;
pub mod describe;
pub mod edge;
pub mod extract;
pub mod framing;
pub mod headers;
pub mod html;
pub mod json;
pub mod load;
pub mod negotiation;
pub mod problem;
mod query;
pub mod reading;
pub mod reply;
pub mod resume;
