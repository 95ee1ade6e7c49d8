//! Who calls, and what a caller may do: credentials, scopes, roles and projects.

pub mod access_policy;
pub mod actor;
pub mod caller;
pub mod credential;
pub mod role;
pub mod scope;
pub mod secret;
pub mod subject;
pub mod tenant;
