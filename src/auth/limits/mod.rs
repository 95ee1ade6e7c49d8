//! Rate limits: uses of a credential, and failures and sign-ins from an address. Each node counts on its own, so N
//! nodes admit at most N times a limit. The algorithm is GCRA, from the `governor` library. [`lookups`] limits database
//! reads for unknown secrets, and [`quota`] enforces hard monthly limits.

pub mod budget;
pub mod lookup_batch;
pub mod lookups;
pub mod quota;

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use governor::{
    NotUntil, Quota, RateLimiter,
    clock::Clock as _,
    middleware::{StateInformationMiddleware, StateSnapshot},
    state::keyed::DashMapStateStore,
};

use super::bearer::{Authenticator, CacheMiss};
use crate::base::{
    error::{Code, Error, Result},
    identity::{caller::Caller, secret::Secret, subject::Subject},
    input::limit::{LimitSettings, RateLimit},
    runtime::clock::Clock,
};
use budget::Budget;
use lookups::LookupLimits;

/// Maximum number of tracked addresses. Beyond that, idle addresses are removed first.
const MAX_ADDRESSES: usize = 100_000;

type Limiter<K> = RateLimiter<K, DashMapStateStore<K>, LimitClock, StateInformationMiddleware>;

/// Monotonic clock for limits: changes of the wall clock do not affect it.
#[derive(Clone, Debug)]
struct LimitClock(Clock);

impl governor::clock::Clock for LimitClock {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

/// Limits of one node.
#[derive(Debug)]
pub struct RateLimiters {
    settings: LimitSettings,
    clock: LimitClock,
    /// One limiter for each limit that a credential has.
    credentials: RwLock<HashMap<RateLimit, Arc<Limiter<Subject>>>>,
    failures: Budget<IpAddr>,
    lookups: LookupLimits,
    sign_ins: Limiter<IpAddr>,
}

impl RateLimiters {
    /// Limits with these settings.
    pub fn new(settings: LimitSettings, clock: Clock) -> Self {
        let failures = Budget::new(settings.failures, MAX_ADDRESSES, clock.clone());
        let lookups = LookupLimits::new(clock.clone());
        let clock = LimitClock(clock);
        Self {
            failures,
            lookups,
            sign_ins: limiter(settings.sign_ins, &clock),
            settings,
            clock,
            credentials: RwLock::default(),
        }
    }

    /// Counts one use of the caller's credential. If a limit applies, returns its state and whether this use exceeds
    /// it. Tokens below a key with a limit share it, because a key cannot grant more than it has.
    pub fn record_use(&self, caller: &Caller) -> Option<RateLimitStatus> {
        let (subject, own) = match caller {
            Caller::Session { id, .. } => (Subject::Session(*id), None),
            Caller::Key { id, bounds, .. } => (Subject::Key(*id), bounds.rate_limit),
            Caller::Token { id, bounds, .. } => match (bounds.key, bounds.rate_limit) {
                (Some(key), Some(limit)) => (Subject::Key(key), Some(limit)),
                _ => (Subject::Token(*id), None),
            },
        };
        let limit = own.or(self.settings.credentials)?;
        let outcome = self.credential_limiter(limit).check_key(&subject);
        Some(RateLimitStatus::new(limit, outcome, self.clock.now()))
    }

    /// Counts one failed authentication from `address`. An error after too many.
    pub fn record_failure(&self, address: Option<IpAddr>) -> Result<()> {
        let Some(address) = address else { return Ok(()) };
        self.failures.take(network_of(address)).map_err(too_many_failures)
    }

    /// Looks up a credential that is not cached, within the limits on unknown credentials. Also counts a failure from
    /// `address`.
    pub async fn look_up(
        &self,
        authenticator: &Authenticator,
        secret: &Secret,
        miss: CacheMiss,
        address: Option<IpAddr>,
    ) -> Result<Arc<Caller>> {
        self.lookups.look_up(authenticator, (secret, miss), &self.failures, address).await
    }

    /// Limits on lookups, with their counters.
    pub fn lookups(&self) -> &LookupLimits {
        &self.lookups
    }

    /// Counts one sign-in attempt from `address`. An error after too many.
    pub fn record_sign_in(&self, address: Option<IpAddr>) -> Result<()> {
        self.check_address(&self.sign_ins, address, "Too many sign-in attempts came from your address")
    }

    fn check_address(&self, limiter: &Limiter<IpAddr>, address: Option<IpAddr>, what: &str) -> Result<()> {
        let Some(address) = address else { return Ok(()) };
        let address = network_of(address);
        if limiter.len() >= MAX_ADDRESSES {
            limiter.retain_recent();
            if limiter.len() >= MAX_ADDRESSES {
                // So many addresses at the same time are an attack. Bounded memory matters more than this limit.
                return Ok(());
            }
        }
        limiter.check_key(&address).map(drop).map_err(|until| too_many(what, until.wait_time_from(self.clock.now())))
    }

    fn credential_limiter(&self, limit: RateLimit) -> Arc<Limiter<Subject>> {
        let read = self.credentials.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(limiter) = read.get(&limit) {
            return Arc::clone(limiter);
        }
        drop(read);
        let mut write = self.credentials.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(write.entry(limit).or_insert_with(|| Arc::new(limiter(limit, &self.clock))))
    }

    /// Removes state that does not limit anyone any more. Must be called periodically.
    pub fn sweep(&self) {
        self.failures.sweep();
        self.sign_ins.retain_recent();
        let mut credentials = self.credentials.write().unwrap_or_else(PoisonError::into_inner);
        credentials.retain(|_, limiter| {
            limiter.retain_recent();
            !limiter.is_empty()
        });
    }
}

fn limiter<K: std::hash::Hash + Eq + Clone>(limit: RateLimit, clock: &LimitClock) -> Limiter<K> {
    let period = Duration::from_secs(limit.per_seconds.get().into()) / limit.requests.get();
    // A period of zero is a limit that cannot be reached.
    let quota = Quota::with_period(period).unwrap_or_else(|| Quota::per_second(limit.requests));
    RateLimiter::dashmap_with_clock(quota.allow_burst(limit.requests), clock.clone()).with_middleware()
}

/// The error after too many failures from an address that may not fail again for `wait`.
pub(super) fn too_many_failures(wait: Duration) -> Error {
    too_many("Too many requests from your address had no valid credential", wait)
}

fn too_many(what: &str, wait: Duration) -> Error {
    let seconds = ceil_seconds(wait);
    let detail = format!("{what}; wait {seconds} s, and check the credential before you send it again");
    Error::new(Code::RateLimited, detail).retry_after(seconds)
}

/// The /64 of an IPv6 address, because a client with one address usually has the whole network.
pub(super) fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

/// State of a rate limit after a use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimitStatus {
    limit: RateLimit,
    remaining: u32,
    /// Time until the whole limit is available again.
    reset: Duration,
    /// Time until the next use is admitted, if this one was rejected.
    wait: Option<Duration>,
}

impl RateLimitStatus {
    fn new(limit: RateLimit, outcome: std::result::Result<StateSnapshot, NotUntil<Duration>>, now: Duration) -> Self {
        let (remaining, wait) = match outcome {
            Ok(state) => (state.remaining_burst_capacity(), None),
            Err(until) => (0, Some(until.wait_time_from(now))),
        };
        let used = f64::from(limit.requests.get() - remaining.min(limit.requests.get()));
        let reset = f64::from(limit.per_seconds.get()) * used / f64::from(limit.requests.get());
        Self { limit, remaining, reset: Duration::from_secs_f64(reset), wait }
    }

    /// An error if this use exceeds the limit.
    pub fn require(&self) -> Result<()> {
        let Some(wait) = self.wait else { return Ok(()) };
        let (seconds, RateLimit { requests, per_seconds }) = (ceil_seconds(wait), self.limit);
        let detail = format!(
            "This credential can make {requests} requests per {per_seconds} s; wait {seconds} s, then send the request again"
        );
        Err(Error::new(Code::RateLimited, detail).retry_after(seconds))
    }

    /// Writes the `RateLimit-Policy` and `RateLimit` headers (draft-ietf-httpapi-ratelimit-headers).
    pub fn write(&self, headers: &mut HeaderMap) {
        let RateLimit { requests, per_seconds } = self.limit;
        let policy = format!("\"default\";q={requests};w={per_seconds}");
        let rate_limit = format!("\"default\";r={};t={}", self.remaining, ceil_seconds(self.reset));
        for (name, value) in [("ratelimit-policy", policy), ("ratelimit", rate_limit)] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
    }
}

fn ceil_seconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::id::Id;

    fn session() -> Caller {
        Caller::Session { id: Id::from_u128(1), user_id: Id::from_u128(1), console: None }
    }

    #[test]
    fn limit_admits_its_burst_and_then_its_rate() {
        let clock = Clock::system();
        let settings = LimitSettings { credentials: Some(RateLimit::new(3, 30)), ..LimitSettings::default() };
        let limits = RateLimiters::new(settings, clock.clone());
        for remaining in [2, 1, 0] {
            let rate_limit = limits.record_use(&session()).unwrap();
            assert_eq!((rate_limit.remaining, rate_limit.wait), (remaining, None));
        }
        let beyond = limits.record_use(&session()).unwrap();
        assert_eq!(beyond.require().unwrap_err().code(), Code::RateLimited);
        clock.advance(Duration::from_secs(11));
        assert!(limits.record_use(&session()).unwrap().require().is_ok());
        assert!(limits.record_use(&session()).unwrap().require().is_err());
    }

    #[test]
    fn address_with_too_many_failures_must_wait_and_other_addresses_need_not() {
        let clock = Clock::system();
        let limits = RateLimiters::new(
            LimitSettings { failures: RateLimit::new(2, 60), ..LimitSettings::default() },
            clock.clone(),
        );
        let fail = |address: &str| limits.record_failure(Some(address.parse().unwrap()));
        assert!(fail("2001:db8::1").is_ok() && fail("2001:db8::2").is_ok());
        assert!(fail("2001:db8::3").is_err(), "one /64 counts as one address");
        assert!(fail("2001:db8:0:1::1").is_ok());
        assert!(fail("203.0.113.7").is_ok());
        clock.advance(Duration::from_secs(200));
        limits.sweep();
        assert_eq!(limits.failures.len(), 0);
        assert!(fail("2001:db8::3").is_ok());
    }
}
