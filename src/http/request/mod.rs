//! Reading of requests: extractors for handlers, strict parsers, and preconditions.

pub mod body;
pub mod extract;
pub mod json;
pub mod negotiation;
pub mod precondition;
pub mod query;
pub mod resume;
