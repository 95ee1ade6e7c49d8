//! What all parts of a server that deal with resources share.

use tokio::sync::Notify;

use super::{
    config::{ProviderSettings, default_providers},
    pace::Pace,
    registry::Registry,
};
use crate::db::Pool;

/// What the operator decides about resources; and a test about time.
#[derive(Clone, Debug)]
pub struct CloudOptions {
    /// The providers that there are.
    pub providers: Vec<ProviderSettings>,
    /// How fast.
    pub pace: Pace,
}

impl Default for CloudOptions {
    fn default() -> Self {
        Self { providers: default_providers(), pace: Pace::default() }
    }
}

/// Where resources are.
#[derive(Debug)]
pub struct Cloud {
    /// The providers.
    pub providers: Registry,
    /// How fast.
    pub pace: Pace,
    /// Told when an operation may be due.
    pub wake: Notify,
}

impl Cloud {
    /// By these options; the simulated providers keep their objects in `db`.
    pub fn new(options: CloudOptions, db: &Pool) -> Self {
        Self { providers: Registry::new(options.providers, db), pace: options.pace, wake: Notify::new() }
    }
}
