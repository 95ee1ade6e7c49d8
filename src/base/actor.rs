//! Who can have done something, as clients name them to filter by.

use super::id::{self, Key, KeyId, Kind, Token, TokenId, User, UserId};

/// Whether an entry of the audit trail can name `text` as its actor: the id of a user, a key or a token, or the name of an
/// account on the server's machine.
pub fn is_actor(text: &str) -> bool {
    if text.split_once('_').is_some_and(|(prefix, _)| id::PREFIXES.contains(&prefix)) {
        return text.parse::<UserId>().is_ok() || text.parse::<KeyId>().is_ok() || text.parse::<TokenId>().is_ok();
    }
    is_account_name(text)
}

/// How the filter is described.
pub fn form() -> String {
    format!(
        "the id of a user, key or token, such as {}, {} or {}, or the name of an operator's account",
        User::EXAMPLE,
        Key::EXAMPLE,
        Token::EXAMPLE
    )
}

/// POSIX's portable names (XBD §3.437), with the spaces and the `$` at the end that accounts of a Windows domain may have.
fn is_account_name(text: &str) -> bool {
    let name = text.strip_suffix('$').unwrap_or(text);
    let portable = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-' | b' ');
    !name.is_empty() && !name.starts_with('-') && name.trim() == name && name.bytes().all(portable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_actor_is_an_id_or_the_name_of_an_account() {
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
