//! The providers that there are drivers for.

pub mod aws;
pub mod sim;
