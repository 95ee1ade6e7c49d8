//! Parser of `.env`: one `KEY=value` per line, taken literally.
//!
//! - Empty lines and lines that begin with `#` are skipped. `export KEY=value` means `KEY=value`.
//! - Spaces around the key and around the value are ignored.
//! - A value in single or double quotes is the text between them. There are no escapes, and nothing is expanded: `$`,
//!   `\` and `` ` `` have no special meaning. After the closing quote only a comment may follow.
//! - A value without quotes ends at the end of the line, or at a `#` that follows a space.
//!
//! No error shows a value, because a malformed line may contain a password.

use std::collections::HashMap;

/// A malformed line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}{}: {why}", key.as_deref().map(|key| format!(" ({key})")).unwrap_or_default())]
pub struct DotenvError {
    /// Line number, from 1.
    line: usize,
    /// The key, if the line has one.
    key: Option<String>,
    /// What is wrong, and what to write.
    why: String,
}

/// Parses the content of a `.env` file.
pub fn parse(bytes: &[u8]) -> Result<Vec<(String, String)>, DotenvError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut variables = Vec::new();
    let mut lines_by_key = HashMap::new();
    for (line, bytes) in (1..).zip(bytes.split(|byte| *byte == b'\n')) {
        let refused = |key: Option<&str>, why: String| DotenvError { line, key: key.map(str::to_owned), why };
        let text =
            std::str::from_utf8(bytes).map_err(|_| refused(None, "is not UTF-8; save the file as UTF-8".into()))?;
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (key, value) = text.split_once('=').ok_or_else(|| refused(None, "has no '='; write KEY=value".into()))?;
        let key = without_export(key.trim());
        if !is_key(key) {
            let why =
                "the text before '=' is not a variable name; write KEY=value, with a key of letters, digits and '_'";
            return Err(refused(None, why.into()));
        }
        let value = literal(value.trim()).map_err(|why| refused(Some(key), why.into()))?;
        if let Some(first) = lines_by_key.insert(key.to_owned(), line) {
            return Err(refused(Some(key), format!("line {first} sets the same key; remove one of them")));
        }
        variables.push((key.to_owned(), value.to_owned()));
    }
    Ok(variables)
}

fn without_export(key: &str) -> &str {
    match key.strip_prefix("export") {
        Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
        _ => key,
    }
}

fn is_key(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && !text.is_empty()
}

/// Returns the value that `text` denotes.
fn literal(text: &str) -> Result<&str, &'static str> {
    if text.contains('\0') {
        return Err("the value has a NUL character; remove it");
    }
    if let Some(quote) = text.chars().next().filter(|first| matches!(first, '\'' | '"')) {
        let quoted = text.strip_prefix(quote).unwrap_or_default();
        let (value, rest) = quoted
            .split_once(quote)
            .ok_or("the value begins with a quote that does not end on this line; close it, or put it in the other kind of quotes")?;
        let rest = rest.trim_start();
        return if rest.is_empty() || rest.starts_with('#') {
            Ok(value)
        } else {
            Err("text follows the closing quote; put a value that contains one kind of quotes in the other kind")
        };
    }
    let comment = text.match_indices('#').find(|(at, _)| text.get(..*at).is_some_and(ends_in_space));
    Ok(comment.and_then(|(at, _)| text.get(..at)).unwrap_or(text).trim_end())
}

fn ends_in_space(text: &str) -> bool {
    text.is_empty() || text.ends_with([' ', '\t'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(line: &str) -> Result<String, String> {
        let variables = parse(line.as_bytes()).map_err(|error| error.to_string())?;
        assert_eq!(variables.len(), 1, "{line}");
        assert_eq!(variables[0].0, "KEY", "{line}");
        Ok(variables[0].1.clone())
    }

    #[test]
    fn values_are_literal() {
        for (line, value) in [
            ("KEY=value", "value"),
            ("  KEY =  value  ", "value"),
            ("export KEY=value", "value"),
            ("export\tKEY = value\r", "value"),
            ("KEY=", ""),
            ("KEY=''", ""),
            ("KEY=# a comment", ""),
            ("KEY=value # a comment", "value"),
            ("KEY=p#ss", "p#ss"),
            ("KEY='p #ss' # a comment", "p #ss"),
            ("KEY=\"p #ss\"#a comment", "p #ss"),
            ("KEY=pa$HOME${HOME}$(id)`id`", "pa$HOME${HOME}$(id)`id`"),
            ("KEY=\"pa$HOME\\n\\\"", "pa$HOME\\n\\"),
            ("KEY='it\\'", "it\\"),
            ("KEY=\"it's\"", "it's"),
            ("KEY=it's", "it's"),
            ("KEY=a b  c", "a b  c"),
            ("KEY=a=b", "a=b"),
            ("KEY=naïve", "naïve"),
            ("\u{feff}KEY=value", "value"),
        ] {
            assert_eq!(one(line).as_deref(), Ok(value), "{line}");
        }
        let file = "# a comment\n\nA=1\r\n  # another\nB='2'\n";
        let expected = [("A", "1"), ("B", "2")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(parse(file.as_bytes()).unwrap(), expected);
        assert_eq!(parse(b"").unwrap(), []);
    }

    #[test]
    fn errors_name_line_and_key_but_never_show_the_value() {
        for (file, says) in [
            ("A=1\nsecret", "line 2: has no '='"),
            ("A=1\npostgres://u:secret@h/d?a=b", "line 2: the text before '='"),
            ("DATABASE_URL postgres://u:secret@h/d?sslmode=x", "line 1: the text before '='"),
            ("=secret", "line 1: the text before '='"),
            ("1KEY=secret", "line 1: the text before '='"),
            ("my-key=secret", "line 1: the text before '='"),
            ("KEY='secret", "line 1 (KEY): the value begins with a quote"),
            ("KEY=\"secret", "line 1 (KEY): the value begins with a quote"),
            ("KEY='sec'ret", "line 1 (KEY): text follows the closing quote"),
            ("KEY=\"sec\\\"ret\"", "line 1 (KEY): text follows the closing quote"),
            ("KEY=secret\0", "line 1 (KEY): the value has a NUL"),
            ("KEY=1\n\nexport KEY=secret", "line 3 (KEY): line 1 sets the same key"),
        ] {
            let error = parse(file.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(says), "{file}: {error}");
            assert!(!error.contains("secret"), "{file}: {error}");
        }
        assert_eq!(parse(b"A=1\nB=\xff").unwrap_err().to_string(), "line 2: is not UTF-8; save the file as UTF-8");
    }
}
