//! What all parts of a server that deal with webhooks share.

use tokio::sync::Notify;

use super::{
    figures::Figures,
    pace::Pace,
    send::{Resolver, Sender},
    sign::Seals,
};
use crate::base::{net::Cidr, server_key::ServerKey};

/// What the operator decides about webhooks; and a test about time and names.
#[derive(Clone, Debug, Default)]
pub struct WebhookOptions {
    /// Networks that may be sent to besides the public Internet, over http too.
    pub allowed: Vec<Cidr>,
    /// How names become addresses.
    pub resolver: Resolver,
    /// How fast.
    pub pace: Pace,
}

/// Where deliveries leave from.
#[derive(Debug)]
pub struct Outbox {
    /// Seals secrets for the database.
    pub seals: Seals,
    /// Sends.
    pub sender: Sender,
    /// How fast.
    pub pace: Pace,
    /// How much.
    pub figures: Figures,
    /// Told when something may be due.
    pub wake: Notify,
}

impl Outbox {
    /// That of the deployment whose key is `key`.
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
