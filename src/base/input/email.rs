//! Email addresses, and the key that all spellings of one address share.

use std::{borrow::Cow, fmt, str::FromStr};

use icu_casemap::CaseMapper;
use idna::{
    AsciiDenyList,
    uts46::{DnsLength, Hyphens, Uts46},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de};
use unicode_normalization::UnicodeNormalization;

use super::text;

/// Email address as a user wrote it, in lower case and NFC. Mail is sent to this spelling. To compare addresses, use
/// [`EmailKey`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::Type)]
#[serde(transparent)]
#[sqlx(transparent)]
pub struct Email(String);

/// Maximum length of an address in SMTP (RFC 5321 §4.5.3.1.3, without the angle brackets).
const EMAIL_MAX: usize = 254;

/// Error for a text that is not an email address.
#[derive(Debug, thiserror::Error)]
#[error("not an email address, such as ada@example.com")]
pub struct ParseEmailError;

impl Email {
    /// Normalizes `text` to the stored spelling, even if it is not an address.
    pub fn normalize(text: &str) -> String {
        text.trim().nfc().flat_map(char::to_lowercase).nfc().collect()
    }

    /// Address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Key that all spellings of this address share.
    pub fn key(&self) -> EmailKey {
        EmailKey::of(&self.0)
    }
}

impl FromStr for Email {
    type Err = ParseEmailError;

    fn from_str(text: &str) -> Result<Self, ParseEmailError> {
        let normal = Self::normalize(text);
        let (local, domain) = normal.rsplit_once('@').ok_or(ParseEmailError)?;
        let is_literal = domain.starts_with('[') && domain.ends_with(']');
        let plausible = !local.is_empty()
            && !local.contains('@')
            && normal.len() <= EMAIL_MAX
            && !normal.chars().any(|c| c.is_control() || c.is_whitespace() || text::is_invisible(c))
            && (is_literal
                || domain_to_ascii(domain).is_some_and(|ascii| ascii.split('.').all(|label| !label.is_empty())));
        plausible.then_some(Self(normal)).ok_or(ParseEmailError)
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

/// Key that all spellings of one email address share: the local part in Unicode full case folding and NFC, the domain
/// in ASCII (UTS 46). Accounts are found by this key. Mail is never sent to it, because case folding can change the
/// mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, sqlx::Type)]
#[sqlx(transparent)]
pub struct EmailKey(String);

impl EmailKey {
    /// Returns the key of `text`. The key of a text that is not an address never equals the key of an address.
    pub fn of(text: &str) -> Self {
        let text = text.trim();
        let Some((local, domain)) = text.rsplit_once('@') else { return Self(fold(text)) };
        let domain = domain_to_ascii(domain).unwrap_or_else(|| fold(domain));
        let domain = domain.strip_suffix('.').unwrap_or(&domain);
        Self(format!("{}@{domain}", fold(local)))
    }

    /// Key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Folds for Unicode canonical caseless matching (D145), in NFC. No language-specific rules apply, so the dotless i is
/// not an i.
fn fold(text: &str) -> String {
    let decomposed: String = text.nfd().collect();
    CaseMapper::new().fold_string(&decomposed).nfc().collect()
}

/// Converts a domain to its DNS form (UTS 46, nontransitional, like browsers).
fn domain_to_ascii(domain: &str) -> Option<String> {
    let ascii = Uts46::new().to_ascii(domain.as_bytes(), AsciiDenyList::URL, Hyphens::Allow, DnsLength::Ignore);
    ascii.ok().filter(|ascii| !ascii.is_empty()).map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_that_differ_in_case_or_composition_are_equal() {
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
            "a@.",
            "a@b.",
            "a@b..c",
            "a@.b",
            "a@xn--\u{e9}",
            "a@xn--a-\u{fc}",
            "a@b/c",
            &format!("{}@b", "x".repeat(300)),
        ] {
            assert!(text.parse::<Email>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn spelling_for_mail_is_not_folded() {
        for text in ["straße@bücher.example", "ada@xn--bcher-kva.example", "ıfİ@example.com"] {
            let email: Email = text.parse().unwrap();
            assert_eq!(email.as_str(), Email::normalize(text));
        }
        assert_eq!("Straße@B\u{fc}cher.example".parse::<Email>().unwrap().as_str(), "straße@bücher.example");
    }

    #[test]
    fn all_spellings_of_an_address_have_the_same_key() {
        for (key, spellings) in [
            (
                "ada@xn--bcher-kva.example",
                &[
                    "ada@bücher.example",
                    "ADA@BÜCHER.EXAMPLE",
                    "ada@bu\u{308}cher.example",
                    "ada@xn--bcher-kva.example",
                    "ada@XN--BCHER-KVA.Example",
                    "ada@ｂücher。example",
                    " ada@bücher.example. ",
                    "ada@bü\u{ad}cher.example",
                ][..],
            ),
            ("strasse@example.com", &["straße@example.com", "STRASSE@example.com", "STRAẞE@example.com"]),
            ("σίσυφος@example.com".replace('ς', "σ").as_str(), &["ΣΊΣΥΦΟΣ@example.com", "σίσυφος@example.com"]),
            ("fiona@example.com", &["ﬁona@example.com", "FIONA@example.com"]),
            ("jos\u{e9}@example.com", &["jose\u{301}@example.com", "JOS\u{c9}@example.com"]),
        ] {
            for spelling in spellings {
                assert_eq!(EmailKey::of(spelling).as_str(), key, "{spelling:?}");
                assert_eq!(EmailKey::of(&Email::normalize(spelling)).as_str(), key, "{spelling:?}");
            }
        }
    }

    #[test]
    fn different_addresses_have_different_keys() {
        for (one, other) in [
            ("ada@example.com", "ida@example.com"),
            // The dotless i is a different letter; the rules of Turkish do not apply.
            ("ıda@example.com", "ida@example.com"),
            // Nontransitional: two different domains.
            ("ada@faß.example", "ada@fass.example"),
            ("a.da@example.com", "ada@example.com"),
            ("ada+x@example.com", "ada@example.com"),
            ("no address", "no@address"),
        ] {
            assert_ne!(EmailKey::of(one), EmailKey::of(other), "{one} {other}");
        }
        assert_eq!(EmailKey::of("[").as_str(), "[");
        assert_eq!(EmailKey::of("a@[IPv6:::1]").as_str(), "a@[ipv6:::1]");
    }
}
