//! Content negotiation (RFC 9110 §12).

use axum::http::{HeaderMap, HeaderName};

/// Returns the values of a weighted list such as `Accept`, in lower case, each with its weight (RFC 9110 §12.4.2). The
/// default weight is 1; a malformed weight counts as 0.
pub fn weighted(headers: &HeaderMap, name: &HeaderName) -> impl Iterator<Item = (String, f32)> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let value = parts.next().unwrap_or_default().to_ascii_lowercase();
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        (value, weight.map_or(1.0, |weight| weight.parse().unwrap_or(0.0)))
    })
}
