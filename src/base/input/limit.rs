//! Rate limits.

use std::{fmt, num::NonZeroU32, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Maximum number of requests in a period, in bursts or evenly distributed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// Number of requests, from 1 to 1000000.
    #[schemars(with = "u32", range(min = 1, max = 1_000_000), example = 600)]
    pub requests: NonZeroU32,
    /// Length of the period in seconds, from 1 to 86400.
    #[schemars(with = "u32", range(min = 1, max = 86_400), example = 60)]
    pub per_seconds: NonZeroU32,
}

impl RateLimit {
    /// Creates a limit. Both numbers are at least 1.
    pub const fn new(requests: u32, per_seconds: u32) -> Self {
        const fn at_least_one(number: u32) -> NonZeroU32 {
            match NonZeroU32::new(number) {
                Some(number) => number,
                None => NonZeroU32::MIN,
            }
        }
        Self { requests: at_least_one(requests), per_seconds: at_least_one(per_seconds) }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.requests, self.per_seconds)
    }
}

/// Rate limits that the operator sets.
#[derive(Clone, Copy, Debug)]
pub struct LimitSettings {
    /// Limit for each credential without its own limit.
    pub credentials: Option<RateLimit>,
    /// Limit on failed authentications per address.
    pub failures: RateLimit,
    /// Limit on sign-in attempts per address.
    pub sign_ins: RateLimit,
}

impl Default for LimitSettings {
    fn default() -> Self {
        Self { credentials: None, failures: RateLimit::new(100, 60), sign_ins: RateLimit::new(30, 60) }
    }
}

/// Error for a text that is not a rate limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be requests and seconds, such as 600/60")]
pub struct ParseRateLimitError;

impl FromStr for RateLimit {
    type Err = ParseRateLimitError;

    fn from_str(text: &str) -> Result<Self, ParseRateLimitError> {
        let (requests, per_seconds) = text.split_once('/').ok_or(ParseRateLimitError)?;
        let number = |text: &str| text.trim().parse::<NonZeroU32>().map_err(|_| ParseRateLimitError);
        Ok(Self { requests: number(requests)?, per_seconds: number(per_seconds)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limit_is_requests_per_seconds() {
        assert_eq!("600/60".parse(), Ok(RateLimit::new(600, 60)));
        assert_eq!(RateLimit::new(600, 60).to_string(), "600/60");
        for text in ["", "600", "0/60", "600/0", "-1/60", "a/b", "600/60/1"] {
            assert!(text.parse::<RateLimit>().is_err(), "{text:?}");
        }
    }
}
