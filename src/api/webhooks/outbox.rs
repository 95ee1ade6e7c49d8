//! State that all webhook code of a server shares.

use tokio::sync::Notify;

use super::{
    delivery::{
        backoff::DeliveryPolicy,
        send::{Resolver, Sender},
        sign::SecretCipher,
    },
    metrics::WebhookMetrics,
};
use crate::base::{input::net::Cidr, server_key::ServerKey};

/// Webhook settings. Tests also set the policy and the resolver.
#[derive(Clone, Debug, Default)]
pub struct WebhookOptions {
    /// Networks that are permitted in addition to the public Internet, over http as well.
    pub allowed: Vec<Cidr>,
    /// Resolver of host names.
    pub resolver: Resolver,
    /// Timing and limits.
    pub policy: DeliveryPolicy,
}

/// Shared state of webhook code.
#[derive(Debug)]
pub struct Outbox {
    /// Seals secrets for the database.
    pub cipher: SecretCipher,
    /// Sends requests to receivers.
    pub sender: Sender,
    /// Timing and limits.
    pub policy: DeliveryPolicy,
    /// Metrics.
    pub metrics: WebhookMetrics,
    /// Notified when a delivery may be due.
    pub wake: Notify,
}

impl Outbox {
    /// Creates the state for the deployment with the server key `key`.
    pub fn new(options: WebhookOptions, key: &ServerKey) -> Self {
        Self {
            cipher: SecretCipher::new(key),
            sender: Sender::new(options.allowed, options.resolver),
            policy: options.policy,
            metrics: WebhookMetrics::default(),
            wake: Notify::new(),
        }
    }
}
