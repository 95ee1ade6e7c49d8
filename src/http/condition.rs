//! Conditional requests (RFC 9110 §13): a change is made only to the state that the client has seen.

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};

use super::describe::{Argument, Operation};
use crate::base::error::{Code, Error, Result};

/// The `If-Match` header.
#[derive(Debug)]
pub struct IfMatch(Option<String>);

impl IfMatch {
    /// Whether the state with the entity tag `etag`, in its quotes, is one that the client means.
    pub fn require(&self, etag: &str) -> Result<()> {
        let Some(wanted) = &self.0 else { return Ok(()) };
        // Weak tags match nothing here (RFC 9110 §13.1.1).
        if wanted == "*" || wanted.split(',').any(|tag| tag.trim() == etag) {
            return Ok(());
        }
        Err(Error::new(
            Code::PreconditionFailed,
            format!(
                "It has changed since: its ETag is {etag} now; get it again, and repeat the change with that ETag if it still holds"
            ),
        ))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for IfMatch {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self> {
        // Several lines of a list header are one list (RFC 9110 §5.3).
        let lines: Vec<&str> =
            parts.headers.get_all(header::IF_MATCH).iter().map(|value| value.to_str().unwrap_or_default()).collect();
        Ok(Self((!lines.is_empty()).then(|| lines.join(","))))
    }
}

impl Argument for IfMatch {
    fn describe(operation: &mut Operation) {
        operation.conditional = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_is_matched_by_its_own_strong_tag() {
        let matches = |header: &str| IfMatch(Some(header.into())).require("\"7\"").is_ok();
        for header in ["\"7\"", "*", "\"6\", \"7\"", "\"6\",\"7\""] {
            assert!(matches(header), "{header}");
        }
        for header in ["\"6\"", "W/\"7\"", "7", "", "\"77\""] {
            assert!(!matches(header), "{header}");
        }
        assert!(IfMatch(None).require("\"7\"").is_ok());
    }
}
