//! What this node has counted and not yet written.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use time::Date;

use crate::base::{
    caller::Caller,
    clock::Timestamp,
    id::{KeyId, ProjectId, SessionId, TokenId},
};

/// Requests by project and UTC day.
pub type Counts = HashMap<(ProjectId, Date), i64>;
/// When credentials were last used, to the minute.
pub type Uses = HashMap<Credential, Timestamp>;

/// A credential whose last use is noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Credential {
    /// A key.
    Key(KeyId),
    /// A token.
    Token(TokenId),
    /// A session; how long it lasts depends on it.
    Session(SessionId),
}

impl Credential {
    /// The credential of a caller.
    pub fn of(caller: &Caller) -> Self {
        match caller {
            Caller::Session { id, .. } => Self::Session(*id),
            Caller::Key { id, .. } => Self::Key(*id),
            Caller::Token { id, .. } => Self::Token(*id),
        }
    }
}

/// The counters of one node.
#[derive(Debug, Default)]
pub struct Counters {
    held: Mutex<Held>,
    /// One at a time writes: whoever has waited for it finds all written that was counted before.
    pub(super) writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Held {
    counts: Counts,
    /// Last uses that the database does not know yet.
    uses: Uses,
    /// Last uses that it knows, of the current minute: a busy credential is written once a minute.
    known: Uses,
}

impl Counters {
    /// Counts one request.
    pub fn count(&self, project: ProjectId, day: Date) {
        *self.lock().counts.entry((project, day)).or_default() += 1;
    }

    /// Notes that a credential was used.
    pub fn used(&self, credential: Credential, now: Timestamp) {
        let minute = now.minute();
        let mut held = self.lock();
        if held.known.get(&credential) != Some(&minute) {
            held.uses.insert(credential, minute);
        }
    }

    /// Takes what has been counted and noted.
    pub fn take(&self) -> (Counts, Uses) {
        let mut held = self.lock();
        (std::mem::take(&mut held.counts), std::mem::take(&mut held.uses))
    }

    /// Puts back what could not be written.
    pub fn put_back(&self, counts: Counts, uses: Uses) {
        let mut held = self.lock();
        for (key, requests) in counts {
            *held.counts.entry(key).or_default() += requests;
        }
        for (credential, minute) in uses {
            held.uses.entry(credential).or_insert(minute);
        }
    }

    /// Remembers what was written, and forgets what no request of this minute asks about.
    pub fn written(&self, uses: Uses, now: Timestamp) {
        let minute = now.minute();
        let mut held = self.lock();
        held.known.retain(|_, known| *known == minute);
        held.known.extend(uses);
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        // A panic elsewhere leaves the maps whole: each change to them is one call.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_and_put_back_is_neither_lost_nor_doubled() {
        let counters = Counters::default();
        let (project, day) = (ProjectId::from_u128(1), Date::MIN);
        counters.count(project, day);
        let (counts, uses) = counters.take();
        counters.count(project, day);
        counters.put_back(counts, uses);
        assert_eq!(counters.take().0, HashMap::from([((project, day), 2)]));
        assert!(counters.take().0.is_empty());
    }

    #[test]
    fn a_busy_credential_is_written_once_a_minute() {
        let counters = Counters::default();
        let credential = Credential::Key(KeyId::from_u128(1));
        let at = |text: &str| Timestamp::parse(text).unwrap();
        counters.used(credential, at("2026-03-01T00:00:01Z"));
        let (_, uses) = counters.take();
        assert_eq!(uses, HashMap::from([(credential, at("2026-03-01T00:00:00Z"))]));
        counters.written(uses, at("2026-03-01T00:00:02Z"));
        counters.used(credential, at("2026-03-01T00:00:59Z"));
        assert!(counters.take().1.is_empty());
        counters.used(credential, at("2026-03-01T00:01:00Z"));
        assert_eq!(counters.take().1, HashMap::from([(credential, at("2026-03-01T00:01:00Z"))]));
    }
}
