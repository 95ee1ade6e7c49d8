//! What all parts of a server that deal with resources share.

use tokio::sync::Notify;

use super::{
    config::{ProviderSettings, default_providers},
    figures::Figures,
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
    /// How much.
    pub figures: Figures,
    /// Told when an operation may be due.
    pub wake: Notify,
}

impl Cloud {
    /// By these options; the simulated providers keep their objects in `db`.
    pub fn new(options: CloudOptions, db: &Pool) -> Self {
        let providers = Registry::new(options.providers, db);
        let figures = Figures::new(providers.iter().map(|provider| provider.name.as_str()));
        Self { providers, pace: options.pace, figures, wake: Notify::new() }
    }
}
