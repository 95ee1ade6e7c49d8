//! Drivers of the supported providers, which implement [`driver::Driver`] (docs/drivers.md). [`config`] parses the file
//! of providers, and [`registry`] holds the configured ones.

pub mod aws;
pub mod clean;
pub mod config;
pub mod docker;
pub mod driver;
pub mod registry;
pub mod sim;
