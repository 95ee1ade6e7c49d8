//! Rules for the source code that the compiler cannot check.

pub mod architecture;
mod concurrency;
