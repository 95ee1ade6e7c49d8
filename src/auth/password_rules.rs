//! What a new password must be, wherever it is set: long enough, and nothing that is guessed first (NIST
//! SP 800-63B). No rule asks for kinds of characters; length does more.

use secrecy::{ExposeSecret, SecretString};
use unicode_normalization::UnicodeNormalization;

use crate::base::{email::Email, error::ItemCode};

/// The fewest and the most characters, in NFC.
const MIN: usize = 12;
const MAX: usize = 128;
/// So many characters must be left besides the e-mail address or the product's name.
const OWN: usize = 8;
/// A local part shorter than this is in many words by chance.
const LOCAL_PART: usize = 4;
/// What is repeated must be longer than this.
const REPEATED: usize = 4;
const PRODUCT: &str = "cloudapi";
/// In lower case, a line each; the lines at its top say where it is from.
const COMMON: &str = include_str!("common_passwords.txt");

/// Why a password will not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// It has too few characters.
    #[error("must have at least {MIN} characters; a few words that nobody would put together are easy to remember")]
    TooShort,
    /// It has too many.
    #[error("must have at most {MAX} characters; shorten it")]
    TooLong,
    /// Some of it cannot be typed.
    #[error("must not contain control characters, such as a tab or a line's end; leave them out")]
    ControlCharacters,
    /// It is one that many people have.
    #[error("is among the passwords that are guessed first, because many people have it; choose another one")]
    Common,
    /// It says who they are, and little else.
    #[error(
        "is little more than the e-mail address, which is guessed first; choose one that has nothing to do with it"
    )]
    EmailAddress,
    /// It says what it opens, and little else.
    #[error(
        "is little more than this product's name, which is guessed first; choose one that has nothing to do with it"
    )]
    ProductName,
    /// It is one short thing over and over.
    #[error("repeats a few characters over and over, which is guessed first; choose one with more in it")]
    Repeated,
    /// It counts, or spells the alphabet.
    #[error("is one run of neighbours, such as 123456, which is guessed first; choose one without an order")]
    Sequence,
}

impl Unfit {
    /// The same, for programs.
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

/// Whether whoever has the address `email` may have `password` from now on.
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

/// Whether `b` comes after `a`; 0 comes after 9, and a after z.
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
    fn a_new_password_is_judged_by_its_length_and_by_what_is_guessed_first() {
        for (password, expected) in [
            ("correct horse battery staple", Ok(())),
            ("elevenchars", Err(Unfit::TooShort)),
            ("twelve chars", Ok(())),
            // Twelve code points, six characters.
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
    fn the_e_mail_address_and_a_few_characters_more_are_no_password() {
        for (email, password, expected) in [
            ("lovelace@example.com", "lovelace1815", Err(Unfit::EmailAddress)),
            ("lovelace@example.com", "LoveLace-LoveLace", Err(Unfit::EmailAddress)),
            ("lovelace@example.com", "lovelace 12345678", Ok(())),
            ("ada@example.com", "ada@example.com", Err(Unfit::EmailAddress)),
            ("ada@example.com", "ada@example.com1234567", Err(Unfit::EmailAddress)),
            // Short enough to be in it by chance.
            ("ada@example.com", "Granada 1492", Ok(())),
            ("jos\u{e9}phine@example.com", "JOSE\u{301}PHINE-1796", Err(Unfit::EmailAddress)),
        ] {
            assert_eq!(check_for(email, password), expected, "{email} {password:?}");
        }
    }

    #[test]
    fn the_list_holds_what_could_be_a_password_and_is_not_refused_for_its_length() {
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
    fn every_reason_says_what_to_do() {
        for unfit in [Unfit::TooShort, Unfit::TooLong, Unfit::ControlCharacters, Unfit::Common, Unfit::Repeated] {
            assert!(unfit.to_string().contains("; "), "{unfit}");
        }
    }
}
