//! The deployment's own secret: what must be used again as it is, is sealed or derived under it. All servers of a
//! deployment have the same one, in a file that no database dump holds.

use std::fmt;

use hkdf::Hkdf;
use rand::RngExt;
use sha2::Sha256;

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
        let text = text.trim();
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(NotAServerKey);
        }
        for (byte, digits) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digits = std::str::from_utf8(digits).map_err(|_| NotAServerKey)?;
            // `from_str_radix` takes a sign.
            let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            *byte = is_hex.then(|| u8::from_str_radix(digits, 16).ok()).flatten().ok_or(NotAServerKey)?;
        }
        Ok(Self(bytes))
    }

    /// As the file has it.
    pub fn to_text(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
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
        for text in ["", "00", &"+0".repeat(32), &"é".repeat(32), &"0".repeat(65)] {
            assert_eq!(ServerKey::parse(text).err(), Some(NotAServerKey), "{text}");
        }
    }
}
