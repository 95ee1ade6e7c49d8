//! Hard limits: the projects that have used up what they may this month, as the last flush has found.

use std::{collections::HashSet, sync::Arc};

use arc_swap::ArcSwap;

use crate::base::{
    clock::Clock,
    error::{Code, Error, Result},
    id::ProjectId,
    period::Period,
};

/// Which projects' keys and tokens are refused. Each node asks the database once a second.
#[derive(Debug)]
pub struct Quota {
    exhausted: ArcSwap<HashSet<ProjectId>>,
    clock: Clock,
}

impl Quota {
    /// Nobody is refused yet.
    pub fn new(clock: Clock) -> Self {
        Self { exhausted: ArcSwap::default(), clock }
    }

    /// From now on these projects are refused, and no others.
    pub fn set(&self, exhausted: HashSet<ProjectId>) {
        if !(exhausted.is_empty() && self.exhausted.load().is_empty()) {
            self.exhausted.store(Arc::new(exhausted));
        }
    }

    /// Refuses a project that has used up what it may.
    pub fn require(&self, project: ProjectId) -> Result<()> {
        let exhausted = self.exhausted.load();
        if exhausted.is_empty() || !exhausted.contains(&project) {
            return Ok(());
        }
        let now = self.clock.now();
        let end = Period::of(now.date()).end();
        let seconds = u32::try_from(now.until(end).as_secs() + 1).unwrap_or(u32::MAX);
        let detail = format!(
            "The project has made all the requests that it may this month; ask the operator for more, or wait until {end}. A session still works"
        );
        Err(Error::new(Code::QuotaExceeded, detail).retry_after(seconds))
    }
}
