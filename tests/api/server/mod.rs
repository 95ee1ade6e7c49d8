//! The server as a process: settings, start, health, faults and shutdown.

mod databases;
mod drain;
mod embedded;
mod faults;
mod health;
mod logs;
mod metrics;
mod process;
mod server_key;
mod settings;
mod workers;
