//! E-mail addresses.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use unicode_normalization::UnicodeNormalization;

use super::text;

/// An e-mail address, lower-cased and in NFC, so that two spellings of one address are equal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Email(String);

/// The longest address that SMTP can deliver to (RFC 5321 §4.5.3.1.3, less the angle brackets).
const EMAIL_MAX: usize = 254;

/// A text that is no e-mail address.
#[derive(Debug, thiserror::Error)]
#[error("not an e-mail address, such as ada@example.com")]
pub struct NotAnEmail;

impl FromStr for Email {
    type Err = NotAnEmail;

    fn from_str(text: &str) -> Result<Self, NotAnEmail> {
        let normal: String = text.trim().nfc().flat_map(char::to_lowercase).nfc().collect();
        let (local, domain) = normal.rsplit_once('@').ok_or(NotAnEmail)?;
        let plausible = !local.is_empty()
            && !local.contains('@')
            && !domain.is_empty()
            && normal.len() <= EMAIL_MAX
            && !normal.chars().any(|c| c.is_control() || c.is_whitespace() || text::is_unseen(c));
        plausible.then_some(Self(normal)).ok_or(NotAnEmail)
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Email {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl JsonSchema for Email {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Email".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "format": "idn-email", "maxLength": EMAIL_MAX, "examples": ["ada@example.com"] })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_address_are_equal() {
        let plain: Email = "josé@example.com".parse().unwrap();
        assert_eq!("JOSE\u{301}@Example.COM".parse::<Email>().unwrap(), plain);
        for text in [
            "",
            "@",
            "a@",
            "@b",
            "a b@c",
            "a@b@c",
            "a\0@b",
            "a\u{200b}@b",
            "a@b\u{202e}",
            &format!("{}@b", "x".repeat(300)),
        ] {
            assert!(text.parse::<Email>().is_err(), "{text:?}");
        }
    }
}
