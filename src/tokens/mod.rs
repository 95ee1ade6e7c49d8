//! Tokens: scoped, expiring credentials for services. A token rests on its issuer, a key, another
//! token or a user's membership: it never holds more than that does, and ends with it.

pub mod handlers;
pub mod introspection;
pub mod model;
pub mod repo;
