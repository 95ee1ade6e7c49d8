//! Canonical form of a request target: different percent-encodings of a target are equal (RFC 3986 §6.2.2).

use std::borrow::Cow;

use form_urlencoded::byte_serialize;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, percent_encode};

/// Characters that stay encoded in a path. Otherwise, an encoded `/` would look like the end of a segment.
const ENCODED: &AsciiSet = &CONTROLS.add(b' ').add(b'/').add(b'%').add(b'?').add(b'#');

/// Returns the decoded segments of a path.
pub fn segments(path: &str) -> impl Iterator<Item = Cow<'_, [u8]>> {
    path.split('/').map(|segment| percent_decode_str(segment).into())
}

/// Decodes and encodes each segment of a path. The result is the same for all spellings of a path.
pub fn canonical_path(path: &str) -> Cow<'_, str> {
    if path.is_ascii() && !path.contains('%') {
        return Cow::Borrowed(path);
    }
    let parts: Vec<String> = segments(path).map(|segment| percent_encode(&segment, ENCODED).to_string()).collect();
    Cow::Owned(parts.join("/"))
}

/// Canonical form of a query string, made of its decoded parameters. The result is the same for all spellings.
#[derive(Debug, Default)]
pub struct CanonicalQuery(String);

impl CanonicalQuery {
    /// Adds a decoded parameter.
    pub fn push(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(byte_serialize(name.as_bytes()));
        self.0.push('=');
        self.0.extend(byte_serialize(value.as_bytes()));
    }

    /// Returns the query string.
    pub fn into_text(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical_query(query: &str) -> String {
        let mut canonical = CanonicalQuery::default();
        form_urlencoded::parse(query.as_bytes()).for_each(|(name, value)| canonical.push(&name, &value));
        canonical.into_text()
    }

    #[test]
    fn all_spellings_of_a_target_are_equal() {
        for path in ["/v1/keys/key_7d1", "/v1/keys/key%5F7d1", "/v1/keys/key%5f7d1", "/v1/keys/%6B%65%79_7d1"] {
            assert_eq!(canonical_path(path), "/v1/keys/key_7d1", "{path}");
        }
        assert_eq!(canonical_path("/v1/providers/a%C3%A9"), canonical_path("/v1/providers/a\u{e9}"));
        for query in ["project_id=proj_1", "project%5Fid=proj%5f1", "%70roject_id=proj_1"] {
            assert_eq!(canonical_query(query), "project_id=proj_1", "{query}");
        }
    }

    #[test]
    fn different_targets_stay_different() {
        let paths =
            ["/v1/keys/a/b", "/v1/keys/a%2Fb", "/v1/keys/a%252Fb", "/v1/keys/a%3Fb", "/v1/keys/a%23b", "/v1/keys/a"];
        let mut canonical: Vec<_> = paths.iter().map(|path| canonical_path(path)).collect();
        canonical.sort();
        canonical.dedup();
        assert_eq!(canonical.len(), paths.len(), "{canonical:?}");
        assert_ne!(canonical_query("a=1%262"), canonical_query("a=1&2"));
    }
}
