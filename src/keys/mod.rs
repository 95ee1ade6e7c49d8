//! Keys: a project's credentials for its servers and CI. A key belongs to the project and outlives
//! its creator; its secret is shown once; what it issued ends with it.

pub mod handlers;
pub mod model;
pub mod repo;
