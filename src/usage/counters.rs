//! What this node has counted and not yet written.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use time::Date;

use crate::base::id::ProjectId;

/// Requests by project and UTC day.
pub type Counts = HashMap<(ProjectId, Date), i64>;

/// The counters of one node.
#[derive(Debug, Default)]
pub struct Counters {
    counts: Mutex<Counts>,
}

impl Counters {
    /// Counts one request.
    pub fn count(&self, project: ProjectId, day: Date) {
        *self.lock().entry((project, day)).or_default() += 1;
    }

    /// Takes what has been counted, leaving nothing.
    pub fn take(&self) -> Counts {
        std::mem::take(&mut *self.lock())
    }

    /// Puts back what could not be written.
    pub fn add(&self, counts: Counts) {
        let mut held = self.lock();
        for (key, requests) in counts {
            *held.entry(key).or_default() += requests;
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Counts> {
        // A panic elsewhere leaves the map whole: each change to it is one call.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
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
        let taken = counters.take();
        counters.count(project, day);
        counters.add(taken);
        assert_eq!(counters.take(), HashMap::from([((project, day), 2)]));
        assert!(counters.take().is_empty());
    }
}
