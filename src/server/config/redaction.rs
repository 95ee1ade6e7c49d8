//! Rules for which setting values an error may show. Errors end up in logs, and an operator may put a password or a key
//! into any setting by mistake.

use std::{borrow::Cow, path::Path};

/// Value names, as in `--help`, of settings that may be shown, because they are never meant to hold a secret.
const SAFE_VALUE_NAMES: &[&str] =
    &["ADDR", "CIDRS", "DAYS", "FILTER", "FORMAT", "LIMIT", "MONTHS", "NUMBER", "SECONDS", "SWITCH"];
/// Maximum length of a value that is shown. Longer values are not typing errors.
const MAX_SHOWN_LENGTH: usize = 100;

/// Reports whether an error may show `value` of a setting with this value name.
pub fn may_show(value_name: Option<&str>, value: &str) -> bool {
    value_name.is_some_and(|name| SAFE_VALUE_NAMES.contains(&name))
        && value.len() <= MAX_SHOWN_LENGTH
        && !value.contains("://")
        && !value.contains(['@', '\n'])
}

/// Returns ` = path` if the value is certainly a path: of an existing file, or in an existing folder. Otherwise the
/// setting may hold the content of the file instead of its path, and the result is empty.
pub fn display_path(path: &Path) -> String {
    let folder = path.parent().filter(|folder| path.is_absolute() && folder.parent().is_some());
    let is_path = path.exists() || folder.is_some_and(Path::is_dir);
    if is_path { format!(" = {}", path.display()) } else { String::new() }
}

/// Returns `text` without the user names and passwords of URLs in it.
pub fn without_passwords(text: &str) -> Cow<'_, str> {
    if !text.contains("://") {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        shown.push_str(before);
        shown.push_str("://");
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '\'' | '"')).unwrap_or(after.len());
        // The last '@', because a password may contain one.
        let secret = after.get(..end).and_then(|url| url.rfind('@'));
        match secret {
            Some(at) => {
                shown.push_str("***");
                rest = after.get(at..).unwrap_or_default();
            }
            None => rest = after,
        }
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_is_shown_only_if_it_cannot_hold_a_secret() {
        assert!(may_show(Some("ADDR"), "localhost"));
        for (name, value) in [
            (None, "x"),
            (Some("URL"), "x"),
            (Some("FILE"), "x"),
            (Some("ADDR"), "postgres://u@h"),
            (Some("ADDR"), "u:p@h"),
            (Some("ADDR"), "a\nb"),
        ] {
            assert!(!may_show(name, value), "{name:?} {value}");
        }
        assert!(!may_show(Some("ADDR"), &"x".repeat(101)));
    }

    #[test]
    fn path_is_shown_but_not_file_content() {
        assert_eq!(display_path(Path::new("/etc/no-such-file")), " = /etc/no-such-file");
        assert_eq!(display_path(Path::new("Cargo.toml")), " = Cargo.toml");
        for text in ["", "0123456789abcdef", "/+base64==", "/no/such/folder", "-----BEGIN PRIVATE KEY-----\nA"] {
            assert_eq!(display_path(Path::new(text)), "", "{text}");
        }
    }

    #[test]
    fn passwords_in_urls_are_removed() {
        for (text, shown) in [
            ("no URL", "no URL"),
            ("see https://a.example/x", "see https://a.example/x"),
            ("unexpected 'postgres://u:p@h/d' found", "unexpected 'postgres://***@h/d' found"),
            ("a://u:p@ss@h b://v@i c", "a://***@h b://***@i c"),
        ] {
            assert_eq!(without_passwords(text), shown);
        }
    }
}
