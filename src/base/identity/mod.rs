//! Callers and their permissions: secrets and credentials, roles, scopes, the access policy of a route, and the
//! [`tenant`] that a caller is admitted to.

pub mod access_policy;
pub mod actor;
pub mod caller;
pub mod credential;
pub mod role;
pub mod scope;
pub mod secret;
pub mod subject;
pub mod tenant;
