//! Drivers of the supported providers.

pub mod aws;
pub mod clean;
pub mod config;
pub mod docker;
pub mod driver;
pub mod registry;
pub mod sim;
