//! Events of a project. An event is a sealed entry of the audit trail in the format that clients see (CloudEvents 1.0).
//! Events therefore have the order of the trail, and a reader that has read up to an event has missed none. Events are
//! listed, streamed and sent to webhooks; all three write the same bytes.

pub mod changes;
pub mod handlers;
pub mod hub;
pub mod model;
pub mod repo;
pub mod stream;
pub mod tail;
