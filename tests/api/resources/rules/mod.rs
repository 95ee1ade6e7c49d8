//! Rules that requests are checked against: references, scopes, quotas and the capabilities of providers.

mod providers;
mod quota;
mod references;
mod scopes;

use super::{RESOURCES, conflict, faults, instance, made, network, path, pipeline, start, volume};
