//! Entity tags and preconditions (RFC 9110 §8.8.3, §13).
//!
//! Every item is [`Versioned`]: its entity tag identifies its state. The preconditions of a request are
//! [`Preconditions`]. Reads check them against the response (`auth::gate`), writes in their transaction
//! (`tx::Tx::require_match`).

use std::fmt;

use serde::Serialize;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{
    error::{Code, Error, Result},
    hex,
};

/// Item with an entity tag.
pub trait Versioned {
    /// Entity tag of the current state.
    fn etag(&self) -> EntityTag;
}

/// First 64 bits of SHA-256, in hexadecimal.
fn short_hash(value: &Value) -> String {
    // Cannot fail: a JSON value is valid JSON. Faster than `to_string`, which formats piece by piece.
    let text = serde_json::to_vec(value).unwrap_or_default();
    let hash: [u8; 32] = Sha256::digest(text).into();
    let mut text = String::with_capacity(16);
    hex::push(&mut text, hash.get(..8).unwrap_or_default());
    text
}

/// Entity tag, without its quotes. Tags of this server have the form `state` or `state.observed`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntityTag {
    is_weak: bool,
    opaque: Vec<u8>,
}

impl EntityTag {
    /// Creates the strong tag `opaque`, which must not contain quotes.
    pub fn strong(opaque: impl Into<String>) -> Self {
        Self { is_weak: false, opaque: opaque.into().into_bytes() }
    }

    /// Computes the tag of `item` as clients see it. The `observed` members, such as the time of last use, change
    /// without a write. They change the tag, so that caches notice, but not its state: otherwise an item that is in use
    /// could not be changed with `If-Match`.
    pub fn of(item: &impl Serialize, observed: &[&str]) -> Self {
        let mut members = serde_json::to_value(item).unwrap_or_default();
        let mut seen = Vec::new();
        if let Value::Object(members) = &mut members {
            seen.extend(observed.iter().filter_map(|&name| members.remove(name)));
        }
        let state = short_hash(&members);
        match seen.iter().all(Value::is_null) {
            true => Self::strong(state),
            false => Self::strong(format!("{state}.{}", short_hash(&Value::Array(seen)))),
        }
    }

    /// Parses one tag of a header.
    pub fn parse(text: &[u8]) -> Option<Self> {
        match parse_tag(text)? {
            (tag, []) => Some(tag),
            _ => None,
        }
    }

    /// Returns the part of the tag that only writes change.
    fn state(&self) -> &[u8] {
        self.opaque.split(|&byte| byte == b'.').next().unwrap_or_default()
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let weak = if self.is_weak { "W/" } else { "" };
        write!(f, "{weak}\"{}\"", String::from_utf8_lossy(&self.opaque))
    }
}

/// Parses one tag at the start of `text`. Returns the tag and the rest of the text.
fn parse_tag(text: &[u8]) -> Option<(EntityTag, &[u8])> {
    let (is_weak, text) = match text.strip_prefix(b"W/") {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let text = text.strip_prefix(b"\"")?;
    let end = text.iter().position(|&byte| byte == b'"')?;
    let (opaque, rest) = text.split_at_checked(end)?;
    let is_etagc = |&byte: &u8| byte == 0x21 || (0x23..=0x7e).contains(&byte) || byte >= 0x80;
    opaque
        .iter()
        .all(is_etagc)
        .then(|| (EntityTag { is_weak, opaque: opaque.to_vec() }, rest.get(1..).unwrap_or_default()))
}

/// Value of `If-Match` or `If-None-Match`.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Tags {
    /// `*`: any state.
    Any,
    /// Any of these tags.
    List(Vec<EntityTag>),
}

impl Tags {
    /// Parses a header value. Several lines are joined with commas.
    fn parse(text: &[u8]) -> Option<Self> {
        if text.trim_ascii() == b"*" {
            return Some(Self::Any);
        }
        let (mut tags, mut rest) = (Vec::new(), text);
        loop {
            rest = rest.trim_ascii_start();
            // Empty list elements are ignored (RFC 9110 §5.6.1.2).
            if let Some(after) = rest.strip_prefix(b",") {
                rest = after;
                continue;
            }
            if rest.is_empty() {
                break;
            }
            let (tag, after) = parse_tag(rest)?;
            rest = after.trim_ascii_start();
            if !rest.is_empty() && !rest.starts_with(b",") {
                return None;
            }
            tags.push(tag);
        }
        (!tags.is_empty()).then_some(Self::List(tags))
    }

    fn has(&self, matches: impl Fn(&EntityTag) -> bool) -> bool {
        match self {
            Self::Any => true,
            Self::List(tags) => tags.iter().any(matches),
        }
    }
}

/// Preconditions of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preconditions {
    if_match: Option<Tags>,
    if_none_match: Option<Tags>,
}

/// Result of the preconditions of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The response is sent.
    Send,
    /// The client has this state: the response is 304.
    NotModified,
}

impl Preconditions {
    /// Parses the values of `If-Match` and `If-None-Match`.
    pub fn parse(if_match: Option<&[u8]>, if_none_match: Option<&[u8]>) -> Result<Self> {
        let read = |name: &str, text: Option<&[u8]>| {
            text.map(|text| Tags::parse(text).ok_or_else(|| malformed(name))).transpose()
        };
        Ok(Self { if_match: read("If-Match", if_match)?, if_none_match: read("If-None-Match", if_none_match)? })
    }

    /// Checks a write of an item with the tag `current`. Only the state of a tag matters, not the observed part.
    pub fn check_write(&self, current: &EntityTag) -> Result<()> {
        let same_state = |tag: &EntityTag| tag.state() == current.state();
        if let Some(tags) = &self.if_match
            && !tags.has(|tag| !tag.is_weak && same_state(tag))
        {
            return Err(no_match(tags, current));
        }
        if self.if_none_match.as_ref().is_some_and(|tags| tags.has(same_state)) {
            return Err(Error::new(
                Code::PreconditionFailed,
                format!(
                    "If-None-Match contains the current ETag, which is {current}; omit the header, or send If-Match"
                ),
            ));
        }
        Ok(())
    }

    /// Checks a read whose response has the tag `current`.
    pub fn check_read(&self, current: &EntityTag) -> Result<ReadOutcome> {
        if let Some(tags) = &self.if_match
            && !tags.has(|tag| !tag.is_weak && tag == current)
        {
            return Err(no_match(tags, current));
        }
        // Weak comparison: only the opaque parts matter.
        let is_known = self.if_none_match.as_ref().is_some_and(|tags| tags.has(|tag| tag.opaque == current.opaque));
        Ok(if is_known { ReadOutcome::NotModified } else { ReadOutcome::Send })
    }
}

fn malformed(name: &str) -> Error {
    Error::new(
        Code::MalformedRequest,
        format!(
            "{name} must be * or a comma-separated list of entity tags in double quotes, such as \"7\"; send the ETag of the response unchanged"
        ),
    )
}

fn no_match(tags: &Tags, current: &EntityTag) -> Error {
    let detail = if tags.has(|tag| tag.is_weak) {
        format!(
            "If-Match has a weak ETag (W/), which never matches (RFC 9110 §13.1.1); send the strong ETag of the response unchanged. The current ETag is {current}"
        )
    } else {
        format!(
            "If-Match does not have the current ETag, which is {current}; get the item again, and repeat the change with that ETag if it still applies"
        )
    };
    Error::new(Code::PreconditionFailed, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Serialize)]
    struct Item {
        name: &'static str,
        last_used_at: Option<u32>,
    }

    impl Versioned for Item {
        fn etag(&self) -> EntityTag {
            EntityTag::of(self, &["last_used_at"])
        }
    }

    fn tag(text: &str) -> EntityTag {
        EntityTag::parse(text.as_bytes()).unwrap()
    }

    fn preconditions(if_match: Option<&str>, if_none_match: Option<&str>) -> Result<Preconditions> {
        Preconditions::parse(if_match.map(str::as_bytes), if_none_match.map(str::as_bytes))
    }

    #[test]
    fn if_match_compares_strongly() {
        let passes = |header: &str| preconditions(Some(header), None).unwrap().check_write(&tag("\"7\"")).is_ok();
        for header in
            ["\"7\"", "*", " * ", "\"6\", \"7\"", "\"6\",\"7\"", ",\"7\",,", "W/\"7\", \"7\"", "\"a,b\",\"7\""]
        {
            assert!(passes(header), "{header}");
        }
        for header in ["\"6\"", "W/\"7\"", "\"77\"", "\"\"", "\"7,\""] {
            assert!(!passes(header), "{header}");
        }
    }

    #[test]
    fn error_names_a_weak_tag_in_if_match_as_the_reason() {
        let error = preconditions(Some("W/\"7\""), None).unwrap().check_write(&tag("\"7\"")).unwrap_err();
        assert!(error.detail().contains("weak ETag (W/), which never matches"), "{}", error.detail());
    }

    #[test]
    fn if_none_match_compares_weakly() {
        for header in ["\"7\"", "W/\"7\"", "*", "\"6\", W/\"7\""] {
            let given = preconditions(None, Some(header)).unwrap();
            assert_eq!(given.check_read(&tag("\"7\"")).unwrap(), ReadOutcome::NotModified, "{header}");
            assert!(given.check_write(&tag("\"7\"")).is_err(), "{header}");
        }
        let given = preconditions(None, Some("\"6\", W/\"8\"")).unwrap();
        assert_eq!(given.check_read(&tag("\"7\"")).unwrap(), ReadOutcome::Send);
        assert!(given.check_write(&tag("\"7\"")).is_ok());
    }

    #[test]
    fn malformed_condition_is_rejected() {
        for header in [
            "",
            " ",
            ",",
            "7",
            "\"7",
            "7\"",
            "\"7\" \"8\"",
            "w/\"7\"",
            "*, \"7\"",
            "\"7\", *",
            "\"a b\"",
            "\"7\";",
            "'7'",
        ] {
            assert_eq!(preconditions(Some(header), None).unwrap_err().code(), Code::MalformedRequest, "{header:?}");
            assert_eq!(preconditions(None, Some(header)).unwrap_err().code(), Code::MalformedRequest, "{header:?}");
        }
    }

    #[test]
    fn observed_members_change_the_tag_but_not_its_state() {
        let unused = Item { name: "a", last_used_at: None }.etag();
        let used = Item { name: "a", last_used_at: Some(1) }.etag();
        let renamed = Item { name: "b", last_used_at: Some(1) }.etag();
        assert_ne!(unused, used);
        let seen = preconditions(Some(&unused.to_string()), None).unwrap();
        assert!(seen.check_write(&used).is_ok());
        assert!(seen.check_write(&renamed).is_err());
        let seen = preconditions(None, Some(&unused.to_string())).unwrap();
        assert_eq!(seen.check_read(&used).unwrap(), ReadOutcome::Send);
    }
}
