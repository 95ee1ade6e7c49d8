//! Requests that change resources, and what follows from them: operations and events.

mod changes;
mod create;
mod delete;
mod dry_run;
mod events;
mod import;
mod operations;
mod remediate;

use super::{RESOURCES, conflict, faults, instance, made, make, network, path, pipeline, start, volume};
