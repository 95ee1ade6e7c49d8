//! Responses in progress, such as event streams, whose permission can end. An invalidation notifies those that it
//! affects and no others: a server can have thousands of streams, and an invalidation rarely affects more than one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::{
    cache::{AuthenticatedCredential, Entry},
    lease::LeaseGuard,
};
use crate::base::runtime::clock::Timestamp;

/// Cache entries that prove a permission as long as they are valid.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Entry of the credential.
    pub credential: Arc<Entry<AuthenticatedCredential>>,
    /// Entry of the membership, if the permission depends on one.
    pub membership: Option<Arc<Entry<()>>>,
}

impl Evidence {
    /// Whether nothing that the permission depends on was invalidated. Requires a fresh guard.
    pub fn is_valid(&self, guard: &LeaseGuard) -> bool {
        self.credential.is_valid(guard) && self.membership.as_ref().is_none_or(|entry| entry.is_valid(guard))
    }

    /// Whether the credential has not expired at `now`.
    pub fn is_unexpired(&self, now: Timestamp) -> bool {
        self.credential.value.valid_until.is_none_or(|end| now < end)
    }
}

/// The watches of a node.
#[derive(Debug, Default)]
pub struct Watches(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    next: u64,
    all: HashMap<u64, Arc<Watched>>,
}

/// Permission of one response.
#[derive(Debug, Default)]
struct Watched {
    evidence: Mutex<Option<Evidence>>,
    ended: Notify,
}

impl Watched {
    fn evidence(&self) -> MutexGuard<'_, Option<Evidence>> {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watches {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a response that has no evidence yet.
    pub fn register(self: &Arc<Self>) -> Watch {
        let watched = Arc::<Watched>::default();
        let mut state = self.state();
        let id = state.next;
        state.next += 1;
        state.all.insert(id, Arc::clone(&watched));
        Watch { watches: Arc::clone(self), id, watched }
    }

    /// Notifies the responses whose evidence is missing or not valid.
    pub fn notify_unless(&self, is_valid: impl Fn(&Evidence) -> bool) {
        for watched in self.state().all.values() {
            // Evidence that is set later was checked later.
            if !watched.evidence().as_ref().is_some_and(&is_valid) {
                watched.ended.notify_one();
            }
        }
    }
}

/// Registration of one response, until it is dropped.
#[derive(Debug)]
pub struct Watch {
    watches: Arc<Watches>,
    id: u64,
    watched: Arc<Watched>,
}

impl Watch {
    /// Replaces the evidence.
    pub fn set(&self, evidence: Option<Evidence>) {
        *self.watched.evidence() = evidence;
    }

    /// Whether there is evidence, and `is_valid` accepts it.
    pub fn has_evidence(&self, is_valid: impl Fn(&Evidence) -> bool) -> bool {
        self.watched.evidence().as_ref().is_some_and(is_valid)
    }

    /// Completes when the evidence may have become invalid since the last call.
    pub async fn notified(&self) {
        self.watched.ended.notified().await;
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.watches.state().all.remove(&self.id);
    }
}
