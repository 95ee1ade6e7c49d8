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

use std::sync::Arc;

use crate::{audit::metrics::SealerMetrics, base::runtime::lifecycle::Lifecycle, http::PublicUrl, tx::context};
use cloud::Cloud;

context! {
    /// What the handlers of resources and the workers that run operations need.
    ResourceContext {
        /// Providers, and shared state of the engine.
        cloud: Cloud,
        /// Lifecycle phase of the server.
        lifecycle: Arc<Lifecycle>,
        /// Progress of sealing the audit trail.
        sealing: Arc<SealerMetrics>,
        /// URL where clients reach this server, without a trailing slash.
        public_url: PublicUrl,
    }
}
