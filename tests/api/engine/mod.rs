//! The resource engine, and the AWS driver.

pub mod aws;
mod converging;
mod stalls;
