//! The secrets that sign what is sent, as Standard Webhooks has it, and how they are kept.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{
    ChaCha20Poly1305, Key, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use hmac::{Hmac, Mac};
use rand::RngExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use sha2::Sha256;

use crate::base::{id::WebhookId, server_key::ServerKey};

const PREFIX: &str = "whsec_";
const NONCE_BYTES: usize = 12;

/// What signs one webhook's deliveries, and what its receiver verifies them with. Shown to who makes it, once.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret([u8; 32]);

impl WebhookSecret {
    /// A new one.
    pub fn generate() -> Self {
        Self(rand::rng().random())
    }

    /// As its owner is given it.
    fn to_text(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(self.0))
    }

    /// One entry of `webhook-signature`: HMAC-SHA256 of the id, the time and the body.
    fn signature(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // HMAC takes a key of any length (RFC 2104).
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }
}

/// The value of `webhook-signature`: one for each secret that is live, so that a receiver may have either.
pub fn signatures(secrets: &[WebhookSecret], id: &str, timestamp: i64, body: &[u8]) -> String {
    secrets.iter().map(|secret| secret.signature(id, timestamp, body)).collect::<Vec<_>>().join(" ")
}

impl fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}[redacted]")
    }
}

impl Serialize for WebhookSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.to_text())
    }
}

impl JsonSchema for WebhookSecret {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "WebhookSecret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^whsec_[0-9A-Za-z+/]{43}=$" })
    }
}

/// Seals webhooks' secrets for the database, under the server key: a dump alone signs nothing.
pub struct Seals(ChaCha20Poly1305);

impl fmt::Debug for Seals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seals(..)")
    }
}

impl Seals {
    /// Those of the deployment whose key is `key`.
    pub fn new(key: &ServerKey) -> Self {
        Self(ChaCha20Poly1305::new(&Key::from(key.derive("cloudapi webhook secrets v1"))))
    }

    /// `secret`, sealed for `webhook` alone: moved to another's row it does not open.
    pub fn seal(&self, webhook: WebhookId, secret: &WebhookSecret) -> Option<Vec<u8>> {
        // Random, because all secrets are sealed under one key; 96 bits are enough for billions of them.
        let nonce: [u8; NONCE_BYTES] = rand::rng().random();
        let payload = Payload { msg: &secret.0, aad: &webhook.as_u128().to_be_bytes() };
        let sealed = self.0.encrypt(&Nonce::from(nonce), payload).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// What was sealed; none if it was under another key, or for another webhook.
    pub fn open(&self, webhook: WebhookId, sealed: &[u8]) -> Option<WebhookSecret> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let payload = Payload { msg: sealed, aad: &webhook.as_u128().to_be_bytes() };
        self.0.decrypt(&Nonce::from(*nonce), payload).ok()?.try_into().ok().map(WebhookSecret)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_for_its_webhook_under_its_key_alone() {
        let (key, webhook, secret) = (ServerKey::generate(), WebhookId::new(), WebhookSecret::generate());
        let sealed = Seals::new(&key).seal(webhook, &secret).unwrap();
        assert_eq!(Seals::new(&key).open(webhook, &sealed), Some(secret.clone()));
        assert_eq!(Seals::new(&key).open(WebhookId::new(), &sealed), None);
        assert_eq!(Seals::new(&ServerKey::generate()).open(webhook, &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(Seals::new(&key).open(webhook, &changed), None, "{at}");
        }
        assert_eq!(Seals::new(&key).open(webhook, &sealed[..5]), None);
        assert_ne!(Seals::new(&key).seal(webhook, &secret), Some(sealed.clone()));
        assert!(!sealed.windows(8).any(|part| secret.0.windows(8).any(|own| own == part)));
    }

    #[test]
    fn a_signature_is_what_the_specification_gives_as_its_example() {
        let key = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        // The example's key is shorter than ours are; HMAC fills up with zeros (RFC 2104).
        let mut filled = [0; 32];
        filled[..key.len()].copy_from_slice(&key);
        let secrets = [WebhookSecret(filled)];
        let signature = signatures(&secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{:?}", secrets[0]), "whsec_[redacted]");
    }
}
