//! What a client means by sending a write: its `Idempotency-Key`, and what the request asks for.

use std::fmt;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::target::{canonical_path, canonical_query};

/// A client's name for one write, by which a second sending of it is recognised.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The longest key, in characters.
const MAX_KEY: usize = 255;

impl IdempotencyKey {
    /// Reads the header's value: visible ASCII, bare or in quotes (a structured field's string, RFC 8941
    /// §3.3.3); `"k"` and `k` are one key.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let inner = match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\']))?,
            None => text,
        };
        let fits = (1..=MAX_KEY).contains(&inner.len()) && inner.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(inner.to_owned()))
    }

    /// What is stored in its place.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// The key itself.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(..)")
    }
}

/// A write that carries a key.
#[derive(Clone, Debug)]
pub struct Intent {
    /// The key.
    pub key: IdempotencyKey,
    head: Sha256,
}

impl Intent {
    /// The write that `method`, `path` and `query` begin to tell of.
    pub fn new(key: IdempotencyKey, method: &str, path: &str, query: &str) -> Self {
        let mut head = Sha256::new();
        for part in [method, &canonical_path(path), &canonical_query(query)] {
            head.update((part.len() as u64).to_be_bytes());
            head.update(part);
        }
        Self { key, head }
    }

    /// What is asked for, in 32 bytes: the same for two requests exactly when they mean the same. Member
    /// order, white space and spelling of numbers mean nothing, and null is what is left out.
    pub fn fingerprint(&self, body: Option<&Value>) -> [u8; 32] {
        let mut fingerprint = self.head.clone();
        if let Some(body) = body {
            // serde_json keeps members sorted, and strict parsing has settled the numbers.
            fingerprint.update(body.to_string());
        }
        fingerprint.finalize().into()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_is_1_to_255_visible_characters_bare_or_quoted() {
        assert_eq!(IdempotencyKey::parse("\"k\""), IdempotencyKey::parse(" k "));
        let (longest, longer) = ("k".repeat(255), "k".repeat(256));
        for text in ["k", "a-B_7:/?", longest.as_str(), "it's"] {
            assert!(IdempotencyKey::parse(text).is_some(), "{text}");
        }
        for text in ["", "\"\"", "\"", "a b", "é", "\"a\"b\"", "\"a\\\"", longer.as_str(), "\u{7f}"] {
            assert!(IdempotencyKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn two_requests_that_mean_the_same_have_one_fingerprint() {
        let intent = |path: &str, query: &str| Intent::new(IdempotencyKey::parse("k").unwrap(), "POST", path, query);
        let of = |body: Value| intent("/v1/keys", "").fingerprint(Some(&body));
        assert_eq!(of(json!({ "a": 1, "b": { "c": 2, "d": 3 } })), of(json!({ "b": { "d": 3, "c": 2 }, "a": 1 })));
        assert_ne!(of(json!({ "a": 1 })), of(json!({ "a": "1" })));
        assert_ne!(of(json!({})), intent("/v1/keys", "").fingerprint(None));
        assert_ne!(of(json!({})), intent("/v1/key", "s").fingerprint(Some(&json!({}))));
        assert_ne!(of(json!({})), intent("/v1/keys", "x=1").fingerprint(Some(&json!({}))));
        let with = |path: &str, query: &str| intent(path, query).fingerprint(Some(&json!({})));
        assert_eq!(with("/v1/keys/key_1", "x=a_b"), with("/v1/keys/key%5f1", "%78=a%5Fb"));
    }
}
