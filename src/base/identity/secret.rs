//! Bearer secrets: generation, recognition and storage.
//!
//! A secret is a prefix, 43 base62 characters (256 random bits) and a 6-character base62 CRC-32 checksum of everything
//! before it. With the checksum, the server rejects invalid secrets without a database query, and secret scanners can
//! confirm a match. A [`Secret`] can be shown but not stored; its [`SecretHash`] can be stored but not shown.

use std::{borrow::Cow, fmt};

use rand::RngExt;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const RANDOM_CHARS: usize = 43;
const CHECKSUM_CHARS: usize = 6;
const HINT_CHARS: usize = 12;

/// Kind of a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecretKind {
    /// Session of a signed-in user, for a dashboard backend.
    Session,
    /// API key of a project, for servers and CI.
    Key,
    /// Scoped token, for a service.
    Token,
    /// Session of the console, in a browser's cookie. Not accepted as a Bearer credential.
    Console,
    /// Invitation to a project. Not a credential.
    Invitation,
    /// Link that signs its user in once. Not a credential.
    SignInLink,
}

impl SecretKind {
    /// All kinds.
    pub const ALL: [Self; 6] =
        [Self::Session, Self::Key, Self::Token, Self::Console, Self::Invitation, Self::SignInLink];

    /// Prefix of every secret of this kind.
    pub const fn prefix(self) -> &'static str {
        match self {
            Self::Session => "sess_",
            Self::Key => "sk_live_",
            Self::Token => "cap_",
            Self::Console => "cbs_",
            Self::Invitation => "inv_",
            Self::SignInLink => "lnk_",
        }
    }
}

/// Secret in plain text, shown to its owner once. It cannot be stored in the database, and `Debug` does not show it.
#[derive(Clone)]
pub struct Secret {
    kind: SecretKind,
    text: SecretString,
}

impl Secret {
    /// Generates a secret, with a cryptographic generator that the operating system seeds.
    pub fn generate(kind: SecretKind) -> Self {
        let bytes: [u8; 32] = rand::rng().random();
        let mut text = String::with_capacity(kind.prefix().len() + RANDOM_CHARS + CHECKSUM_CHARS);
        text.push_str(kind.prefix());
        push_base62::<RANDOM_CHARS>(&mut text, bytes);
        push_checksum(&mut text);
        Self { kind, text: text.into() }
    }

    /// Recognizes a secret by its prefix, length and checksum. Does not check whether the secret is valid.
    pub fn parse(text: &str) -> Option<Self> {
        let kind = SecretKind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()))?;
        let body = text.get(kind.prefix().len()..)?;
        if body.len() != RANDOM_CHARS + CHECKSUM_CHARS || !body.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let (named, sum) = text.as_bytes().split_last_chunk::<CHECKSUM_CHARS>()?;
        (checksum(named) == *sum).then(|| Self { kind, text: text.into() })
    }

    /// Removes all secrets from `text`.
    pub fn redact(text: &str) -> Cow<'_, str> {
        let found = SecretKind::ALL.iter().flat_map(|kind| {
            let prefix = kind.prefix();
            text.match_indices(prefix).filter_map(|(start, _)| {
                let end = start + prefix.len() + RANDOM_CHARS + CHECKSUM_CHARS;
                Self::parse(text.get(start..end)?).map(|_| start..end)
            })
        });
        let mut found: Vec<_> = found.collect();
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        found.sort_by_key(|range| range.start);
        let (mut left, mut from) = (String::new(), 0);
        for range in found {
            left.push_str(text.get(from..range.start).unwrap_or_default());
            from = from.max(range.end);
        }
        left.push_str(text.get(from..).unwrap_or_default());
        Cow::Owned(left)
    }

    /// Kind of the secret.
    pub fn kind(&self) -> SecretKind {
        self.kind
    }

    /// Hash of the secret, which is stored instead of it.
    pub fn hash(&self) -> SecretHash {
        SecretHash(Sha256::digest(self.text.expose_secret()).into())
    }

    /// First characters, by which a person recognizes a secret that is no longer shown.
    pub fn hint(&self) -> String {
        self.text.expose_secret().chars().take(HINT_CHARS).collect()
    }

    /// Secret as text, for the one response that shows it.
    pub fn expose(&self) -> &str {
        self.text.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[redacted]", self.kind.prefix())
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.expose())
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<str>::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| de::Error::custom("not a secret"))
    }
}

impl JsonSchema for Secret {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Secret".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Without the secrets that the API does not send to its clients.
        json_schema!({ "type": "string", "pattern": "^(sess_|sk_live_|cap_|inv_)[0-9A-Za-z]{49}$" })
    }
}

/// SHA-256 of a secret, which is stored in the database. A fast hash is safe here, and only here, because 256 random
/// bits cannot be guessed.
#[derive(Clone, PartialEq, Eq, Hash, sqlx::Type)]
#[sqlx(transparent)]
pub struct SecretHash([u8; 32]);

impl SecretHash {
    /// Bytes of the hash, as stored.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for SecretHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretHash(..)")
    }
}

/// Appends `number` (big-endian) as exactly `N` base62 digits.
fn push_base62<const N: usize>(text: &mut String, number: [u8; 32]) {
    /// Digits that one division by `CHUNK` = 62⁵ yields. It is the greatest power of 62 that fits in 32 bits.
    const DIGITS: usize = 5;
    const CHUNK: u64 = 62_u64.pow(DIGITS as u32);
    let (limbs, _) = number.as_chunks::<4>();
    let mut limbs: [u32; 8] = std::array::from_fn(|at| limbs.get(at).map_or(0, |bytes| u32::from_be_bytes(*bytes)));
    let mut digits = [b'0'; N];
    for chunk in digits.rchunks_mut(DIGITS) {
        let mut remainder = 0;
        for limb in &mut limbs {
            let value = remainder << 32 | u64::from(*limb);
            // The quotient fits: the remainder is below CHUNK, so the value is below CHUNK · 2³².
            *limb = (value / CHUNK) as u32;
            remainder = value % CHUNK;
        }
        write_base62(chunk, remainder);
    }
    text.extend(digits.iter().map(|&digit| char::from(digit)));
}

/// Writes the last digits of `number`, as many as `digits` has room for.
fn write_base62(digits: &mut [u8], mut number: u64) {
    for digit in digits.iter_mut().rev() {
        #[allow(clippy::indexing_slicing, reason = "a remainder of 62 is below 62")]
        let character = ALPHABET[(number % 62) as usize];
        *digit = character;
        number /= 62;
    }
}

fn push_checksum(text: &mut String) {
    let sum = checksum(text.as_bytes());
    text.extend(sum.map(char::from));
}

/// Computes the CRC-32 as base62 digits.
fn checksum(text: &[u8]) -> [u8; CHECKSUM_CHARS] {
    let mut digits = [0; CHECKSUM_CHARS];
    write_base62(&mut digits, crc32fast::hash(text).into());
    digits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_secret_is_recognized_with_its_kind() {
        for kind in SecretKind::ALL {
            let secret = Secret::generate(kind);
            let read = Secret::parse(secret.expose()).unwrap();
            assert_eq!((read.kind(), read.hash()), (kind, secret.hash()));
            assert_eq!(secret.expose().len(), kind.prefix().len() + 49);
            assert_eq!(secret.hint().len(), 12);
        }
    }

    #[test]
    fn secrets_are_removed_anywhere_in_a_text() {
        let (key, token) = (Secret::generate(SecretKind::Key), Secret::generate(SecretKind::Token));
        let (key, token) = (key.expose(), token.expose());
        assert_eq!(Secret::redact("curl/8 sk_live_nothing"), "curl/8 sk_live_nothing");
        assert_eq!(Secret::redact(&format!("é{token}{key} x {key}")), "é x ");
        assert_eq!(Secret::redact(&format!("sk_live_{key}cap_")), "sk_live_cap_");
    }

    #[test]
    fn secret_with_one_changed_character_is_rejected() {
        let text = Secret::generate(SecretKind::Key).expose().to_owned();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'x' { b'y' } else { b'x' };
            assert!(Secret::parse(std::str::from_utf8(&changed).unwrap()).is_none(), "at {at}");
        }
        for junk in ["", "sk_live_", "cap_****", "sk_live_é", &text[..text.len() - 1], &format!("{text}0")] {
            assert!(Secret::parse(junk).is_none(), "{junk:?}");
        }
    }

    #[test]
    fn base62_and_checksum_match_known_vectors() {
        let mut text = String::new();
        push_base62::<43>(&mut text, [0xff; 32]);
        assert_eq!(text, "yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp1");
        let mut text = "123456789".to_owned(); // CRC-32's check value is 0xCBF43926.
        push_checksum(&mut text);
        assert_eq!(text, "1234567893jZRME");
    }

    #[test]
    fn debug_does_not_show_the_secret() {
        assert_eq!(format!("{:?}", Secret::generate(SecretKind::Token)), "cap_[redacted]");
    }
}
