//! The resources of the API. Each folder is one of them, with the same files: `model` (types, request and response shapes),
//! `repo` (SQL, as free functions on a connection) and `handlers`. None depends on the server that serves them.

pub mod audit_logs;
pub mod events;
pub mod keys;
pub mod projects;
pub mod sessions;
pub mod tokens;
pub mod usage;
pub mod users;
pub mod webhooks;
