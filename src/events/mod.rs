//! Events: what happens in a project, as clients may follow it. An event is a sealed entry of the audit trail, seen
//! from outside (CloudEvents 1.0), so events have the order of the trail, and whoever has read up to one has missed
//! none. They are listed, streamed and sent to webhooks; all three write the same bytes.

pub mod changes;
pub mod handlers;
pub mod hub;
pub mod model;
pub mod repo;
pub mod stream;
pub mod tail;
