//! A message for the next page, such as "Key revoked". It travels in a cookie of its own, which has no secret.

use axum::http::HeaderMap;

use super::{cookies, site::Site};
use crate::base::input::text::decode_form;
use crate::console::client::call::encode;

const MAX_LENGTH: usize = 300;

/// Returns the message, if there is one.
pub fn read(headers: &HeaderMap, site: &Site) -> Option<String> {
    let text = decode_form(cookies::find(headers, &site.flash_cookie)?).ok()?;
    Some(text).filter(|text| !text.is_empty() && !text.chars().any(char::is_control))
}

/// The value of the cookie.
pub fn value(text: &str) -> String {
    encode(&text.chars().take(MAX_LENGTH).collect::<String>())
}
