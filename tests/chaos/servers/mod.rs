//! Servers, their clocks, and their PostgreSQL with its standby.

pub mod clocks;
pub mod cluster;
pub mod node;
#[path = "../../api/support/servers/prepared.rs"]
pub mod prepared;
#[path = "../../api/support/servers/slot.rs"]
pub mod slot;
pub mod standby;
