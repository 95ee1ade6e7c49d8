//! Drivers of the supported providers.

pub mod aws;
pub mod clean;
pub mod docker;
pub mod sim;
