//! Rules for new passwords: long enough, and not easy to guess (NIST SP 800-63B). No rule requires kinds of characters,
//! because length is more effective.

use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

use crate::base::{error::ItemCode, input::email::Email};

/// Minimum and maximum number of characters, in NFC.
const MIN_LENGTH: usize = 12;
const MAX_LENGTH: usize = 128;
/// Minimum number of characters besides the email address or the product name.
const MIN_REMAINING: usize = 8;
/// Minimum length of a local part that is checked. Shorter ones occur in many words by chance.
const MIN_LOCAL_PART: usize = 4;
/// Maximum period of a repetition.
const MAX_PERIOD: usize = 4;
const PRODUCT: &str = "cloudapi";
/// Common passwords in lowercase, one per line. The comment lines at the top name the source.
const COMMON_PASSWORDS: &str = include_str!("common_passwords.txt");

/// Reason why a password is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordRejection {
    /// Too few characters.
    #[error("must have at least {MIN_LENGTH} characters; use several unrelated words, which are easy to remember")]
    TooShort,
    /// Too many characters.
    #[error("must have at most {MAX_LENGTH} characters; shorten it")]
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

impl PasswordRejection {
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
pub fn check(password: &SecretString, email: &Email) -> Result<(), PasswordRejection> {
    let normal: String = password.expose_secret().nfc().collect();
    let length = normal.chars().count();
    if length < MIN_LENGTH {
        return Err(PasswordRejection::TooShort);
    }
    if length > MAX_LENGTH {
        return Err(PasswordRejection::TooLong);
    }
    if normal.chars().any(char::is_control) {
        return Err(PasswordRejection::ControlCharacters);
    }
    let lower = normal.to_lowercase();
    if COMMON_PASSWORDS.lines().any(|common| common == lower) {
        return Err(PasswordRejection::Common);
    }
    let email = email.to_string();
    let local_part = email.rsplit_once('@').map_or("", |(local_part, _)| local_part);
    let contains_local_part = local_part.chars().count() >= MIN_LOCAL_PART && is_little_more_than(&lower, local_part);
    if contains_local_part || is_little_more_than(&lower, &email) {
        return Err(PasswordRejection::EmailAddress);
    }
    if is_little_more_than(&lower, PRODUCT) {
        return Err(PasswordRejection::ProductName);
    }
    let characters: Vec<char> = lower.chars().collect();
    if is_repetition(&characters) {
        return Err(PasswordRejection::Repeated);
    }
    if is_sequence(&characters) {
        return Err(PasswordRejection::Sequence);
    }
    Ok(())
}

fn is_little_more_than(password: &str, word: &str) -> bool {
    password.contains(word) && password.replace(word, "").chars().count() < MIN_REMAINING
}

fn is_repetition(characters: &[char]) -> bool {
    (1..=MAX_PERIOD).any(|period| characters.iter().zip(characters.iter().skip(period)).all(|(a, b)| a == b))
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

    fn check_for(email: &str, password: &str) -> Result<(), PasswordRejection> {
        check(&password.into(), &email.parse().unwrap())
    }

    #[test]
    fn new_password_must_be_long_enough_and_hard_to_guess() {
        for (password, expected) in [
            ("correct horse battery staple", Ok(())),
            ("elevenchars", Err(PasswordRejection::TooShort)),
            ("twelve chars", Ok(())),
            // Twelve code points, but six characters in NFC.
            ("a\u{301}e\u{301}i\u{301}o\u{301}u\u{301}y\u{301}", Err(PasswordRejection::TooShort)),
            (&"dix-huit œufs ".repeat(9), Ok(())),
            (&"dix-huit œufs ".repeat(10), Err(PasswordRejection::TooLong)),
            ("two lines\nof text", Err(PasswordRejection::ControlCharacters)),
            ("1q2w3e4r5t6y", Err(PasswordRejection::Common)),
            ("QwErTyUiOp123", Err(PasswordRejection::Common)),
            ("aaaaaaaaaaaaz", Ok(())),
            ("zzzzzzzzzzzzzzzzz", Err(PasswordRejection::Repeated)),
            ("ÉÉÉÉÉÉÉÉÉÉÉÉé", Err(PasswordRejection::Repeated)),
            ("x7-!x7-!x7-!x7", Err(PasswordRejection::Repeated)),
            ("x7-!yx7-!yx7-!y", Ok(())),
            ("6789012345678", Err(PasswordRejection::Sequence)),
            ("zyxwvutsrqpon", Err(PasswordRejection::Sequence)),
            ("αβγδεζηθικλμν", Err(PasswordRejection::Sequence)),
            ("abcdefghijklx", Ok(())),
            ("CloudAPI-2026", Err(PasswordRejection::ProductName)),
            ("cloudapicloudapi", Err(PasswordRejection::ProductName)),
            ("cloudapi and a good deal more", Ok(())),
        ] {
            assert_eq!(check_for("ada@example.com", password), expected, "{password:?}");
        }
    }

    #[test]
    fn email_address_with_few_other_characters_is_rejected() {
        for (email, password, expected) in [
            ("lovelace@example.com", "lovelace1815", Err(PasswordRejection::EmailAddress)),
            ("lovelace@example.com", "LoveLace-LoveLace", Err(PasswordRejection::EmailAddress)),
            ("lovelace@example.com", "lovelace 12345678", Ok(())),
            ("ada@example.com", "ada@example.com", Err(PasswordRejection::EmailAddress)),
            ("ada@example.com", "ada@example.com1234567", Err(PasswordRejection::EmailAddress)),
            // Too short to be checked: it occurs in words by chance.
            ("ada@example.com", "Granada 1492", Ok(())),
            ("jos\u{e9}phine@example.com", "JOSE\u{301}PHINE-1796", Err(PasswordRejection::EmailAddress)),
        ] {
            assert_eq!(check_for(email, password), expected, "{email} {password:?}");
        }
    }

    #[test]
    fn list_contains_only_passwords_of_an_allowed_length_in_lowercase() {
        let listed: Vec<&str> = COMMON_PASSWORDS.lines().filter(|line| !line.starts_with('#')).collect();
        assert!(listed.len() > 7000, "{}", listed.len());
        for password in listed {
            assert!(
                (MIN_LENGTH..=MAX_LENGTH).contains(&password.chars().count()) && password == password.to_lowercase(),
                "{password:?}"
            );
        }
    }

    #[test]
    fn every_error_says_what_to_do() {
        for rejection in [
            PasswordRejection::TooShort,
            PasswordRejection::TooLong,
            PasswordRejection::ControlCharacters,
            PasswordRejection::Common,
            PasswordRejection::Repeated,
        ] {
            assert!(rejection.to_string().contains("; "), "{rejection}");
        }
    }
}
