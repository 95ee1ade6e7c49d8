//! The slices of the API. Each is a folder with the same files: `model` (types, request and response shapes), `repo`
//! (SQL, as free functions on a connection) and `handlers`. Handlers take parts of the application, or the slice's
//! context; no slice imports `server`. Cloud resources are in [`crate::resources`].

pub mod audit_logs;
pub mod events;
pub mod keys;
pub mod projects;
pub mod sessions;
pub mod tokens;
pub mod usage;
pub mod users;
pub mod webhooks;

/// A slice as the API description presents it.
#[derive(Clone, Copy, Debug)]
pub struct Slice {
    /// Name of the module.
    pub module: &'static str,
    /// Tag of its operations.
    pub tag: &'static str,
    /// Description of the tag.
    pub description: &'static str,
}

const fn slice(module: &'static str, tag: &'static str, description: &'static str) -> Slice {
    Slice { module, tag, description }
}

/// All slices.
pub const SLICES: [Slice; 9] = [
    slice("audit_logs", "audit", "Tamper-evident record of who did what and when."),
    slice("events", "events", "Ordered events of a project, as a list or a stream."),
    slice("keys", "keys", "Credentials of a project, for servers and CI."),
    slice("projects", "projects", "Tenants, with keys, tokens and members."),
    slice("sessions", "sessions", "Signing in and out, for dashboards."),
    slice("tokens", "tokens", "Scoped, expiring credentials, for services."),
    slice("usage", "usage", "Counted requests of a project."),
    slice("users", "users", "People, as members of projects."),
    slice("webhooks", "webhooks", "Signed deliveries of a project's events to your URLs."),
];
