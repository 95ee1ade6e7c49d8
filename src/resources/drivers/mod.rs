//! The providers that there are drivers for.

pub mod sim;
