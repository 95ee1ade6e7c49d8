//! State that all webhook code of a server shares.

use tokio::sync::Notify;

use super::{
    figures::Figures,
    pace::Pace,
    send::{Resolver, Sender},
    sign::Seals,
};
use crate::base::{net::Cidr, server_key::ServerKey};

/// Webhook settings. Tests also set the pace and the resolver.
#[derive(Clone, Debug, Default)]
pub struct WebhookOptions {
    /// Networks that are permitted in addition to the public Internet, over http as well.
    pub allowed: Vec<Cidr>,
    /// Resolver of host names.
    pub resolver: Resolver,
    /// Timing and limits.
    pub pace: Pace,
}

/// Shared state of webhook code.
#[derive(Debug)]
pub struct Outbox {
    /// Seals secrets for the database.
    pub seals: Seals,
    /// Sends requests to receivers.
    pub sender: Sender,
    /// Timing and limits.
    pub pace: Pace,
    /// Metrics.
    pub figures: Figures,
    /// Notified when a delivery may be due.
    pub wake: Notify,
}

impl Outbox {
    /// Creates the state for the deployment with the server key `key`.
    pub fn new(options: WebhookOptions, key: &ServerKey) -> Self {
        Self {
            seals: Seals::new(key),
            sender: Sender::new(options.allowed, options.resolver),
            pace: options.pace,
            figures: Figures::default(),
            wake: Notify::new(),
        }
    }
}
