//! The providers that there are drivers for.

pub mod aws;
pub mod docker;
pub mod sim;
