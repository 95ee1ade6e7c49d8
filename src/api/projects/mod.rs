//! Projects: tenants that own keys, tokens, members and resources, isolated from each other. The user who creates a
//! project is its owner.

pub mod event_schemas;
pub mod handlers;
pub mod model;
pub mod repo;
