//! Secrets that sign deliveries (Standard Webhooks), and their encryption at rest.

use std::{borrow::Cow, fmt};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use chacha20poly1305::{
    ChaCha20Poly1305, Key, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use hmac::{Hmac, Mac};
use rand::RngExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Sha256;

use crate::base::{id::WebhookId, server_key::ServerKey};

const PREFIX: &str = "whsec_";
const NONCE_BYTES: usize = 12;

/// Secret that signs a webhook's deliveries and with which the receiver verifies them. Shown once, when it is created.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookSecret([u8; 32]);

impl WebhookSecret {
    /// Generates a random secret.
    pub fn generate() -> Self {
        Self(rand::rng().random())
    }

    /// Text form that the owner gets.
    pub fn to_text(&self) -> String {
        format!("{PREFIX}{}", BASE64.encode(self.0))
    }

    /// One signature in `webhook-signature`: HMAC-SHA256 of ID, timestamp and body.
    fn signature(&self, id: &str, timestamp: i64, body: &[u8]) -> String {
        // Cannot fail: HMAC accepts keys of any length (RFC 2104).
        let Ok(mut mac) = <Hmac<Sha256> as KeyInit>::new_from_slice(&self.0) else { return String::new() };
        mac.update(format!("{id}.{timestamp}.").as_bytes());
        mac.update(body);
        format!("v1,{}", BASE64.encode(mac.finalize().into_bytes()))
    }
}

/// Value of `webhook-signature`: one signature per valid secret, so that the receiver can use either secret.
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

impl<'de> Deserialize<'de> for WebhookSecret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        let bytes = text.strip_prefix(PREFIX).and_then(|encoded| BASE64.decode(encoded).ok());
        let bytes = bytes.and_then(|bytes| bytes.try_into().ok());
        bytes.map(Self).ok_or_else(|| de::Error::custom("not the secret of a webhook"))
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

/// Seals webhook secrets for the database with the server key, so that a copy of the database cannot forge signatures.
pub struct SecretCipher(ChaCha20Poly1305);

impl fmt::Debug for SecretCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretCipher(..)")
    }
}

impl SecretCipher {
    /// Derives the sealing key from the server key.
    pub fn new(key: &ServerKey) -> Self {
        Self(ChaCha20Poly1305::new(&Key::from(key.derive("cloudapi webhook secrets v1"))))
    }

    /// Seals `secret` for `webhook`. A sealed secret that is moved to the row of another webhook cannot be opened.
    pub fn seal(&self, webhook: WebhookId, secret: &WebhookSecret) -> Option<Vec<u8>> {
        // Random nonces, because all secrets are sealed with one key. 96 bits suffice for billions of secrets.
        let nonce: [u8; NONCE_BYTES] = rand::rng().random();
        let payload = Payload { msg: &secret.0, aad: &webhook.as_u128().to_be_bytes() };
        let sealed = self.0.encrypt(&Nonce::from(nonce), payload).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// Opens a sealed secret. Returns `None` if it was sealed with another key or for another webhook.
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
    fn sealed_secret_opens_only_for_its_webhook_and_with_its_key() {
        let (key, webhook, secret) = (ServerKey::generate(), WebhookId::new(), WebhookSecret::generate());
        let sealed = SecretCipher::new(&key).seal(webhook, &secret).unwrap();
        assert_eq!(SecretCipher::new(&key).open(webhook, &sealed), Some(secret.clone()));
        assert_eq!(SecretCipher::new(&key).open(WebhookId::new(), &sealed), None);
        assert_eq!(SecretCipher::new(&ServerKey::generate()).open(webhook, &sealed), None);
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert_eq!(SecretCipher::new(&key).open(webhook, &changed), None, "{at}");
        }
        assert_eq!(SecretCipher::new(&key).open(webhook, &sealed[..5]), None);
        assert_ne!(SecretCipher::new(&key).seal(webhook, &secret), Some(sealed.clone()));
        assert!(!sealed.windows(8).any(|part| secret.0.windows(8).any(|own| own == part)));
    }

    #[test]
    fn signature_matches_the_example_of_the_specification() {
        let key = BASE64.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        // The example's key is shorter than this server's keys; HMAC pads with zeros (RFC 2104).
        let mut filled = [0; 32];
        filled[..key.len()].copy_from_slice(&key);
        let secrets = [WebhookSecret(filled)];
        let signature = signatures(&secrets, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(format!("{:?}", secrets[0]), "whsec_[redacted]");
    }
}
