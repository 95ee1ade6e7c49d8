//! Actors of audit entries, as clients name them in filters.

use crate::base::id::{self, Key, KeyId, Kind, Token, TokenId, User, UserId};

/// Returns whether `text` can be the actor of an audit entry: the id of a user, key or token, or the name of an account
/// on the server's machine.
pub fn is_actor(text: &str) -> bool {
    if text.split_once('_').is_some_and(|(prefix, _)| id::PREFIXES.contains(&prefix)) {
        return text.parse::<UserId>().is_ok() || text.parse::<KeyId>().is_ok() || text.parse::<TokenId>().is_ok();
    }
    is_account_name(text)
}

/// Describes the format of an actor, for error messages.
pub fn form() -> String {
    format!(
        "the id of a user, key or token, such as {}, {} or {}, or the name of an operator's account",
        User::EXAMPLE,
        Key::EXAMPLE,
        Token::EXAMPLE
    )
}

/// Checks for a POSIX portable name (XBD §3.437). Spaces and a trailing `$` are also allowed, because accounts of a
/// Windows domain can have them.
fn is_account_name(text: &str) -> bool {
    let name = text.strip_suffix('$').unwrap_or(text);
    let portable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b' ');
    !name.is_empty() && !name.starts_with('-') && name.trim() == name && name.bytes().all(portable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actor_is_an_id_or_an_account_name() {
        for text in ["usr_8f2", "key_7d1", "tok_2c9", "root", "ada.l", "_apt", "host$", "user1", "Domain Admin"] {
            assert!(is_actor(text), "{text}");
        }
        for text in
            ["", "ada@example.com", "usr_", "usr_0", "key_7D1", "proj_8f2c4", "sess_5b1", "-x", " a", "a ", "$", "é"]
        {
            assert!(!is_actor(text), "{text}");
        }
    }
}
