//! Rule for every text from outside: well-formed UTF-8 without control characters.
//!
//! [`super::schema::Rules`] checks every text of a body or a query string, whatever its schema. Query strings and forms
//! are decoded with [`decode_form`]. Command-line arguments go through [`check`], and texts of cloud providers through
//! [`replace_control_characters`].

use serde_json::Value;

/// Pattern of texts without control characters (Unicode category Cc). Names do not need them, and PostgreSQL cannot
/// store NUL.
pub const NO_CONTROL_CHARACTERS: &str = r"^[^\u0000-\u001F\u007F-\u009F]*$";

/// Reason why a text is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadText {
    /// Control character.
    #[error("must not contain control characters")]
    ControlCharacter,
    /// `%` without two hexadecimal digits after it.
    #[error("has a '%' that is not followed by two hexadecimal digits; write a percent sign as %25")]
    BadPercent,
    /// Not UTF-8 after percent-decoding.
    #[error("is not UTF-8 after percent-decoding; encode it as UTF-8")]
    NotUtf8,
}

/// Checks a text against the rule.
pub fn check(text: &str) -> Result<(), BadText> {
    // Most texts are printable ASCII, which needs no decoding.
    let is_plain = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if !is_plain && text.chars().any(char::is_control) { Err(BadText::ControlCharacter) } else { Ok(()) }
}

/// Decodes one name or value of `application/x-www-form-urlencoded` strictly: rejects text that a lenient decoder would
/// replace or keep. Does not reject control characters; use [`check`] on the result.
pub fn decode_form(encoded: &str) -> Result<String, BadText> {
    let mut decoded = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    let hex = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16)).ok_or(BadText::BadPercent);
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            // Both digits are below 16, so the cast keeps the value.
            b'%' => (hex(bytes.next())? * 16 + hex(bytes.next())?) as u8,
            byte => byte,
        });
    }
    String::from_utf8(decoded).map_err(|_| BadText::NotUtf8)
}

/// Splits a query string or a form into pairs, which are still encoded. Skips empty pairs.
pub fn form_pairs(encoded: &str) -> impl Iterator<Item = (&str, &str)> {
    encoded.split('&').filter(|pair| !pair.is_empty()).map(|pair| pair.split_once('=').unwrap_or((pair, "")))
}

/// Returns the start of a client's text, escaped, for display in an error.
pub fn excerpt(text: &str) -> String {
    text.chars().take(64).collect::<String>().escape_debug().to_string()
}

/// Replaces each control character with U+FFFD. For texts from a source that cannot be asked to correct them.
pub fn replace_control_characters(text: &mut String) {
    if check(text).is_err() {
        *text = text.chars().map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c }).collect();
    }
}

/// Like [`replace_control_characters`], for every text of a JSON value, including member names.
pub fn replace_control_characters_in(value: &mut Value) {
    match value {
        Value::String(text) => replace_control_characters(text),
        Value::Array(items) => items.iter_mut().for_each(replace_control_characters_in),
        Value::Object(members) => {
            *members = std::mem::take(members)
                .into_iter()
                .map(|(mut name, mut member)| {
                    replace_control_characters(&mut name);
                    replace_control_characters_in(&mut member);
                    (name, member)
                })
                .collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Returns whether a character is invisible, such as a zero-width space. Two addresses that differ only in such a
/// character look the same, and copying an address copies the character.
pub fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// Returns the known text most similar to `given`, for "did you mean", if one is similar enough.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A client can send a long text, and the cost of the distance is the product of the lengths.
    if given.len() > 64 {
        return None;
    }
    // Case does not matter.
    let given = given.to_lowercase();
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&given, &candidate.to_lowercase()), candidate))
        .min()
        .filter(|&(distance, candidate)| distance <= 1 + candidate.len() / 4)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typo_finds_the_intended_text_and_nonsense_finds_nothing() {
        assert_eq!(nearest("users:raed", ["users:read", "usage:read"]), Some("users:read"));
        assert_eq!(nearest("expires", ["expires_in", "name"]), Some("expires_in"));
        assert_eq!(nearest("projectId", ["name", "project_id"]), Some("project_id"));
        assert_eq!(nearest("PROJECT_ID", ["name", "project_id"]), Some("project_id"));
        assert_eq!(nearest("CLOUDAPI_LISTN", ["CLOUDAPI_LISTEN"]), Some("CLOUDAPI_LISTEN"));
        assert_eq!(nearest("zzzzzz", ["users:read"]), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), ["users:read"]), None);
    }
    #[test]
    fn form_is_decoded_strictly() {
        assert_eq!(decode_form("a+b%20c%C3%A9%25"), Ok("a b cé%".into()));
        for (encoded, why) in [
            ("%", BadText::BadPercent),
            ("%4", BadText::BadPercent),
            ("%zz", BadText::BadPercent),
            ("%+1", BadText::BadPercent),
            ("%é", BadText::BadPercent),
            ("%ff", BadText::NotUtf8),
            ("%c0%af", BadText::NotUtf8),
            ("%ed%a0%80", BadText::NotUtf8),
        ] {
            assert_eq!(decode_form(encoded), Err(why), "{encoded}");
        }
        for encoded in ["%00", "%01", "%7f", "%c2%80"] {
            assert_eq!(check(&decode_form(encoded).unwrap()), Err(BadText::ControlCharacter), "{encoded}");
        }
        let pairs: Vec<_> = form_pairs("a=1&&b&c==2").collect();
        assert_eq!(pairs, [("a", "1"), ("b", ""), ("c", "=2")]);
    }

    #[test]
    fn control_characters_are_replaced_in_names_and_values() {
        let mut value = serde_json::json!({ "a\u{0}": ["b\u{1f}", { "c": "d\u{9f}é" }], "e": 1 });
        replace_control_characters_in(&mut value);
        let expected = serde_json::json!({ "a\u{fffd}": ["b\u{fffd}", { "c": "d\u{fffd}é" }], "e": 1 });
        assert_eq!(value, expected);
    }
}
