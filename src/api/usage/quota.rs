//! Hard limits: the projects that have exhausted their monthly limit, as of the last flush. Also, which projects get a
//! notice that they are near a quota.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use super::{
    ledger::QuotaUsage,
    model::{Notice, QuotaKind},
};
use crate::{
    auth::limits::quota::ExhaustedProjects,
    base::{
        id::ProjectId,
        runtime::{clock::Clock, period::Period},
    },
};

/// Shares of a quota, in percent, at which a project gets a notice.
const NOTICE_PERCENTS: [u8; 2] = [80, 100];

/// Applies quotas after each flush: which projects are refused, and which notices were written.
#[derive(Debug)]
pub struct QuotaEnforcer {
    /// Projects whose keys and tokens are refused.
    pub exhausted: Arc<ExhaustedProjects>,
    /// What is known of the states in the database.
    known: Mutex<KnownStates>,
    /// Notices that were written, so that the database is not queried for them every second.
    recorded: Mutex<HashSet<Notice>>,
}

#[derive(Debug, Default)]
struct KnownStates {
    /// Month for which the states were read, which includes those of the previous month.
    period: Option<Period>,
    version: i64,
    states: HashMap<(ProjectId, Period), QuotaUsage>,
}

impl QuotaEnforcer {
    /// Creates the state in which no project is refused.
    pub fn new(clock: Clock) -> Self {
        Self { exhausted: Arc::new(ExhaustedProjects::new(clock)), known: Mutex::default(), recorded: Mutex::default() }
    }

    /// Version of the states that are known for `period`. None if all states must be read.
    pub fn version(&self, period: Period) -> Option<i64> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        (known.period == Some(period)).then_some(known.version)
    }

    /// Adopts the states for `period` up to `version`: `changed` in addition to those known since the version `after`, or
    /// exactly these. Returns all.
    pub fn adopt(&self, period: Period, version: i64, after: Option<i64>, changed: Vec<QuotaUsage>) -> Vec<QuotaUsage> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if after.is_none() {
            known.states.clear();
        }
        (known.period, known.version) = (Some(period), version);
        known.states.extend(changed.into_iter().map(|usage| ((usage.project_id, usage.period), usage)));
        known.states.values().copied().collect()
    }

    /// Makes the next refresh read all states.
    pub fn forget(&self) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).period = None;
    }

    /// Refuses exactly the projects that have reached their hard limit of `period`.
    pub fn set(&self, usages: &[QuotaUsage], period: Period) {
        let has_reached = |usage: &&QuotaUsage| {
            (usage.period == period || usage.period == QuotaUsage::every_month())
                && usage.hard_limit.is_some_and(|limit| usage.requests >= limit)
        };
        self.exhausted.set(usages.iter().filter(has_reached).map(|usage| usage.project_id).collect());
    }

    /// Returns the notices that are due, with the number of requests, except those that this server knows were written.
    pub fn unrecorded(&self, usages: &[QuotaUsage]) -> Vec<(Notice, i64)> {
        let recorded = self.recorded.lock().unwrap_or_else(PoisonError::into_inner);
        usages.iter().flat_map(notices).filter(|(notice, _)| !recorded.contains(notice)).collect()
    }

    /// Records that the notices were written. Notices that are no longer due are dropped, because the database has
    /// them.
    pub fn set_recorded(&self, usages: &[QuotaUsage]) {
        let near = usages.iter().flat_map(notices).map(|(notice, _)| notice).collect();
        *self.recorded.lock().unwrap_or_else(PoisonError::into_inner) = near;
    }
}

/// Returns the due notices of a project. A quota of 0 has no notices.
fn notices(usage: &QuotaUsage) -> impl Iterator<Item = (Notice, i64)> {
    let QuotaUsage { project_id, period, requests, included, hard_limit } = *usage;
    let quotas = [(QuotaKind::Included, included), (QuotaKind::HardLimit, hard_limit)];
    let bounds = quotas.into_iter().filter_map(|(quota, bound)| Some((quota, bound.filter(|bound| *bound > 0)?)));
    bounds.flat_map(move |(quota, bound)| {
        let is_reached = move |percent: &u8| i128::from(requests) * 100 >= i128::from(bound) * i128::from(*percent);
        let notice = move |percent| (Notice { project_id, period, quota, bound, percent }, requests);
        NOTICE_PERCENTS.into_iter().filter(is_reached).map(notice)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notices_are_due_at_80_and_100_percent_of_each_quota() {
        let period: Period = "2026-03".parse().unwrap();
        let due = |requests, included, hard_limit| -> Vec<_> {
            let project_id = ProjectId::from_u128(1);
            notices(&QuotaUsage { project_id, period, requests, included, hard_limit })
                .map(|(notice, _)| (notice.quota, notice.percent))
                .collect()
        };
        let (included, hard_limit) = (QuotaKind::Included, QuotaKind::HardLimit);
        assert_eq!(due(79, Some(100), None), []);
        assert_eq!(due(80, Some(100), None), [(included, 80)]);
        assert_eq!(due(100, Some(100), Some(124)), [(included, 80), (included, 100), (hard_limit, 80)]);
        assert_eq!(due(8, None, Some(11)), []);
        assert_eq!(due(i64::MAX, Some(0), Some(i64::MAX)), [(hard_limit, 80), (hard_limit, 100)]);
    }
}
