//! Shared HTTP code: extractors, responses, layers and descriptions of routes. It does not depend on any slice.

pub mod api;
pub mod catalog;
pub mod describe;
pub mod event_schema;
pub mod layers;
pub mod request;
pub mod response;

use std::{fmt, ops::Deref, sync::Arc};

/// URL where clients reach this server, without a trailing slash.
#[derive(Clone, Debug)]
pub struct PublicUrl(pub Arc<str>);

impl Deref for PublicUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PublicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}
