//! Parses the `Retry-After` header of a receiver's response: seconds or an HTTP-date (RFC 9110 §10.2.3).

use std::time::{Duration, SystemTime};

use hyper::header::{DATE, HeaderMap, RETRY_AFTER};

/// Delay that a response with these headers requests.
pub fn from_headers(headers: &HeaderMap) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    parse(text(RETRY_AFTER)?, text(DATE), SystemTime::now())
}

/// Dates have three formats (RFC 9110 §5.6.7). They are relative to the receiver's own `Date`, because its clock may
/// differ from this server's.
fn parse(text: &str, date: Option<&str>, now: SystemTime) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number above 64 bits saturates; the caller caps the delay.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let until = httpdate::parse_http_date(text).ok()?;
    let now = date.and_then(|date| httpdate::parse_http_date(date.trim()).ok()).unwrap_or(now);
    Some(until.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT.
    const EXAMPLE: u64 = 784_111_777;

    fn seconds(text: &str, date: Option<&str>) -> Option<u64> {
        parse(text, date, UNIX_EPOCH + Duration::from_secs(EXAMPLE - 90)).map(|wait| wait.as_secs())
    }

    #[test]
    fn seconds_and_all_three_date_formats_are_parsed() {
        for text in ["Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT", "Sun Nov  6 08:49:37 1994"] {
            assert_eq!(seconds(text, None), Some(90), "{text}");
        }
        for (text, wait) in [("0", 0), ("120", 120), (" 7 ", 7), ("99999999999999999999999", u64::MAX)] {
            assert_eq!(seconds(text, None), Some(wait), "{text}");
        }
    }

    #[test]
    fn date_is_relative_to_the_receivers_clock_and_a_past_date_means_now() {
        let at = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(seconds(at, Some("Sun, 06 Nov 1994 08:49:07 GMT")), Some(30));
        assert_eq!(seconds(at, Some("Sun, 06 Nov 1994 09:49:37 GMT")), Some(0));
        assert_eq!(seconds(at, Some("junk")), Some(90));
    }

    #[test]
    fn invalid_values_are_ignored() {
        for text in ["", " ", "-1", "+5", "1.5", "soon", "1994-11-06T08:49:37Z", "120 s"] {
            assert_eq!(seconds(text, None), None, "{text:?}");
        }
    }
}
