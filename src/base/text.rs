//! What every text that a client writes has in common.

/// The pattern of texts without control characters (Unicode category Cc). They have no place in a
/// name, and PostgreSQL cannot store NUL.
pub const NO_CONTROL_CHARACTERS: &str = r"^[^\u0000-\u001F\u007F-\u009F]*$";

/// Whether a character is one that nobody sees, such as a space without width: two addresses that differ in
/// one look the same, and a copied one brings it along.
pub fn is_unseen(c: char) -> bool {
    matches!(
        c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
    )
}

/// The known text nearest to `given`, for a "did you mean", if one is near enough to be meant.
pub fn nearest<'a>(given: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // A client can send a long text; the distance costs the product of the lengths.
    if given.len() > 64 {
        return None;
    }
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(given, candidate), candidate))
        .min()
        .filter(|&(distance, candidate)| distance <= 1 + candidate.len() / 4)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_what_was_meant_and_nonsense_finds_nothing() {
        assert_eq!(nearest("users:raed", ["users:read", "usage:read"]), Some("users:read"));
        assert_eq!(nearest("expires", ["expires_in", "name"]), Some("expires_in"));
        assert_eq!(nearest("zzzzzz", ["users:read"]), None);
        assert_eq!(nearest(&"x".repeat(1_000_000), ["users:read"]), None);
    }
}
