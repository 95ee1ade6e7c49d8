//! Hard limits of projects: which projects have exhausted their monthly limit.

use std::{collections::HashSet, sync::Arc};

use arc_swap::ArcSwap;

use crate::base::{
    error::{Code, Error, Result},
    id::ProjectId,
    runtime::{clock::Clock, period::Period},
};

/// Projects whose keys and tokens are refused. Each node refreshes them from the database once a second.
#[derive(Debug)]
pub struct ExhaustedProjects {
    projects: ArcSwap<HashSet<ProjectId>>,
    clock: Clock,
}

impl ExhaustedProjects {
    /// Creates the state in which no project is refused.
    pub fn new(clock: Clock) -> Self {
        Self { projects: ArcSwap::default(), clock }
    }

    /// Refuses exactly these projects.
    pub fn set(&self, projects: HashSet<ProjectId>) {
        if !(projects.is_empty() && self.projects.load().is_empty()) {
            self.projects.store(Arc::new(projects));
        }
    }

    /// Returns an error if the project has reached its hard limit.
    pub fn require(&self, project: ProjectId) -> Result<()> {
        let projects = self.projects.load();
        if projects.is_empty() || !projects.contains(&project) {
            return Ok(());
        }
        let now = self.clock.now();
        let end = Period::of(now.date()).end();
        let seconds = u32::try_from(now.until(end).as_secs() + 1).unwrap_or(u32::MAX);
        let detail = format!(
            "The project has reached its hard limit of requests for this month; ask the operator to raise it, or wait until {end}. Sessions still work"
        );
        Err(Error::new(Code::QuotaExceeded, detail).retry_after(seconds))
    }
}
