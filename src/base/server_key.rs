//! Secret of the deployment. Secrets that the server must recover are sealed with it or derived from it. All servers of
//! a deployment have the same key, in a file that is not part of a database dump.

use std::fmt;

use hkdf::Hkdf;
use rand::RngExt;
use sha2::Sha256;

use super::hex;

/// 32 random bytes. They are not used directly: each purpose has a derived key.
#[derive(Clone)]
pub struct ServerKey([u8; 32]);

/// Error for a text that is not a server key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not 64 hexadecimal digits")]
pub struct ParseServerKeyError;

impl ServerKey {
    /// Generates a new key.
    pub fn generate() -> Self {
        Self(rand::rng().random())
    }

    /// Parses 64 hexadecimal digits, as `openssl rand -hex 32` prints them.
    pub fn parse(text: &str) -> Result<Self, ParseServerKeyError> {
        // Upper case is accepted, although keys are written in lower case.
        hex::decode(&text.trim().to_ascii_lowercase()).map(Self).ok_or(ParseServerKeyError)
    }

    /// Text form, as in the file.
    pub fn to_text(&self) -> String {
        hex::encode(&self.0)
    }

    /// Derives the key for one purpose (HKDF-SHA256, RFC 5869).
    pub fn derive(&self, purpose: &'static str) -> [u8; 32] {
        let mut derived = [0; 32];
        // `expand` fails only for a length of more than 255 hashes.
        let _ = Hkdf::<Sha256>::new(None, &self.0).expand(purpose.as_bytes(), &mut derived);
        derived
    }

    /// Fingerprint that identifies the key without revealing it.
    pub fn fingerprint(&self) -> [u8; 32] {
        self.derive("cloudapi server key fingerprint v1")
    }
}

impl fmt::Debug for ServerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ServerKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_round_trips_and_other_texts_are_rejected() {
        let key = ServerKey::generate();
        let read = ServerKey::parse(&format!("{}\n", key.to_text())).unwrap();
        assert_eq!(read.fingerprint(), key.fingerprint());
        assert_ne!(read.fingerprint(), read.derive("something else"));
        assert_ne!(ServerKey::generate().fingerprint(), key.fingerprint());
        let upper = ServerKey::parse(&key.to_text().to_ascii_uppercase()).unwrap();
        assert_eq!(upper.fingerprint(), key.fingerprint());
        for text in ["", "00", &"+0".repeat(32), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(ServerKey::parse(text).err(), Some(ParseServerKeyError), "{text}");
        }
    }
}
