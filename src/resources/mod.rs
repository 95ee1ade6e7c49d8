//! Cloud resources: one API for every kind, on every provider.
//!
//! A client states the desired state ([`kinds::spec`]) and immediately receives an operation. Workers on every server
//! bring the provider to that state, step by step. A worker may die at any moment: each step is stored before it runs,
//! and objects that a dead worker created are found by their tags.
//!
//! Invariants: a resource has at most one operation in progress, and once that operation has ended, at most one object
//! at its provider.

pub mod api;
pub mod cloud;
pub mod drivers;
pub mod engine;
pub mod kinds;
pub mod metrics;
pub mod reconcile;
pub mod store;

use std::{ops::Deref, sync::Arc};

use crate::{audit::metrics::SealerMetrics, base::runtime::lifecycle::Lifecycle, http::PublicUrl, tx::Store};
use cloud::Cloud;

/// What the handlers of resources and the workers that run operations need.
#[derive(Debug)]
pub struct ResourceContext {
    /// Database and clock.
    pub store: Store,
    /// Providers, and shared state of the engine.
    pub cloud: Cloud,
    /// Lifecycle phase of the server.
    pub lifecycle: Arc<Lifecycle>,
    /// Progress of sealing the audit trail.
    pub sealing: Arc<SealerMetrics>,
    /// URL where clients reach this server, without a trailing slash.
    pub public_url: PublicUrl,
}

impl Deref for ResourceContext {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}
