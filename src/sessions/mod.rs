//! Sessions: created by a sign-in, for the backend of a dashboard. A session has access to every project of its user, with
//! the scopes of the user's role in each.

pub mod handlers;
pub mod model;
pub mod repo;
