//! Keys: credentials of a project for its servers and CI. A key belongs to the project, so it remains when its creator
//! leaves. Its secret is shown once. Revoking a key also revokes the tokens issued under it.

pub mod event_schemas;
pub mod handlers;
pub mod model;
pub mod overview;
pub mod repo;
