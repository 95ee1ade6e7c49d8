//! Sealing of stored responses that contain a secret, so that only the original caller can get them again. The key is
//! derived from the caller's bearer secret, of which the server stores only a hash. A dump of the database opens
//! nothing, not even together with all keys of the server.

use chacha20poly1305::{
    ChaCha20Poly1305, Key, Nonce,
    aead::{Aead, KeyInit, Payload},
};
use hkdf::Hkdf;
use rand::RngExt;
use sha2::Sha256;

use crate::base::{idempotency::IdempotencyKey, identity::secret::Secret};

/// Salt that makes the key of each record unique.
pub(super) type Salt = [u8; 16];

/// Seals `body` to `secret`.
pub(super) fn seal(
    secret: &Secret,
    key: &IdempotencyKey,
    fingerprint: &[u8; 32],
    body: &[u8],
) -> Option<(Salt, Vec<u8>)> {
    let salt: Salt = rand::rng().random();
    let sealed = cipher(secret, &salt, key, fingerprint)?.encrypt(&nonce(), payload(body, fingerprint)).ok()?;
    Some((salt, sealed))
}

/// Opens a body that was sealed to `secret`.
pub(super) fn open(
    secret: &Secret,
    salt: &[u8],
    key: &IdempotencyKey,
    fingerprint: &[u8; 32],
    sealed: &[u8],
) -> Option<Vec<u8>> {
    cipher(secret, salt, key, fingerprint)?.decrypt(&nonce(), payload(sealed, fingerprint)).ok()
}

/// Constant, because each key seals only one text (RFC 5116 §3.1): each record has a salt.
fn nonce() -> Nonce {
    Nonce::default()
}

fn payload<'a>(text: &'a [u8], fingerprint: &'a [u8; 32]) -> Payload<'a, 'a> {
    Payload { msg: text, aad: fingerprint }
}

/// Derives the cipher with HKDF-SHA256 (RFC 5869).
fn cipher(secret: &Secret, salt: &[u8], key: &IdempotencyKey, fingerprint: &[u8; 32]) -> Option<ChaCha20Poly1305> {
    let mut derived = Key::default();
    Hkdf::<Sha256>::new(Some(salt), secret.expose().as_bytes())
        .expand_multi_info(&[key.as_bytes(), fingerprint], &mut derived)
        .ok()?;
    Some(ChaCha20Poly1305::new(&derived))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::identity::secret::SecretKind;

    #[test]
    fn sealed_response_opens_only_with_same_secret_key_and_request() {
        let (secret, other) = (Secret::generate(SecretKind::Key), Secret::generate(SecretKind::Key));
        let key = IdempotencyKey::parse("k").unwrap();
        let other_key = IdempotencyKey::parse("l").unwrap();
        let (salt, sealed) = seal(&secret, &key, &[1; 32], b"sk_live_").unwrap();
        assert_eq!(open(&secret, &salt, &key, &[1; 32], &sealed).as_deref(), Some(&b"sk_live_"[..]));
        assert!(open(&other, &salt, &key, &[1; 32], &sealed).is_none());
        assert!(open(&secret, &salt, &other_key, &[1; 32], &sealed).is_none());
        assert!(open(&secret, &salt, &key, &[2; 32], &sealed).is_none());
        assert!(open(&secret, &[0; 16], &key, &[1; 32], &sealed).is_none());
        let mut changed = sealed.clone();
        changed[0] ^= 1;
        assert!(open(&secret, &salt, &key, &[1; 32], &changed).is_none());
        assert!(!sealed.windows(7).any(|part| part == b"sk_live"));
    }
}
