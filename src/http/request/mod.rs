//! Parsing of requests: extractors for handlers ([`extract`]), strict parsers of body and query, preconditions, content
//! negotiation, and `Last-Event-ID`.

pub mod body;
pub mod extract;
pub mod json;
pub mod negotiation;
pub mod precondition;
pub mod query;
pub mod resume;
