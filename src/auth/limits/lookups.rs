//! Limits the database load of unknown credentials.
//!
//! A secret with a valid checksum may not exist, and only the database can tell. Before each lookup of a credential
//! that is not cached, one use is therefore taken from two budgets: the failures of its address, and the failed lookups
//! of all addresses together. A lookup that finds a valid credential returns both.
//!
//! * While both budgets have a use left, the lookup runs immediately, in its own transaction.
//! * Otherwise the secret joins the next [batch](super::lookup_batch): one statement that looks up all waiting secrets.
//!   A flood thus costs a bounded number of transactions per second, however many addresses it comes from, and a valid
//!   credential during a flood waits only for one batch.
//! * A second request for a secret whose lookup is in progress also joins the batch, which contains each secret once,
//!   and then finds the credential in the cache. This needs a cache: without one, each request reads the database.
//!
//! Nothing is remembered about unknown secrets. Both paths read the database after the request has arrived, so they see
//! every credential that was created or changed before.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use dashmap::DashSet;
use tokio::sync::Semaphore;

use super::{
    budget::Budget,
    lookup_batch::{Batches, LookupResult},
    network_of, too_many_failures,
};
use crate::{
    auth::bearer::{Authenticator, CacheMiss, unknown_credential},
    base::{
        error::{Code, Result},
        identity::{
            caller::Caller,
            secret::{Secret, SecretHash},
        },
        input::limit::RateLimit,
        runtime::clock::{Clock, since_boot},
    },
    metrics::exposition::{Collector, Exposition},
};

/// Failed lookups of all addresses together that run in their own transactions: a burst of 100, then 20 per second.
const GLOBAL_LIMIT: RateLimit = RateLimit::new(100, 5);
/// Maximum number of concurrent lookups that only determine why a credential is not valid any more.
const MAX_EXPLANATIONS: usize = 2;

/// Limits on the lookups of one node.
#[derive(Debug)]
pub struct LookupLimits {
    global: Budget<()>,
    /// Secrets whose lookups are in progress in their own transactions.
    in_flight: Arc<DashSet<SecretHash>>,
    batches: Batches,
    explanations: Semaphore,
    single: AtomicU64,
    batched: AtomicU64,
}

/// A lookup in progress. Removed on drop, because its request can be canceled.
struct LookupInFlight {
    hash: SecretHash,
    set: Arc<DashSet<SecretHash>>,
}

impl Drop for LookupInFlight {
    fn drop(&mut self) {
        self.set.remove(&self.hash);
    }
}

impl LookupLimits {
    /// Limits that use this clock.
    pub fn new(clock: Clock) -> Self {
        Self {
            global: Budget::new(GLOBAL_LIMIT, 1, clock),
            in_flight: Arc::default(),
            batches: Batches::default(),
            explanations: Semaphore::new(MAX_EXPLANATIONS),
            single: AtomicU64::new(0),
            batched: AtomicU64::new(0),
        }
    }

    /// Looks up a credential that is not cached, for a client at `address`. `failures` is the budget of failures by
    /// address.
    pub async fn look_up(
        &self,
        authenticator: &Authenticator,
        (secret, miss): (&Secret, CacheMiss),
        failures: &Budget<IpAddr>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Caller>> {
        let network = address.map(network_of);
        let of_address = network.map_or(Ok(()), |network| failures.take(network));
        let found = self.look_up_limited(authenticator, (secret, miss), of_address.is_ok()).await;
        // A failure keeps its use. So does a canceled request, because its lookup may have run.
        let failed = found.as_ref().is_err_and(|error| is_failure(error.code()));
        match (of_address, network) {
            (Err(wait), _) if failed => return Err(too_many_failures(wait)),
            (Ok(()), Some(network)) if !failed => failures.refund(network),
            _ => {}
        }
        found
    }

    async fn look_up_limited(
        &self,
        authenticator: &Authenticator,
        (secret, miss): (&Secret, CacheMiss),
        is_address_allowed: bool,
    ) -> Result<Arc<Caller>> {
        let hash = miss.hash();
        let alone = if is_address_allowed { self.begin(authenticator, hash.clone()) } else { None };
        if let Some(_in_flight) = alone.filter(|_| self.global.take(()).is_ok()) {
            self.single.fetch_add(1, Ordering::Relaxed);
            let found = miss.read_through(authenticator, secret).await;
            if !found.as_ref().is_err_and(|error| is_failure(error.code())) {
                self.global.refund(());
            }
            return found;
        }
        self.batched.fetch_add(1, Ordering::Relaxed);
        match self.batches.look_up(authenticator, secret.kind(), hash).await? {
            LookupResult::Active => match authenticator.cached(secret) {
                Ok(caller) => Ok(caller),
                Err(miss) => miss.read_through(authenticator, secret).await,
            },
            // The address has no failures left, so the response does not depend on how the credential ended.
            LookupResult::Unknown | LookupResult::Ended if !is_address_allowed => Err(unknown_credential()),
            LookupResult::Unknown => Err(unknown_credential()),
            LookupResult::Ended => {
                // The semaphore is never closed, and extra permits would do no harm.
                let _permit = self.explanations.acquire().await;
                miss.read_through(authenticator, secret).await
            }
        }
    }

    /// Marks a lookup as in progress, unless it already is and will fill the cache.
    fn begin(&self, authenticator: &Authenticator, hash: SecretHash) -> Option<LookupInFlight> {
        let is_first = self.in_flight.insert(hash.clone());
        if !is_first && authenticator.fills_cache(since_boot()) {
            return None;
        }
        Some(LookupInFlight { hash, set: Arc::clone(&self.in_flight) })
    }
}

/// Whether an error counts as a failed authentication.
pub fn is_failure(code: Code) -> bool {
    matches!(code, Code::MissingCredentials | Code::InvalidToken | Code::TokenExpired | Code::TokenRevoked)
}

impl Collector for LookupLimits {
    fn collect(&self, out: &mut Exposition) {
        out.counter("cloudapi_auth_lookups_total", "Database lookups of credentials that were not cached.")
            .sample(&[("mode", "single")], self.single.load(Ordering::Relaxed))
            .sample(&[("mode", "batched")], self.batched.load(Ordering::Relaxed));
        out.counter("cloudapi_auth_lookup_batches_total", "Statements that looked up a batch.")
            .value(self.batches.count());
    }
}
