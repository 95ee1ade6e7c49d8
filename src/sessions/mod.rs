//! Sessions: what signing in gives to a person's dashboard backend. A session sees every project of
//! its user, with the scopes of the user's role in each.

pub mod handlers;
pub mod model;
pub mod repo;
