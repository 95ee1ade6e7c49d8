//! The providers that there are drivers for.

pub mod docker;
pub mod sim;
