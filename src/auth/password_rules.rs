//! Rules for new passwords: long enough, and not easy to guess (NIST SP 800-63B). No rule requires kinds of characters,
//! because length is more effective.

use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

use crate::base::{email::Email, error::ItemCode};

/// Minimum and maximum number of characters, in NFC.
const MIN: usize = 12;
const MAX: usize = 128;
/// Minimum number of characters besides the email address or the product name.
const OWN: usize = 8;
/// Minimum length of a local part that is checked. Shorter ones occur in many words by chance.
const LOCAL_PART: usize = 4;
/// Maximum period of a repetition.
const REPEATED: usize = 4;
const PRODUCT: &str = "cloudapi";
/// Common passwords in lowercase, one per line. The comment lines at the top name the source.
const COMMON: &str = include_str!("common_passwords.txt");

/// Reason why a password is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// Too few characters.
    #[error("must have at least {MIN} characters; use several unrelated words, which are easy to remember")]
    TooShort,
    /// Too many characters.
    #[error("must have at most {MAX} characters; shorten it")]
    TooLong,
    /// Contains control characters.
    #[error("must not contain control characters, such as a tab or a line break; remove them")]
    ControlCharacters,
    /// In the list of common passwords.
    #[error("is a common password, which is easy to guess; choose another one")]
    Common,
    /// Little more than the email address.
    #[error("is little more than the email address, which is easy to guess; choose one that is unrelated to it")]
    EmailAddress,
    /// Little more than the product name.
    #[error("is little more than this product's name, which is easy to guess; choose one that is unrelated to it")]
    ProductName,
    /// Repetition of a few characters.
    #[error("repeats a few characters, which is easy to guess; choose one with more variety")]
    Repeated,
    /// Sequence of digits or letters.
    #[error("is a sequence, such as 123456, which is easy to guess; choose one without an order")]
    Sequence,
}

impl Unfit {
    /// Machine-readable code.
    pub fn code(self) -> ItemCode {
        match self {
            Self::TooShort => ItemCode::TooShort,
            Self::TooLong => ItemCode::TooLong,
            Self::ControlCharacters => ItemCode::InvalidCharacters,
            Self::Common | Self::EmailAddress | Self::ProductName | Self::Repeated | Self::Sequence => {
                ItemCode::InvalidFormat
            }
        }
    }
}

/// Checks a new `password` of the user with the address `email`.
pub fn check(password: &SecretString, email: &Email) -> Result<(), Unfit> {
    let normal: String = password.expose_secret().nfc().collect();
    let length = normal.chars().count();
    if length < MIN {
        return Err(Unfit::TooShort);
    }
    if length > MAX {
        return Err(Unfit::TooLong);
    }
    if normal.chars().any(char::is_control) {
        return Err(Unfit::ControlCharacters);
    }
    let lower = normal.to_lowercase();
    if COMMON.lines().any(|common| common == lower) {
        return Err(Unfit::Common);
    }
    let email = email.to_string();
    let local_part = email.rsplit_once('@').map_or("", |(local_part, _)| local_part);
    let names_them = local_part.chars().count() >= LOCAL_PART && is_little_more_than(&lower, local_part);
    if names_them || is_little_more_than(&lower, &email) {
        return Err(Unfit::EmailAddress);
    }
    if is_little_more_than(&lower, PRODUCT) {
        return Err(Unfit::ProductName);
    }
    let characters: Vec<char> = lower.chars().collect();
    if is_repetition(&characters) {
        return Err(Unfit::Repeated);
    }
    if is_sequence(&characters) {
        return Err(Unfit::Sequence);
    }
    Ok(())
}

fn is_little_more_than(password: &str, word: &str) -> bool {
    password.contains(word) && password.replace(word, "").chars().count() < OWN
}

fn is_repetition(characters: &[char]) -> bool {
    (1..=REPEATED).any(|period| characters.iter().zip(characters.iter().skip(period)).all(|(a, b)| a == b))
}

fn is_sequence(characters: &[char]) -> bool {
    let pairs = || characters.iter().copied().zip(characters.iter().copied().skip(1));
    pairs().all(|(a, b)| follows(a, b)) || pairs().all(|(a, b)| follows(b, a))
}

/// Whether `b` follows `a`. 0 follows 9, and a follows z.
fn follows(a: char, b: char) -> bool {
    matches!((a, b), ('9', '0') | ('z', 'a')) || u32::from(a) + 1 == u32::from(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_for(email: &str, password: &str) -> Result<(), Unfit> {
        check(&password.into(), &email.parse().unwrap())
    }

    #[test]
    fn new_password_must_be_long_enough_and_hard_to_guess() {
        for (password, expected) in [
            ("correct horse battery staple", Ok(())),
            ("elevenchars", Err(Unfit::TooShort)),
            ("twelve chars", Ok(())),
            // Twelve code points, but six characters in NFC.
            ("a\u{301}e\u{301}i\u{301}o\u{301}u\u{301}y\u{301}", Err(Unfit::TooShort)),
            (&"dix-huit œufs ".repeat(9), Ok(())),
            (&"dix-huit œufs ".repeat(10), Err(Unfit::TooLong)),
            ("two lines\nof text", Err(Unfit::ControlCharacters)),
            ("1q2w3e4r5t6y", Err(Unfit::Common)),
            ("QwErTyUiOp123", Err(Unfit::Common)),
            ("aaaaaaaaaaaaz", Ok(())),
            ("zzzzzzzzzzzzzzzzz", Err(Unfit::Repeated)),
            ("ÉÉÉÉÉÉÉÉÉÉÉÉé", Err(Unfit::Repeated)),
            ("x7-!x7-!x7-!x7", Err(Unfit::Repeated)),
            ("x7-!yx7-!yx7-!y", Ok(())),
            ("6789012345678", Err(Unfit::Sequence)),
            ("zyxwvutsrqpon", Err(Unfit::Sequence)),
            ("αβγδεζηθικλμν", Err(Unfit::Sequence)),
            ("abcdefghijklx", Ok(())),
            ("CloudAPI-2026", Err(Unfit::ProductName)),
            ("cloudapicloudapi", Err(Unfit::ProductName)),
            ("cloudapi and a good deal more", Ok(())),
        ] {
            assert_eq!(check_for("ada@example.com", password), expected, "{password:?}");
        }
    }

    #[test]
    fn email_address_with_few_other_characters_is_rejected() {
        for (email, password, expected) in [
            ("lovelace@example.com", "lovelace1815", Err(Unfit::EmailAddress)),
            ("lovelace@example.com", "LoveLace-LoveLace", Err(Unfit::EmailAddress)),
            ("lovelace@example.com", "lovelace 12345678", Ok(())),
            ("ada@example.com", "ada@example.com", Err(Unfit::EmailAddress)),
            ("ada@example.com", "ada@example.com1234567", Err(Unfit::EmailAddress)),
            // Too short to be checked: it occurs in words by chance.
            ("ada@example.com", "Granada 1492", Ok(())),
            ("jos\u{e9}phine@example.com", "JOSE\u{301}PHINE-1796", Err(Unfit::EmailAddress)),
        ] {
            assert_eq!(check_for(email, password), expected, "{email} {password:?}");
        }
    }

    #[test]
    fn list_contains_only_passwords_of_an_allowed_length_in_lowercase() {
        let listed: Vec<&str> = COMMON.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(listed.len() > 7000, "{}", listed.len());
        for password in listed {
            assert!(
                (MIN..=MAX).contains(&password.chars().count()) && password == password.to_lowercase(),
                "{password:?}"
            );
        }
    }

    #[test]
    fn every_error_says_what_to_do() {
        for unfit in [Unfit::TooShort, Unfit::TooLong, Unfit::ControlCharacters, Unfit::Common, Unfit::Repeated] {
            assert!(unfit.to_string().contains("; "), "{unfit}");
        }
    }
}
