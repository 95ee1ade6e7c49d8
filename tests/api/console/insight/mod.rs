//! Usage, audit log, settings and the ways to get around.

mod audit;
mod settings;
mod usage;
mod ways;
