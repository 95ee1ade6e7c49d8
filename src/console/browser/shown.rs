//! Which responses with a secret were shown.
//!
//! A form carries an idempotency key, so a double click or a reload gets the same stored response, secret included. A
//! double click must show it, because the browser discards the first response. A reload hours later must not: the
//! secret would be in the history of the browser.

use std::time::{Duration, Instant};

use quick_cache::sync::Cache;
use sha2::{Digest, Sha256};

/// Time after the first response in which a repeated one shows the secret too.
const REPEAT: Duration = Duration::from_secs(30);
/// Number of responses that are remembered. A response that is forgotten is not shown again.
const CAPACITY: usize = 1000;

/// Responses that were shown by this server.
#[derive(Debug)]
pub struct ShownSecrets(Cache<[u8; 32], Instant>);

impl Default for ShownSecrets {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl ShownSecrets {
    /// Whether the response to the write with this idempotency key may show its secret. `replayed`: whether it is a
    /// stored response.
    pub fn may_show(&self, key: &str, replayed: bool) -> bool {
        self.may_show_at(key, replayed, Instant::now())
    }

    fn may_show_at(&self, key: &str, replayed: bool, now: Instant) -> bool {
        let hash: [u8; 32] = Sha256::digest(key).into();
        if !replayed {
            self.0.insert(hash, now);
            return true;
        }
        self.0.get(&hash).is_some_and(|first| now.duration_since(first) <= REPEAT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_is_shown_to_a_double_click_but_not_to_a_later_reload() {
        let (shown, now) = (ShownSecrets::default(), Instant::now());
        assert!(!shown.may_show_at("a", true, now), "another server or an earlier start showed it");
        assert!(shown.may_show_at("a", false, now));
        assert!(shown.may_show_at("a", true, now + Duration::from_secs(2)));
        assert!(!shown.may_show_at("a", true, now + Duration::from_secs(31)));
        assert!(!shown.may_show_at("b", true, now));
    }
}
