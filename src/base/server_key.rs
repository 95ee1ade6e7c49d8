//! The deployment's own secret: what must be used again as it is, is sealed or derived under it. All servers of a
//! deployment have the same one, in a file that no database dump holds.

use std::fmt;

use hkdf::Hkdf;
use rand::RngExt;
use sha2::Sha256;

use super::hex;

/// 32 random bytes, never used themselves: each purpose has a key derived from them.
#[derive(Clone)]
pub struct ServerKey([u8; 32]);

/// A text that is no server key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not 64 hexadecimal digits")]
pub struct NotAServerKey;

impl ServerKey {
    /// A new one.
    pub fn generate() -> Self {
        Self(rand::rng().random())
    }

    /// Reads 64 hexadecimal digits, as `openssl rand -hex 32` prints them.
    pub fn parse(text: &str) -> Result<Self, NotAServerKey> {
        // In either case, though it is written in lower case.
        hex::decode(&text.trim().to_ascii_lowercase()).map(Self).ok_or(NotAServerKey)
    }

    /// As the file has it.
    pub fn to_text(&self) -> String {
        hex::encode(&self.0)
    }

    /// The key for one purpose (HKDF-SHA256, RFC 5869).
    pub fn derive(&self, purpose: &'static str) -> [u8; 32] {
        let mut derived = [0; 32];
        // Only a length of more than 255 hashes is refused.
        let _ = Hkdf::<Sha256>::new(None, &self.0).expand(purpose.as_bytes(), &mut derived);
        derived
    }

    /// What tells one key from another, and gives nothing away.
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
    fn a_key_is_read_as_it_is_written_and_nothing_else_is_one() {
        let key = ServerKey::generate();
        let read = ServerKey::parse(&format!("{}\n", key.to_text())).unwrap();
        assert_eq!(read.fingerprint(), key.fingerprint());
        assert_ne!(read.fingerprint(), read.derive("something else"));
        assert_ne!(ServerKey::generate().fingerprint(), key.fingerprint());
        let upper = ServerKey::parse(&key.to_text().to_ascii_uppercase()).unwrap();
        assert_eq!(upper.fingerprint(), key.fingerprint());
        for text in ["", "00", &"+0".repeat(32), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(ServerKey::parse(text).err(), Some(NotAServerKey), "{text}");
        }
    }
}
