//! Summary of a project, composed of those of the other slices.

pub mod handlers;
pub mod model;
