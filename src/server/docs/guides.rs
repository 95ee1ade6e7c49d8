//! The guides: `docs/*.md`, and the quick start of README. `build.rs` renders and compresses them, and writes the list.

use crate::http::{request::extract::KnownValue, response::asset::Asset};

const MEDIA_TYPE: &str = "text/html; charset=utf-8";

/// Page that lists the guides: `docs/README.md`.
pub const INDEX: Asset =
    Asset { media_type: MEDIA_TYPE, gzip: include_bytes!(concat!(env!("OUT_DIR"), "/docs/guide-README.html.gz")) };

/// Search index of the guides: a JSON array, compressed with gzip.
pub const SEARCH_INDEX: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/docs/guides.json.gz"));

/// A guide.
#[derive(Clone, Copy, Debug)]
pub struct Guide {
    name: &'static str,
    gzip: &'static [u8],
}

impl Guide {
    /// Returns the page.
    pub const fn asset(self) -> Asset {
        Asset { media_type: MEDIA_TYPE, gzip: self.gzip }
    }
}

impl KnownValue for Guide {
    const NOUN: &'static str = "a guide";
    const ALL: &'static [Self] = include!(concat!(env!("OUT_DIR"), "/docs/guides.rs"));
    const LIST: Option<&'static str> = Some("/docs/guides");

    fn as_str(self) -> &'static str {
        self.name
    }
}
