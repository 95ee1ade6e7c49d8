//! Webhooks: a project's events, sent to its receivers when they are sealed.
//!
//! The sealer queues a delivery for each event and each webhook that selects it ([`repo::enqueue`]), in the transaction
//! that makes the event visible. The worker of every server ([`delivery::worker`]) claims due deliveries, sends them
//! outside of any transaction, and records the result. Deliveries are sent at least once, signed ([`delivery::sign`]),
//! and only to permitted addresses ([`delivery::url_policy`], [`delivery::send`]).

pub mod delivery;
pub mod event_schemas;
pub mod handlers;
pub mod metrics;
pub mod model;
pub mod outbox;
pub mod repo;

use std::sync::Arc;

use crate::{audit::metrics::SealerMetrics, base::runtime::lifecycle::Lifecycle, http::PublicUrl, tx::context};
use outbox::Outbox;

context! {
    /// What the handlers of webhooks and the worker that sends deliveries need.
    WebhookContext {
        /// Sends deliveries.
        outbox: Outbox,
        /// Lifecycle phase of the server.
        lifecycle: Arc<Lifecycle>,
        /// Progress of sealing the audit trail.
        sealing: Arc<SealerMetrics>,
        /// URL where clients reach this server, without a trailing slash.
        public_url: PublicUrl,
    }
}
