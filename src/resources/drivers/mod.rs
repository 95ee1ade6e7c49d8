//! The providers that there are drivers for.

pub mod aws;
pub mod clean;
pub mod docker;
pub mod sim;
