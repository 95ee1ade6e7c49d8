//! Events of a project. An event is a sealed entry of the audit trail in the format that clients see (CloudEvents 1.0).
//! Events therefore have the order of the trail, and a reader that has read up to an event has missed none. Events are
//! listed, streamed and sent to webhooks; all three write the same bytes.

pub mod handlers;
pub mod hub;
pub mod model;
pub mod repo;
pub mod stream;
pub mod tail;

use std::sync::Arc;

use crate::{
    audit::metrics::SealerMetrics,
    auth::{bearer::Authenticator, revocation::node::Node},
    http::PublicUrl,
    tx::context,
};
use hub::Hub;

context! {
    /// What the handlers of events and the tail of the trail need.
    EventContext {
        /// This server among the servers on the same database.
        node: Arc<Node>,
        /// Checks while a stream lasts whether its credential is valid.
        authenticator: Authenticator,
        /// Distributes events to event streams.
        hub: Arc<Hub>,
        /// Progress of sealing the audit trail.
        sealing: Arc<SealerMetrics>,
        /// URL where clients reach this server, without a trailing slash.
        public_url: PublicUrl,
    }
}
