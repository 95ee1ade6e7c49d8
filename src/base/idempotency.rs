//! Identity of a write for idempotency: its `Idempotency-Key`, and the fingerprint of the request.

use std::{fmt, sync::OnceLock};

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::target::{CanonicalQuery, canonical_path};

/// Value of `Idempotency-Key`: a client's name for one write, which identifies a retry.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// Maximum length of a key, in characters.
const MAX_KEY: usize = 255;

impl IdempotencyKey {
    /// Parses the header value: visible ASCII, bare or in quotes (a string of a structured field, RFC 8941 §3.3.3).
    /// `"k"` and `k` are the same key.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let inner = match text.strip_prefix('"') {
            Some(rest) => rest.strip_suffix('"').filter(|inner| !inner.contains(['"', '\\']))?,
            None => text,
        };
        let fits = (1..=MAX_KEY).contains(&inner.len()) && inner.bytes().all(|byte| byte.is_ascii_graphic());
        fits.then(|| Self(inner.to_owned()))
    }

    /// Hash of the key, which is stored instead of it.
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }

    /// Bytes of the key.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(..)")
    }
}

/// Write with an `Idempotency-Key`.
#[derive(Clone, Debug)]
pub struct IdempotentRequest {
    /// Idempotency key.
    pub key: IdempotencyKey,
    method_and_path: Sha256,
    query: OnceLock<String>,
}

impl IdempotentRequest {
    /// Creates the identity of a write. The query string is added by [`IdempotentRequest::set_query`] if the route has
    /// one, and the body by [`IdempotentRequest::fingerprint`].
    pub fn new(key: IdempotencyKey, method: &str, path: &str) -> Self {
        let mut method_and_path = Sha256::new();
        update(&mut method_and_path, method);
        update(&mut method_and_path, &canonical_path(path));
        Self { key, method_and_path, query: OnceLock::new() }
    }

    /// Sets the query string. It is set once, also if the request is executed again.
    pub fn set_query(&self, query: CanonicalQuery) {
        self.query.get_or_init(|| query.into_text());
    }

    /// Returns the fingerprint of the request with `body`. Two requests have the same fingerprint if and only if their
    /// content is the same. The order of members, white space and the spelling of numbers do not matter. Nulls that
    /// mean an omitted member have been removed before.
    pub fn fingerprint(&self, body: Option<&Value>) -> [u8; 32] {
        let mut fingerprint = self.method_and_path.clone();
        update(&mut fingerprint, self.query.get().map_or("", String::as_str));
        if let Some(body) = body {
            // serde_json sorts members, and strict parsing has normalized numbers. Cannot fail: a JSON value is valid JSON.
            fingerprint.update(serde_json::to_vec(body).unwrap_or_default());
        }
        fingerprint.finalize().into()
    }
}

fn update(hash: &mut Sha256, part: &str) {
    hash.update((part.len() as u64).to_be_bytes());
    hash.update(part);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn key_is_1_to_255_visible_characters_bare_or_quoted() {
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
    fn requests_with_the_same_content_have_the_same_fingerprint() {
        let idempotent_request = |path: &str, query: &str| {
            let write = IdempotentRequest::new(IdempotencyKey::parse("k").unwrap(), "POST", path);
            let mut canonical = CanonicalQuery::default();
            form_urlencoded::parse(query.as_bytes()).for_each(|(name, value)| canonical.push(&name, &value));
            write.set_query(canonical);
            write
        };
        let of = |body: Value| idempotent_request("/v1/keys", "").fingerprint(Some(&body));
        assert_eq!(of(json!({ "a": 1, "b": { "c": 2, "d": 3 } })), of(json!({ "b": { "d": 3, "c": 2 }, "a": 1 })));
        assert_ne!(of(json!({ "a": 1 })), of(json!({ "a": "1" })));
        assert_ne!(of(json!({})), idempotent_request("/v1/keys", "").fingerprint(None));
        assert_ne!(of(json!({})), idempotent_request("/v1/key", "s").fingerprint(Some(&json!({}))));
        assert_ne!(of(json!({})), idempotent_request("/v1/keys", "x=1").fingerprint(Some(&json!({}))));
        let with = |path: &str, query: &str| idempotent_request(path, query).fingerprint(Some(&json!({})));
        assert_eq!(with("/v1/keys/key_1", "x=a_b"), with("/v1/keys/key%5f1", "%78=a%5Fb"));
    }
}
