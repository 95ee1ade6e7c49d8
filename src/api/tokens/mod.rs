//! Tokens: scoped, expiring credentials for services. A token is issued by a key, another token or a member of the
//! project. It never has more scopes than its issuer, and ends with it.

pub mod event_schemas;
pub mod handlers;
pub mod introspection;
pub mod model;
pub mod repo;
