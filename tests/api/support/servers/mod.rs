//! Servers, in this process and as separate processes, their PostgreSQL, and the search of what they leave behind.

pub mod app;
pub mod binary;
pub mod cluster;
pub mod diverted_connections;
pub mod leak_detector;
pub mod prepared;
pub mod shared;
pub mod slot;
pub mod worker_faults;
