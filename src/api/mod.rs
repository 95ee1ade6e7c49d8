//! The slices of the API. Each is a folder with the same files: `model` (types, request and response shapes), `repo`
//! (SQL, as free functions on a connection), `handlers`, and `event_schemas` if it has events. Handlers take parts of the application, or the slice's
//! context; no slice imports `server`. Cloud resources are in [`crate::resources`].

pub mod audit_logs;
pub mod events;
pub mod keys;
pub mod overview;
pub mod projects;
pub mod sessions;
pub mod tokens;
pub mod usage;
pub mod users;
pub mod webhooks;
